//! What a run has learned, compared: to the bit on the CPU. A GPU adds up in no fixed order, so that two runs of one recipe
//! differ there by rounding from their first step on; what is compared is then close, within bounds that follow from the
//! arithmetic.

use std::path::Path;

use mlx_gpt::config::Device;
use mlx_rs::{Array, Dtype};
use serde_json::Value;

use super::{contents, place};

type Files = Vec<(String, Vec<u8>)>;

/// A run's newest weights, moments and state, and its metrics without what no run repeats.
#[derive(Debug)]
pub struct Learned {
    pub files: Files,
    pub lines: Vec<Value>,
    pub bounds: Bounds,
}

/// How far two runs that add up in different orders may differ.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of moments in the norm of a tensor, of losses and norms of gradients: relative.
    sums: f64,
    /// Of a weight: absolute.
    moved: f64,
}

impl Bounds {
    /// A sum of n rounded products in another order differs by about √n u, where u is half the distance of 1 to the next number.
    /// The tests' models add up 64 at most (4 rows of 16 tokens, 4 times 16 wide), and between an embedding and its gradient
    /// lie 16 products of matrices, whose errors add up as their square root: 8 × 4 = 32 u. Second moments are squares: 64 u.
    ///
    /// An optimizer's step moves a weight by about its rate, whatever the size of its gradient; where that is rounding alone, as
    /// of the bias of keys, which no loss depends on, two runs may go opposite ways. So weights are bounded by twice the way
    /// that they may have gone, and wrong steps are found in the moments and losses.
    pub fn new(dtype: &str, lr: f64, steps: f64) -> Self {
        let bits = match dtype {
            "float32" => 24,
            "float16" => 11,
            "bfloat16" => 8,
            other => panic!("{other}: no format of numbers"),
        };
        Self {
            sums: 64.0 * 0.5f64.powi(bits),
            moved: 2.0 * lr * steps,
        }
    }
}

pub fn learned(run: &Path) -> Learned {
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines: Vec<Value> = metrics
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let entries = line.as_object_mut().unwrap();
            entries.remove("tokens_per_second");
            entries.remove("memory");
            line
        })
        .collect();
    let config: toml::Table = std::fs::read_to_string(run.join("config.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let largest = |key: &str| lines.iter().filter_map(|line| line[key].as_f64()).fold(0.0, f64::max);
    Learned {
        bounds: Bounds::new(config["dtype"].as_str().unwrap(), largest("lr"), largest("step")),
        files: contents(&run.join("latest")),
        lines,
    }
}

impl PartialEq for Learned {
    fn eq(&self, other: &Self) -> bool {
        match place::device() {
            Device::Cpu => self.files == other.files && self.lines == other.lines,
            Device::Gpu => self.is_close(other),
        }
    }
}

impl Learned {
    /// The same but for the order of sums.
    pub fn is_close(&self, other: &Self) -> bool {
        close_files(&self.files, &other.files, self.bounds)
            && self.lines.len() == other.lines.len()
            && self
                .lines
                .iter()
                .zip(&other.lines)
                .all(|(a, b)| close_lines(a, b, self.bounds))
    }
}

/// Files of one name each: tensors that are the same, to the bit or, on a GPU, close.
pub fn same_tensors(a: &Files, b: &Files, bounds: Bounds) -> bool {
    match place::device() {
        Device::Cpu => a == b,
        Device::Gpu => close_files(a, b, bounds),
    }
}

fn close_files(a: &Files, b: &Files, bounds: Bounds) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((a_name, a), (b_name, b))| {
            a_name == b_name
                && (!a_name.ends_with(".safetensors") || {
                    let (a, b) = (tensors(a), tensors(b));
                    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| close(a, b, bounds))
                })
        })
}

fn tensors(bytes: &[u8]) -> Vec<(String, Vec<f32>)> {
    let folder = super::folder();
    let path = folder.path().join("file.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let mut all: Vec<_> = Array::load_safetensors(&path)
        .unwrap()
        .into_iter()
        .map(|(name, array)| {
            let array = array.as_dtype(Dtype::Float32).unwrap();
            (name, array.try_as_slice::<f32>().unwrap().to_vec())
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn close((a_name, a): &(String, Vec<f32>), (b_name, b): &(String, Vec<f32>), bounds: Bounds) -> bool {
    let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
    let mut differences = a.iter().zip(b).map(|(x, y)| f64::from(x - y));
    a_name == b_name
        && a.len() == b.len()
        && if a_name.starts_with("m.") || a_name.starts_with("v.") {
            norm(&mut differences) <= bounds.sums * norm(&mut a.iter().map(|&x| f64::from(x)))
        } else {
            differences.all(|difference| difference.abs() <= bounds.moved)
        }
}

/// Losses and norms are close, and all else is the same.
fn close_lines(a: &Value, b: &Value, bounds: Bounds) -> bool {
    let (a, b) = (a.as_object().unwrap(), b.as_object().unwrap());
    a.keys().eq(b.keys())
        && a.iter().all(|(key, value)| {
            let measured = key.ends_with("loss") || key == "grad_norm";
            match (value.as_f64(), b[key].as_f64()) {
                (Some(x), Some(y)) if measured => (x - y).abs() <= bounds.sums * x.abs(),
                _ => *value == b[key],
            }
        })
}
