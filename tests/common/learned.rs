//! What a run has learned, compared: to the bit on the CPU. A GPU adds up in no fixed order, so that two runs of one recipe
//! differ there from their first step on; what is compared is then close.

use std::path::Path;

use mlx_gpt::config::Device;
use mlx_rs::{Array, Dtype};
use serde_json::Value;

use super::{contents, place};

/// Of the largest element of a tensor, and of a loss: what differences of a rounding grow to in the few steps of a test.
const TOLERANCE: f64 = 0.05;

/// A run's newest weights, moments and state, and its metrics without what no run repeats.
#[derive(Debug)]
pub struct Learned {
    pub files: Vec<(String, Vec<u8>)>,
    pub lines: Vec<Value>,
}

pub fn learned(run: &Path) -> Learned {
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let entries = line.as_object_mut().unwrap();
        entries.remove("tokens_per_second");
        entries.remove("memory");
        line
    });
    Learned {
        files: contents(&run.join("latest")),
        lines: lines.collect(),
    }
}

impl PartialEq for Learned {
    fn eq(&self, other: &Self) -> bool {
        match place::device() {
            Device::Cpu => self.files == other.files && self.lines == other.lines,
            Device::Gpu => {
                same_tensors(&self.files, &other.files)
                    && self.lines.len() == other.lines.len()
                    && self.lines.iter().zip(&other.lines).all(|(a, b)| same_line(a, b))
            }
        }
    }
}

/// Files of one name each: tensors that are the same, to the bit or close.
pub fn same_tensors(a: &[(String, Vec<u8>)], b: &[(String, Vec<u8>)]) -> bool {
    if place::device() == Device::Cpu {
        return a == b;
    }
    a.len() == b.len()
        && a.iter().zip(b).all(|((a_name, a), (b_name, b))| {
            a_name == b_name && (!a_name.ends_with(".safetensors") || (close(&tensors(a), &tensors(b))))
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

fn close(a: &[(String, Vec<f32>)], b: &[(String, Vec<f32>)]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((a_name, a), (b_name, b))| {
            let largest = a.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
            a_name == b_name
                && a.len() == b.len()
                && super::largest_difference(a, b) as f64 <= TOLERANCE * largest as f64 + 1e-6
        })
}

/// Numbers are close, and all else is the same.
fn same_line(a: &Value, b: &Value) -> bool {
    let (a, b) = (a.as_object().unwrap(), b.as_object().unwrap());
    a.keys().eq(b.keys())
        && a.iter().all(|(key, value)| match (value.as_f64(), b[key].as_f64()) {
            (Some(x), Some(y)) => (x - y).abs() <= TOLERANCE * x.abs().max(y.abs()),
            _ => *value == b[key],
        })
}
