//! Conversations as text and tokens: messages, and the template that writes them as one text.
//!
//! | file | contents |
//! |---|---|
//! | `message.rs` | who says what |
//! | `template.rs` | the template of a model, as `transformers` keeps it; messages to token ids |
//! | `fit.rs` | a prompt of the newest messages, which a context has room for |

mod fit;
mod message;
mod template;

pub use fit::{ChatPrompt, fit};
pub use message::{Message, Role};
pub use template::{CHAT_TOKENS, ChatTemplate, ChatTokens, END_OF_TURN};
