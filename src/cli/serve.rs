//! `mlx-gpt serve`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::signals::Signals;
use crate::checkpoint::runs::{self, RUNS, find_checkpoint};
use crate::config::Device;
use crate::studio::server::{Server, ServerOptions};
use crate::terminal::console::{self, say};

/// Serve completions to other programs, as OpenAI's interface has them
///
/// Endpoints: /v1/models, /v1/completions, /v1/chat/completions. Any client of OpenAI's takes the printed address, followed
/// by v1, as its base address. Runs, lessons and imported models are served by their folders' names, each loaded when it is
/// asked for; the first of /v1/models is the one of --checkpoint. Requests that come together share the model token by token. Ctrl-C ends it.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt serve                                    the newest run first, on a free port
    mlx-gpt serve --checkpoint models/gpt2 --port 8080
    curl http://127.0.0.1:8080/v1/completions -d '{\"prompt\": \"ROMEO:\", \"max_tokens\": 50}'")]
pub struct Options {
    #[command(flatten)]
    listening: ListenOptions,
}

/// Options of both servers.
#[derive(Args)]
pub struct ListenOptions {
    /// The model that is listed first: a run, or any checkpoint [default: the newest run below runs/]
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 0)]
    port: u16,
    /// Address to listen on; one that other machines reach makes the token of the printed address necessary
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    // Without a model there is nothing to serve.
    if options.listening.checkpoint.is_none() {
        runs::newest(Path::new(RUNS))?.newest_checkpoint()?;
    }
    let server = options.listening.bind()?;
    say("completions for programs; Ctrl-C ends it");
    serve(server, |_| ())
}

impl ListenOptions {
    /// Listens.
    ///
    /// # Errors
    /// A checkpoint that is not there, a device that is not, or a port that is taken.
    pub fn bind(&self) -> Result<Server> {
        let device = Device::select_or_current(self.device)?;
        if let Some(folder) = &self.checkpoint {
            find_checkpoint(Some(folder))
                .and_then(|folder| crate::checkpoint::Checkpoint::load_model_config(&folder))?;
        }
        Server::bind(ServerOptions {
            host: self.host.clone(),
            port: self.port,
            first: self.checkpoint.clone(),
            device,
        })
    }
}

/// Prints the address, and answers until a signal ends the process.
pub fn serve(server: Server, ready: impl FnOnce(&str)) -> Result<ExitCode> {
    // Nothing is unsaved, so that a signal ends it at once, with its exit code.
    let _signals = Signals::register()?;
    console::print(format_args!("{}\n", server.url()))?;
    ready(server.url());
    server.run()?;
    Ok(ExitCode::SUCCESS)
}
