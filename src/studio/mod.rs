//! The server: completions for other programs (`mlx-gpt serve`), and pages that show runs and models (`mlx-gpt studio`).
//!
//! | file | contents |
//! |---|---|
//! | `catalog.rs` | the models by name |
//! | `engine/` | the one thread that uses MLX, with a queue |
//! | `http/` | who may ask, bodies, answers |
//! | `openai/` | the endpoints of OpenAI's interface |
//! | `api/` | what the pages ask for |
//! | `pages.rs`, `pages/` | the pages |
//! | `server.rs` | routes; listening |
//!
//! ```
//! use mlx_gpt::studio::catalog::Catalog;
//!
//! // The models that a request may name: of runs/, lessons/ and models/.
//! for model in (Catalog { first: None }).list() {
//!     println!("{}", model.id);
//! }
//! ```

mod api;
pub mod catalog;
pub mod engine;
mod http;
mod openai;
mod pages;
pub mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind};
use crate::tokenizer::Tokenizer;
use catalog::Catalog;
use engine::{Busy, Engine, Event, Request};
use http::access::Access;
use http::answer::Failure;

/// What all requests share.
struct Studio {
    catalog: Catalog,
    engine: Engine,
    access: Access,
}

impl Studio {
    /// Name and folder of the model with that name, or of the first.
    fn find_model(&self, id: Option<&str>) -> Result<(String, PathBuf), Failure> {
        let folder = self.catalog.find(id);
        let folder = folder.ok_or_else(|| Failure::no_model(id.unwrap_or_default()))?;
        Ok((folder.to_string_lossy().into_owned(), folder))
    }

    /// The tokenizer of a model, which this loads.
    async fn tokenizer(&self, folder: &Path) -> Result<Arc<Tokenizer>, Failure> {
        let tokenizer = |loaded: &engine::Loaded| Ok(Arc::new(loaded.checkpoint.tokenizer.clone()));
        self.look(folder, tokenizer).await
    }

    /// Calls `look` with a model in the thread that uses MLX.
    async fn look<T: Send + 'static>(
        &self,
        folder: &Path,
        look: impl FnOnce(&engine::Loaded) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let result = self.engine.look(folder.to_owned(), look).await;
        result.map_err(|error| Error::new(ErrorKind::Checkpoint, error).into())
    }

    fn generate(&self, folder: &Path, requests: Vec<Request>) -> Result<mpsc::Receiver<Event>, Busy> {
        self.engine.generate(folder, requests)
    }
}
