//! The eight models of the GPT-3 paper (Brown et al. 2020, table 2.1) with their training recipe (appendix B).
//!
//! Every layer attends to all tokens before it; half of the paper's layers attend in bands.

use super::TrainConfig;

/// A row of the paper's table.
#[derive(Clone, Copy, Debug)]
pub struct Gpt3 {
    /// Transformer blocks.
    pub layers: usize,
    /// Width.
    pub embd: usize,
    /// Attention heads.
    pub heads: usize,
    /// Tokens of a step.
    batch_tokens: f64,
    /// Highest learning rate.
    lr: f32,
}

/// Tokens of a row.
pub const CONTEXT: usize = 2048;

/// Tokens of the whole training, of its warm-up, and until the rate is a tenth of the highest.
const TOKENS: f64 = 300e9;
const WARMUP_TOKENS: f64 = 375e6;
const DECAY_TOKENS: f64 = 260e9;

/// Rows of a micro-batch; the others of a step come from accumulation.
const ROWS: usize = 4;

const fn row(layers: usize, embd: usize, heads: usize, batch_tokens: f64, lr: f32) -> Gpt3 {
    Gpt3 {
        layers,
        embd,
        heads,
        batch_tokens,
        lr,
    }
}

pub const SMALL: Gpt3 = row(12, 768, 12, 0.5e6, 6e-4);
pub const MEDIUM: Gpt3 = row(24, 1024, 16, 0.5e6, 3e-4);
pub const LARGE: Gpt3 = row(24, 1536, 16, 0.5e6, 2.5e-4);
/// The table has 24 heads of 128, which are no 2048 channels: 16 are.
pub const XL: Gpt3 = row(24, 2048, 16, 1e6, 2e-4);
pub const B2_7: Gpt3 = row(32, 2560, 32, 1e6, 1.6e-4);
pub const B6_7: Gpt3 = row(32, 4096, 32, 2e6, 1.2e-4);
/// The table has a width of 5140, which its 40 heads of 128 are not: 5120 is.
pub const B13: Gpt3 = row(40, 5120, 40, 2e6, 1e-4);
pub const B175: Gpt3 = row(96, 12288, 96, 3.2e6, 0.6e-4);

impl Gpt3 {
    /// Sets the recipe: batch, steps and rates.
    pub fn set_recipe(self, config: &mut TrainConfig) {
        let steps = |tokens: f64| (tokens / self.batch_tokens).round() as u64;
        config.batch_size = ROWS;
        config.grad_accum = (self.batch_tokens / (ROWS * CONTEXT) as f64).round() as usize;
        (config.steps, config.warmup) = (steps(TOKENS), steps(WARMUP_TOKENS));
        config.schedule_steps = Some(steps(DECAY_TOKENS));
        (config.lr, config.min_lr) = (self.lr, self.lr / 10.0);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Device, Preset};

    #[test]
    fn a_step_has_the_tokens_of_the_table() {
        for (preset, tokens, steps) in [
            (Preset::Gpt3Small, 0.5e6, 600_000),
            (Preset::Gpt3Xl, 1e6, 300_000),
            (Preset::Gpt3B13, 2e6, 150_000),
            (Preset::Gpt3B175, 3.2e6, 93_750),
        ] {
            let config = preset.train_config(Device::Cpu);
            config.validate().unwrap();
            assert!(
                (config.tokens_per_step() as f64 / tokens - 1.0).abs() < 0.002,
                "{preset:?}"
            );
            assert_eq!(config.steps, steps);
            assert!(config.warmup < config.schedule_steps() && config.schedule_steps() < steps);
        }
    }
}
