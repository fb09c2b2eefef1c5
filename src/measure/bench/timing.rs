//! Repeated timing.

use std::time::{Duration, Instant};

/// Without a number of rounds, as many as fit into this time, within the two limits.
const BUDGET: Duration = Duration::from_secs(10);
const MIN_ROUNDS: usize = 5;
const MAX_ROUNDS: usize = 100;

/// Number of timed rounds.
#[derive(Clone, Copy, Debug)]
pub enum Rounds {
    /// This many.
    Exactly(usize),
    /// For about ten seconds.
    TimeBudget,
}

impl Rounds {
    /// The results of each round of `work`.
    ///
    /// # Errors
    /// The first error; timing stops there.
    pub fn repeat<T, E>(self, mut work: impl FnMut() -> Result<T, E>) -> Result<Vec<T>, E> {
        let started = Instant::now();
        let mut results = Vec::new();
        while match self {
            Self::Exactly(rounds) => results.len() < rounds,
            Self::TimeBudget => {
                results.len() < MIN_ROUNDS || (results.len() < MAX_ROUNDS && started.elapsed() < BUDGET)
            }
        } {
            results.push(work()?);
        }
        Ok(results)
    }
}

/// The median; of an even number, the longer of the two in the middle.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A duration in milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_as_many_as_asked_for_and_end_at_an_error() {
        let mut calls = 0;
        let mut count = |rounds: Rounds, error_at| {
            calls = 0;
            let result = rounds.repeat(|| {
                calls += 1;
                if calls == error_at { Err(calls) } else { Ok(calls) }
            });
            (result, calls)
        };
        assert_eq!(count(Rounds::Exactly(3), 9), (Ok(vec![1, 2, 3]), 3));
        assert_eq!(count(Rounds::Exactly(3), 2), (Err(2), 2));
        assert_eq!(
            count(Rounds::TimeBudget, 0).1,
            MAX_ROUNDS,
            "instant work reaches the most rounds"
        );
    }

    #[test]
    fn medians() {
        let of = |times: &[u64]| median(times.iter().copied().map(Duration::from_millis).collect());
        assert_eq!(of(&[5, 1, 3]), Duration::from_millis(3));
        assert_eq!(of(&[4, 1, 3, 2]), Duration::from_millis(3));
        assert_eq!(milliseconds(of(&[7])), 7.0);
        assert_eq!(of(&[]), Duration::ZERO);
    }
}
