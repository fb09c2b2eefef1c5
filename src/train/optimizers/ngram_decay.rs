//! Decay of the n-gram table, by a constant rate in each pass over the training text.
//!
//! What AdamW's weight decay does depends on the learning rate and on the number of steps. For rows that a text touches a few
//! times, what matters is how often it was read: a decay of λ in each pass makes a vector about the mean of the updates of the
//! last 1 / λ passes (Wang and Aitchison 2024, "How to set AdamW's weight decay as you scale model and dataset size"). So
//! n-grams that occur once are forgotten between their occurrences instead of being learned by heart.

use crate::config::TrainConfig;

/// Steps between two decays: each reads and writes the whole table.
pub const EVERY: u64 = 32;

/// The factor of the table after the step that makes them `steps`: `exp(-ngram_decay · n / training_tokens)`, n the tokens of
/// the last [`EVERY`] steps. None after the steps between two decays, and without decay.
pub fn factor(config: &TrainConfig, training_tokens: usize, steps: u64) -> Option<f32> {
    if config.ngram_decay == 0.0 || !steps.is_multiple_of(EVERY) {
        return None;
    }
    let passes = EVERY as f64 * config.tokens_per_step() as f64 / training_tokens as f64;
    Some((-f64::from(config.ngram_decay) * passes).exp() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Architecture, Device, Preset};

    /// 64 steps of 768 tokens are one pass over 49,152.
    #[test]
    fn a_row_that_is_not_touched_decays_by_the_rate_in_a_pass() {
        let config = TrainConfig {
            ngram_decay: 0.7,
            ..Preset::Nano
                .train_config(Device::Cpu)
                .with_architecture(Architecture::Modern)
        };
        let factors: Vec<f32> = (1..=64).filter_map(|steps| factor(&config, 64 * 768, steps)).collect();
        assert_eq!(factors.len(), 2);
        let row: f32 = factors.iter().product();
        assert!((row - (-0.7f32).exp()).abs() < 1e-6, "{row}");
        let none = TrainConfig {
            ngram_decay: 0.0,
            ..config
        };
        assert_eq!(factor(&none, 64 * 768, EVERY), None);
    }
}
