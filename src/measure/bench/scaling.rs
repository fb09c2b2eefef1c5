//! Scaling of the step time with batch, context, width and vocabulary.

use anyhow::Result;
use mlx_rs::memory::clear_cache;
use serde::Serialize;

use super::timing::{Rounds, median, milliseconds};
use crate::config::{Device, Preset, TrainConfig};
use crate::data::source::Source;
use crate::data::tokens::Tokens;
use crate::measure::statistics::mean;
use crate::model::init::initialize;
use crate::model::parameters::Parameters;
use crate::terminal::progress::Spinner;
use crate::train::step::{Stepper, TrainState};

/// Untimed steps at each point.
const WARM_UP: usize = 2;

/// A dimension that varies while the others are the preset nano's.
#[derive(Clone, Copy)]
struct Axis {
    name: &'static str,
    /// Each two or four times the one before.
    values: &'static [usize],
    set: fn(&mut Shape, usize),
}

/// The configuration of a step.
struct Shape {
    config: TrainConfig,
    vocab_size: usize,
}

const AXES: [Axis; 4] = [
    Axis {
        name: "batch",
        values: &[6, 12, 24, 48, 96],
        set: |shape, rows| shape.config.batch_size = rows,
    },
    Axis {
        name: "context",
        values: &[32, 64, 128, 256, 512],
        set: |shape, tokens| shape.config.context = tokens,
    },
    Axis {
        name: "width",
        values: &[64, 128, 256, 512],
        set: |shape, channels| shape.config.embd = channels,
    },
    Axis {
        name: "vocabulary",
        values: &[64, 256, 1024, 4096, 16384],
        set: |shape, tokens| shape.vocab_size = tokens,
    },
];

/// Scaling of the step time with one dimension.
#[derive(Clone, Debug, Serialize)]
pub struct ScalingCurve {
    /// The dimension.
    pub of: &'static str,
    /// The measurements, by increasing size.
    pub points: Vec<ScalingPoint>,
    /// Time is proportional to the size to this power, fitted over all points.
    pub exponent: f64,
    /// The same between the two largest points, where constant costs matter least.
    pub last_exponent: f64,
}

/// The step time at one size.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ScalingPoint {
    /// Size of the dimension.
    pub size: usize,
    /// Of the median step.
    pub milliseconds: f64,
}

impl ScalingCurve {
    fn new(of: &'static str, points: Vec<ScalingPoint>) -> Self {
        let last = points.len().saturating_sub(2);
        Self {
            of,
            exponent: exponent(&points),
            last_exponent: exponent(&points[last..]),
            points,
        }
    }

    /// Summary sentence.
    pub fn words(&self) -> String {
        let [first, last] = [self.points.first(), self.points.last()].map(|point| point.map_or(0, |point| point.size));
        format!(
            "{} from {first} to {last}: step time grows {} (exponent {:.2}, and {:.2} between the last two points); doubling it multiplies the time by {:.1}",
            self.of,
            growth(self.exponent),
            self.exponent,
            self.last_exponent,
            self.exponent.exp2()
        )
    }
}

/// Times steps along each axis.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn measure(rounds: Rounds, device: Device, threads: usize) -> Result<Vec<ScalingCurve>> {
    let progress = Spinner::start();
    let line = |axis: &Axis| {
        let points = axis.values.iter().map(|&size| {
            progress.stage(&format!("measuring {} {size}", axis.name));
            let mut shape = Shape {
                config: TrainConfig {
                    threads,
                    ..Preset::Nano.train_config(device)
                },
                vocab_size: 64,
            };
            (axis.set)(&mut shape, size);
            Ok(ScalingPoint {
                size,
                milliseconds: time(&shape, rounds)?,
            })
        });
        Ok(ScalingCurve::new(axis.name, points.collect::<Result<_>>()?))
    };
    AXES.iter().map(line).collect()
}

