//! `mlx-gpt studio`.

use std::env;
use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::Result;
use clap::Args;

use super::serve::{ListenOptions, serve};
use crate::terminal::console::say;

/// Programs that open an address, on one system or another.
const OPENERS: [&str; 2] = ["xdg-open", "open"];

/// Look at runs and into models in the browser
///
/// Pages: runs as they train, and new ones; a playground, where each token shows what else it could have been; the inside of a
/// model, its attention and what each layer would say; tokens of several tokenizers; the course. They come from this program and
/// fetch nothing from elsewhere. The endpoints of `serve` are there too. Ctrl-C ends it; trainings that it started go on.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt studio                              on a free port, in the browser
    mlx-gpt studio --checkpoint models/gpt2     that model first
    mlx-gpt studio --no-open --port 8080        print the address, open nothing")]
pub struct Options {
    #[command(flatten)]
    listening: ListenOptions,
    /// Don't open the browser
    #[arg(long)]
    no_open: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let server = options.listening.bind()?.with_pages();
    say("runs, playground, inside, tokens and course, in the browser; Ctrl-C ends it");
    serve(server, |url| {
        if !options.no_open {
            open(url.to_owned());
        }
    })
}

/// Opens an address by the browser of the variable BROWSER, or by the system's opener. Without one, the printed address is there.
fn open(url: String) {
    thread::spawn(move || {
        let own = env::var_os("BROWSER").filter(|browser| !browser.is_empty());
        for opener in own.into_iter().chain(OPENERS.map(OsString::from)) {
            let mut command = Command::new(opener);
            command
                .arg(&url)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if command.status().is_ok_and(|status| status.success()) {
                return;
            }
        }
    });
}
