//! How fast tokens come.

use std::fmt::{Display, Formatter, Result};
use std::time::Instant;

/// A clock that runs from before the prompt is computed.
pub struct Speed {
    started: Instant,
    first: Option<Instant>,
    last: Instant,
    tokens: usize,
    /// Tokens that were not the first of their sample: a first one comes from the prompt's computation.
    later: usize,
}

impl Speed {
    pub fn start() -> Self {
        let started = Instant::now();
        Self {
            started,
            first: None,
            last: started,
            tokens: 0,
            later: 0,
        }
    }

    /// A token came, the `place`th of its sample, from 0.
    pub fn token(&mut self, place: usize) {
        self.last = Instant::now();
        self.first.get_or_insert(self.last);
        self.tokens += 1;
        self.later += usize::from(place > 0);
    }
}

impl Display for Speed {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} token{}", self.tokens, if self.tokens == 1 { "" } else { "s" })?;
        let Some(first) = self.first else { return Ok(()) };
        if self.later > 0 {
            let rate = self.later as f64 / (self.last - first).as_secs_f64();
            let digits = usize::from(rate < 100.0);
            write!(f, ", {rate:.digits$} a second")?;
        }
        write!(
            f,
            ", the first after {:.1} ms",
            1e3 * (first - self.started).as_secs_f64()
        )
    }
}
