//! The loss to expect of a training: a law fitted to this project's own runs, `sweeps/law.csv`, by `scripts/fit_law.py`.
//!
//! Hoffmann et al. 2022 ("Training compute-optimal large language models", equation 2) with repeated tokens as in Muennighoff et
//! al. 2023 ("Scaling data-constrained language models", equation 5), and a term for the context:
//!
//! ```text
//! L = s (E + A N^-α + B D'^-β + C / T)        D' = U + U R (1 - exp(-(D / U - 1) / R))  where D > U, else D
//! ```
//!
//! N: millions of parameters of the blocks; D: millions of tokens trained on; U: of those in the text; T: context. The scale s is
//! that of a text, known from the loss of a short training ([`PILOT_STEPS`] steps of the smallest model).

/// Steps of the training that measures a text's scale.
pub const PILOT_STEPS: u64 = 150;

/// Fitted constants.
pub const E: f64 = 1.077;
/// See [`E`].
pub const A: f64 = 0.0567;
/// See [`E`].
pub const ALPHA: f64 = 0.2014;
/// See [`E`].
pub const B: f64 = 0.4196;
/// See [`E`].
pub const BETA: f64 = 0.2381;
/// See [`E`].
pub const C: f64 = 1.332;
/// See [`E`]: passes over a text after which more of them are worth little.
pub const R: f64 = 0.4398;
/// Two thirds of the fitted runs are nearer than this, in nats; the band has twice that on either side.
pub const DEVIATION: f64 = 0.0311;

/// A training, as far as the law knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Layers and width.
    pub shape: [usize; 2],
    /// Tokens that it is trained on, repeated ones included.
    pub seen: f64,
    /// Tokens of the training text.
    pub distinct: f64,
    /// Context length.
    pub context: usize,
}

impl Training {
    /// Parameters of the blocks' matrices.
    pub fn parameters(&self) -> f64 {
        let [layers, embd] = self.shape;
        (12 * layers * embd * embd) as f64
    }

    /// Its loss on a text of scale 1, in nats.
    pub fn loss(&self) -> f64 {
        let (n, t) = (self.parameters() / 1e6, self.context as f64);
        E + A * n.powf(-ALPHA) + B * (self.effective() / 1e6).powf(-BETA) + C / t
    }

    /// D': tokens of a text without repetition that are worth as much.
    fn effective(&self) -> f64 {
        let repeated = (self.seen / self.distinct - 1.0).max(0.0);
        self.seen.min(self.distinct) + self.distinct * R * (1.0 - (-repeated / R).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_tokens_are_worth_less_and_less() {
        let effective = |seen| {
            let training = Training {
                shape: [4, 128],
                seen,
                distinct: 1e6,
                context: 64,
            };
            training.effective()
        };
        assert_eq!((effective(5e5), effective(1e6)), (5e5, 1e6));
        let passes: Vec<f64> = (1..8).map(|pass| effective(f64::from(pass) * 1e6)).collect();
        assert!(
            passes
                .windows(2)
                .all(|pair| pair[1] > pair[0] && pair[1] - pair[0] < 1e6)
        );
        assert!(passes[6] < 1e6 * (1.0 + R));
    }
}
