//! The rate of generation.

use std::collections::HashSet;
use std::fmt::{Display, Formatter, Result};
use std::time::Instant;

/// Measures tokens a second and the time to the first token, from before the prompt is computed.
pub struct TokenRate {
    started: Instant,
    first: Option<Instant>,
    last: Instant,
    tokens: usize,
    /// Samples that have a token: the first one of each comes from the prompt's computation, and doesn't count in the rate.
    begun: HashSet<u64>,
}

impl TokenRate {
    /// Starts the clock.
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

    /// Counts a token of a sample.
    pub fn token(&mut self, sample: u64) {
        self.last = Instant::now();
        self.first.get_or_insert(self.last);
        self.tokens += 1;
        self.begun.insert(sample);
    }
}

impl Display for TokenRate {
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
