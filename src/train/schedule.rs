//! The learning rate over a run.

use crate::config::TrainConfig;

// ANCHOR: schedule
/// The learning rate of `step` (from 0): linear warm-up, then a cosine from `lr` down to `min_lr`,
/// which the step after the last would reach
/// (Loshchilov and Hutter 2017, without restarts).
pub fn learning_rate(config: &TrainConfig, step: u64) -> f32 {
    let (lr, min_lr) = (f64::from(config.lr), f64::from(config.min_lr));
    if step < config.warmup {
        return (lr * (step + 1) as f64 / (config.warmup + 1) as f64) as f32;
    }
    let decay_steps = config.steps.saturating_sub(config.warmup).max(1);
    let progress = ((step - config.warmup) as f64 / decay_steps as f64).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
    (min_lr + cosine * (lr - min_lr)) as f32
}
// ANCHOR_END: schedule

/// Muon's learning rate of `step`: it goes the way of the other.
pub fn muon_learning_rate(config: &TrainConfig, step: u64) -> f32 {
    config.muon_lr * learning_rate(config, step) / config.lr
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Preset;
    use crate::device::Compute;

    #[test]
    fn rises_then_falls() {
        let config = Preset::Nano.train(Compute::Cpu);
        let close = |step, expected: f32| {
            let lr = learning_rate(&config, step);
            assert!((lr - expected).abs() < 1e-9, "step {step}: {lr}");
        };
        close(0, 1e-3 / 101.0);
        close(99, 1e-3 * 100.0 / 101.0);
        close(100, 1e-3);
        close(1050, 5.5e-4);
        close(2000, 1e-4);
        close(9999, 1e-4);
    }
}
