//! How fast tokens come.

use std::collections::HashSet;
use std::fmt::{Display, Formatter, Result};
use std::time::Instant;

/// A clock that runs from before the prompt is computed.
pub struct Speed {
    started: Instant,
    first: Option<Instant>,
    last: Instant,
    tokens: usize,
    /// Samples that have a token: a first one comes from the prompt's computation.
    begun: HashSet<u64>,
}

impl Speed {
    pub fn start() -> Self {
        let started = Instant::now();
        Self {
            started,
            first: None,
            last: started,
            tokens: 0,
            begun: HashSet::new(),
        }
    }

    /// A token of a sample came.
    pub fn token(&mut self, sample: u64) {
        self.last = Instant::now();
        self.first.get_or_insert(self.last);
        self.tokens += 1;
        self.begun.insert(sample);
    }
}

impl Display for Speed {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} token{}", self.tokens, if self.tokens == 1 { "" } else { "s" })?;
        let Some(first) = self.first else { return Ok(()) };
        let later = self.tokens - self.begun.len();
        if later > 0 {
            let rate = later as f64 / (self.last - first).as_secs_f64();
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
