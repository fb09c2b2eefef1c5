//! Text by the learner's GPT-2, with weights in Hugging Face's format.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mlx_gpt::course::day03::Weights;
use mlx_gpt::course::day07::Shape;
use mlx_gpt::tokenizer::Tokenizer;
use mlx_rs::{Array, Dtype};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::Answers;

/// Tokens of a text.
const TOKENS: usize = 100;
const TEMPERATURE: f32 = 0.8;
const TOP_K: usize = 50;
const WHERE_FROM: &str = "give a folder that `mlx-gpt import gpt2` or `mlx-gpt export --format hf` wrote";

/// Continues a prompt with the GPT-2 in a folder of Hugging Face's: read, run and sampled by the learner's functions.
pub fn write(answers: &Answers, folder: &Path, prompt: &str) -> Result<String> {
    let shape = shape(&folder.join("config.json"))?;
    let weights = (answers.day10.from_hugging_face)(tensors(&folder.join("model.safetensors"))?)?;
    let tokenizer = Tokenizer::load(folder)?;
    let ids = tokenizer.encode(prompt)?;
    ensure!(!ids.is_empty(), "the prompt is empty; give a text to continue");
    let mut rng = ChaCha8Rng::seed_from_u64(1337);
    let mut choose = |logits: &[f32], _: &[u32]| {
        let warm = (answers.day09.temperature)(logits, TEMPERATURE);
        let probabilities = (answers.day09.softmax)(&(answers.day09.top_k)(&warm, TOP_K));
        (answers.day02.sample)(&probabilities, rng.random())
    };
    let generated = (answers.day09.generate)(&ids, TOKENS, &weights, &shape, &mut choose)?;
    tokenizer.decode(&[ids, generated].concat())
}

fn shape(path: &Path) -> Result<Shape> {
    let shown = path.display();
    let text = fs::read(path).with_context(|| format!("{shown} cannot be read; {WHERE_FROM}"))?;
    let config: Value = serde_json::from_slice(&text).with_context(|| format!("{shown} is not JSON"))?;
    let number = |key: &str| {
        let number = config[key]
            .as_i64()
            .with_context(|| format!("{shown} has no number {key}; {WHERE_FROM}"))?;
        i32::try_from(number).with_context(|| format!("{shown}: {key}"))
    };
    Ok(Shape {
        vocab_size: number("vocab_size")?,
        context: number("n_positions")?,
        layers: number("n_layer")?,
        heads: number("n_head")?,
        embd: number("n_embd")?,
    })
}

fn tensors(path: &Path) -> Result<Weights> {
    let tensors =
        Array::load_safetensors(path).with_context(|| format!("{} cannot be read; {WHERE_FROM}", path.display()))?;
    let tensors = tensors
        .into_iter()
        .map(|(name, array)| Ok((name, array.as_dtype(Dtype::Float32)?)));
    tensors.collect::<Result<BTreeMap<String, Array>>>()
}