/// Milliseconds of the median step.
fn time(shape: &Shape, rounds: Rounds) -> Result<f64> {
    let Shape { config, vocab_size } = shape;
    let model = config.model_config(*vocab_size);
    model.validate()?;
    let parameters = initialize(&model, config.seed)?;
    let mut stepper = Stepper::new(config, &model, &parameters, &Parameters::default())?;
    let mut state = TrainState::new(parameters, Parameters::default(), config.optimizer)?;
    let source = Source::Text(Tokens::Memory((0..100_000).map(|n| n % *vocab_size as u32).collect()));
    let mut step = || {
        let started = std::time::Instant::now();
        let batches = stepper.micro_batches(&source, state.step);
        stepper.step(&mut state, batches)?;
        anyhow::Ok(started.elapsed())
    };
    for _ in 0..WARM_UP {
        step()?;
    }
    let times = rounds.repeat(step)?;
    clear_cache()?; // buffers of one shape are of no use to the next
    Ok(milliseconds(median(times)))
}

/// The slope of the straight line through the points' logarithms, by least squares.
fn exponent(points: &[ScalingPoint]) -> f64 {
    let logs: Vec<(f64, f64)> = points
        .iter()
        .map(|point| ((point.size as f64).ln(), point.milliseconds.ln()))
        .collect();
    let (x_mean, y_mean) = (mean(logs.iter().map(|log| log.0)), mean(logs.iter().map(|log| log.1)));
    let covariance: f64 = logs.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    let variance: f64 = logs.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
    covariance / variance
}

fn growth(exponent: f64) -> &'static str {
    match exponent {
        e if e < 0.1 => "hardly at all",
        e if e < 0.9 => "more slowly than in proportion",
        e if e <= 1.1 => "in proportion",
        e if e < 1.9 => "faster than in proportion, and more slowly than the square",
        e if e <= 2.1 => "as the square",
        _ => "faster than the square",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: impl Fn(f64) -> f64) -> ScalingCurve {
        let point = |size: usize| ScalingPoint {
            size,
            milliseconds: time(size as f64),
        };
        ScalingCurve::new("width", [64, 128, 256, 512].map(point).to_vec())
    }

    /// Logarithms of powers lie on a line but for rounding.
    #[test]
    fn exponents_of_powers_are_found() {
        for power in [0.0, 0.5, 1.0, 2.0] {
            let line = line(|size| 3.0 * size.powf(power));
            assert!((line.exponent - power).abs() < 1e-12, "{power}: {}", line.exponent);
            assert!((line.last_exponent - power).abs() < 1e-12);
        }
        assert!(line(|size| size).words().ends_with(
            "step time grows in proportion (exponent 1.00, and 1.00 between the last two points); doubling it multiplies the time by 2.0"
        ));
    }

    /// 1, 2, 4 and 16 as times of 64 to 512: in steps of ln 2, x is -1.5, -0.5, 0.5, 1.5 and y 0, 1, 2, 4; the slope is
    /// (-1.5 · 0 - 0.5 · 1 + 0.5 · 2 + 1.5 · 4) / 5 = 1.3, and between the last two points 2.
    #[test]
    fn exponents_of_other_growth_are_those_worked_out_by_hand() {
        let line = line(|size| if size < 512.0 { size / 64.0 } else { 16.0 });
        assert!((line.exponent - 1.3).abs() < 1e-12, "{}", line.exponent);
        assert!((line.last_exponent - 2.0).abs() < 1e-12);
        assert!(line.words().contains("faster than in proportion"));
    }

    #[test]
    fn words_follow_the_exponent() {
        let words = [-0.3, 0.5, 1.0, 1.5, 2.0, 3.0].map(growth);
        assert_eq!(words[0], "hardly at all");
        assert_eq!(words[2], "in proportion");
        assert_eq!(words[4], "as the square");
        assert_eq!(words.iter().collect::<std::collections::BTreeSet<_>>().len(), 6);
    }
}
