//! A command as one rank of several: joining the others, and ending with them.

use std::process::ExitCode;
use std::rc::Rc;

use anyhow::Result;
use signal_hook::low_level::exit;

use super::hosts;
use crate::compute::ranks::{Backend, Ranks};
use crate::error::line;
use crate::terminal::console::say_over_bar;

/// Joins the other ranks, if this process was started as one of several.
///
/// # Errors
/// As [`Ranks::join`].
pub fn join(asked: Backend) -> Result<Option<Rc<Ranks>>> {
    hosts::heed_launcher()?;
    Ok(Ranks::join(asked, on_lost)?.map(Rc::new))
}

/// Takes leave of the others with this rank's result, or ends them by its error.
///
/// # Errors
/// That one, with the rank, unless rank 0 says it beside this one.
pub fn finish(ranks: &Ranks, result: Result<ExitCode>) -> Result<ExitCode> {
    match &result {
        Ok(_) => ranks.leave(),
        Err(error) => ranks.fail(&line(error)),
    }
    match result {
        Err(_) if !ranks.is_first() && is_launched() => Ok(ExitCode::FAILURE),
        Err(error) if !ranks.is_first() => Err(error.context(format!("rank {}", ranks.rank()))),
        result => result,
    }
}

/// Whether another process's `--hosts` has started this one, whose messages are beside those of rank 0.
fn is_launched() -> bool {
    std::env::var_os(hosts::LAUNCHED).is_some()
}

/// Ends the process when another rank is lost; the main thread may be blocked in MLX for ever.
fn on_lost(why: &str, said_by_first: bool) {
    if !(said_by_first && is_launched()) {
        say_over_bar(format_args!("error: {why}"));
    }
    exit(1);
}
