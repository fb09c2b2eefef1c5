//! Text to token ids and back. No MLX here.

mod char;

pub use char::CharTokenizer;
