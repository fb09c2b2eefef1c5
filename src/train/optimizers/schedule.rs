//! The learning rate over a run.

use std::f64::consts::PI;

use crate::config::{Schedule, TrainConfig};

/// The learning rate of `step` (from 0): linear warm-up to `lr`, then decay by the schedule to `min_lr`, which is reached one
/// step after the schedule's last and kept from there on.
pub fn learning_rate(config: &TrainConfig, step: u64) -> f32 {
    learning_rate_at(config, step as f64)
}

/// The learning rate at a position of the schedule, in steps: between two steps where a run takes another number of them.
pub fn learning_rate_at(config: &TrainConfig, position: f64) -> f32 {
    scheduled(config, position, config.lr.into(), config.min_lr.into()) as f32
}

/// Muon's learning rate at a position, proportional to [`learning_rate_at`].
pub fn muon_learning_rate_at(config: &TrainConfig, position: f64) -> f32 {
    (f64::from(config.muon_lr) * lr_factor(config, position)) as f32
}

/// The learning rate as a fraction of `lr`, for optimizers with a learning rate of their own.
fn lr_factor(config: &TrainConfig, position: f64) -> f64 {
    let (lr, min_lr) = (f64::from(config.lr), f64::from(config.min_lr));
    scheduled(config, position, 1.0, if lr > 0.0 { min_lr / lr } else { 0.0 })
}

/// Linear warm-up to `max`, then decay to `min`.
fn scheduled(config: &TrainConfig, position: f64, max: f64, min: f64) -> f64 {
    if position < config.warmup as f64 {
        return max * (position + 1.0) / (config.warmup + 1) as f64;
    }
    min + remaining_decay(config, position) * (max - min)
}

/// Remaining fraction of the decay: 1 after warm-up, 0 at the schedule's end.
fn remaining_decay(config: &TrainConfig, position: f64) -> f64 {
    let steps = config.schedule_steps();
    let after_warmup = steps.saturating_sub(config.warmup);
    let decay_steps = match config.schedule {
        Schedule::Cosine | Schedule::Linear => after_warmup,
        Schedule::Wsd => after_warmup.min((f64::from(config.decay_share) * steps as f64).round() as u64),
    };
    let decay_start = steps.max(config.warmup) - decay_steps;
    let progress = ((position - decay_start as f64).max(0.0) / decay_steps.max(1) as f64).min(1.0);
    match config.schedule {
        Schedule::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
        Schedule::Wsd | Schedule::Linear => 1.0 - progress,
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::config::Device;
    use crate::config::Preset;

    /// 2000 steps at 1e-3 down to 1e-4 after 100 steps of warm-up, checked at (step, rate).
    fn check(schedule: Schedule, decay_share: f32, expected: &[(u64, f64)]) {
        let config = TrainConfig {
            schedule,
            decay_share,
            ..Preset::Nano.train_config(Device::Cpu)
        };
        for &(step, expected) in expected {
            let lr = f64::from(learning_rate(&config, step));
            assert!((lr - expected).abs() < 1e-9, "{schedule:?}, step {step}: {lr}");
            let factor = lr_factor(&config, step as f64);
            // Half a unit in the last place of a float32.
            assert!(
                (1e-3 * factor / expected - 1.0).abs() < 1e-7,
                "{schedule:?}, step {step}: {factor}"
            );
        }
    }

    const WARMUP: [(u64, f64); 3] = [(0, 1e-3 / 101.0), (99, 1e-3 * 100.0 / 101.0), (100, 1e-3)];

    #[test]
    fn cosine_rises_then_falls() {
        check(Schedule::Cosine, 0.4, &WARMUP);
        // A quarter of the way down: 1e-4 + 9e-4 (1 + cos 45°) / 2.
        let quarter = 1e-4 + 4.5e-4 * (1.0 + 0.5_f64.sqrt());
        check(
            Schedule::Cosine,
            0.4,
            &[(575, quarter), (1050, 5.5e-4), (2000, 1e-4), (9999, 1e-4)],
        );
    }

    #[test]
    fn linear_falls_by_the_same_at_every_step() {
        check(Schedule::Linear, 0.4, &WARMUP);
        check(
            Schedule::Linear,
            0.4,
            &[
                (575, 7.75e-4),
                (1050, 5.5e-4),
                (1525, 3.25e-4),
                (2000, 1e-4),
                (9999, 1e-4),
            ],
        );
    }

    #[test]
    fn wsd_is_stable_until_its_decay() {
        check(Schedule::Wsd, 0.4, &WARMUP);
        // The last 800 of 2000 steps.
        check(
            Schedule::Wsd,
            0.4,
            &[
                (700, 1e-3),
                (1200, 1e-3),
                (1201, 1e-3 - 9e-4 / 800.0),
                (1600, 5.5e-4),
                (2000, 1e-4),
            ],
        );
        // A decay that would begin in the warm-up begins after it.
        check(Schedule::Wsd, 1.0, &[(100, 1e-3), (1050, 5.5e-4), (2000, 1e-4)]);
    }

    /// Whatever the schedule: the rate is at its highest after the warm-up, never rises after that, and is at its lowest when
    /// the schedule ends, where it stays, however many steps there are.
    #[test]
    fn every_schedule_comes_down_to_the_lowest_rate_and_stays_there() {
        for &schedule in Schedule::value_variants() {
            for steps in [700, 2000, 4000] {
                let config = TrainConfig {
                    schedule,
                    steps,
                    schedule_steps: Some(2000),
                    ..Preset::Nano.train_config(Device::Cpu)
                };
                let rates: Vec<f32> = (100..4000).map(|step| learning_rate(&config, step)).collect();
                assert_eq!(rates[0], config.lr, "{schedule:?}");
                assert!(rates.windows(2).all(|pair| pair[1] <= pair[0]), "{schedule:?}");
                assert!(rates[..1899].iter().all(|&rate| rate > config.min_lr), "{schedule:?}");
                assert!(
                    rates[1900..].iter().all(|&rate| (rate - config.min_lr).abs() < 1e-10),
                    "{schedule:?}"
                );
            }
        }
    }

    /// The losses of runs made before there were other schedules stay what they were, to the bit.
    #[test]
    fn cosine_is_the_formula_that_it_always_was() {
        let mut config = Preset::Nano.train_config(Device::Cpu);
        for (steps, warmup) in [(2000, 100), (4, 5), (1, 0), (600, 0)] {
            (config.steps, config.warmup) = (steps, warmup);
            for step in 0..steps + 2 {
                let (lr, min_lr) = (f64::from(config.lr), f64::from(config.min_lr));
                let expected = if step < warmup {
                    (lr * (step + 1) as f64 / (warmup + 1) as f64) as f32
                } else {
                    let progress = ((step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64).min(1.0);
                    (min_lr + 0.5 * (1.0 + (PI * progress).cos()) * (lr - min_lr)) as f32
                };
                assert_eq!(learning_rate(&config, step).to_bits(), expected.to_bits());
            }
        }
    }
}
