//! Calls into Hugging Face's `tokenizers`, which panics on some files and some texts. Here these panics become errors.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

use anyhow::{Result, anyhow};

thread_local! {
    /// A call is under way on this thread.
    static CALLING: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread would become an error, so that a program's panic hook can stay silent.
///
/// ```
/// let before = std::panic::take_hook();
/// std::panic::set_hook(Box::new(move |panic| {
///     if !mlx_gpt::tokenizer::panic_is_caught() {
///         before(panic);
///     }
/// }));
/// ```
pub fn panic_is_caught() -> bool {
    CALLING.get()
}

/// Runs `call` and turns a panic into an error.
///
/// # Errors
/// Those of `call`, or its panic.
pub fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    CALLING.set(true);
    // Unwind safety: what encodes or decodes is a shared reference, behind which the library changes nothing but caches of
    // encoded words. They are filled by single insertions, and a lock that a panic poisons is one that it does not use any more.
    // What is being built or trained is dropped after a panic.
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    CALLING.set(false);
    match result {
        Ok(result) => result.map_err(|error| anyhow!("{error}")),
        Err(payload) => {
            let message = payload.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| payload.downcast_ref::<&str>().copied());
            Err(anyhow!("the tokenizers library failed: {}", message.unwrap_or("panic")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        let error = guarded(|| -> tokenizers::Result<()> { panic!("at {}", 7) }).unwrap_err();
        assert_eq!(error.to_string(), "the tokenizers library failed: at 7");
        assert_eq!(guarded(|| Ok(3)).unwrap(), 3);
    }
}
