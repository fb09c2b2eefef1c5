//! GGUF, the format of llama.cpp: weights, hyperparameters and tokenizer in one file.
//!
//! What is written is what llama.cpp's own converter, `convert_hf_to_gguf.py`, writes for `GPT2LMHeadModel`.

mod container;
mod encoding;
mod tensors;
mod vocabulary;

pub use vocabulary::END_KEYS;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::Dtype;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::runs::run_of;
use crate::disk::durable;
use crate::model::norm;
use crate::model::parameters::Parameters;
use container::MetadataValue;
use encoding::Encoding;
use tensors::GgufTensor;

/// Numbers that are encoded and written at a time: a multiple of every encoding's block.
const CHUNK: usize = 1 << 16;

/// A GGUF file before it is written: everything but the weights.
pub struct Gguf<'a> {
    header: Vec<u8>,
    tensors: Vec<GgufTensor>,
    parameters: &'a Parameters,
}

impl<'a> Gguf<'a> {
    /// # Errors
    /// What GGUF cannot hold: a tokenizer that is not byte-level BPE, or rows that `dtype` does not divide.
    pub fn new(checkpoint: &'a Checkpoint, dtype: Dtype) -> Result<Self> {
        let shown = checkpoint.folder.display();
        let refused = || format!("checkpoint {shown} cannot be written as GGUF");
        let tensors = tensors::of_model(&checkpoint.model, Encoding::of(dtype)).with_context(refused)?;
        let mut metadata = metadata(checkpoint, dtype);
        metadata.extend(vocabulary::metadata(checkpoint).with_context(refused)?);
        Ok(Self {
            header: container::header(&metadata, tensors.iter().map(|tensor| &tensor.info)),
            tensors,
            parameters: &checkpoint.parameters,
        })
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        let data = self.tensors.iter().map(|tensor| container::padded(tensor.info.bytes()));
        self.header.len() as u64 + data.sum::<u64>()
    }

    /// Writes the file whole, or not at all. `progress` is told the bytes as they are written; its error ends the work.
    /// No more than one tensor is held in memory beside the checkpoint.
    ///
    /// # Errors
    /// The disk is full, the place cannot be written, or a weight is beyond what its encoding holds.
    pub fn write(&self, place: &Path, progress: impl FnMut(u64) -> Result<()>) -> Result<()> {
        durable::fill_file(place, |making| self.write_to(making, progress))
    }

    fn write_to(&self, path: &Path, mut progress: impl FnMut(u64) -> Result<()>) -> Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        out.write_all(&self.header)?;
        progress(self.header.len() as u64)?;
        let mut bytes = Vec::new();
        for tensor in &self.tensors {
            let array = tensor.array(self.parameters)?;
            for numbers in array.try_as_slice::<f32>()?.chunks(CHUNK) {
                bytes.clear();
                tensor
                    .info
                    .encoding
                    .encode(numbers, &mut bytes)
                    .with_context(|| format!("tensor {}", tensor.parameter))?;
                out.write_all(&bytes)?;
                progress(bytes.len() as u64)?;
            }
            let padding = container::padded(tensor.info.bytes()) - tensor.info.bytes();
            out.write_all(&vec![0; padding as usize])?;
            progress(padding)?;
        }
        out.flush()?;
        Ok(())
    }
}

/// What the model is, in llama.cpp's words.
fn metadata(checkpoint: &Checkpoint, dtype: Dtype) -> Vec<(&'static str, MetadataValue)> {
    let model = &checkpoint.model;
    let number = |n: usize| MetadataValue::U32(n as u32);
    vec![
        ("general.architecture", MetadataValue::String("gpt2".into())),
        ("general.type", MetadataValue::String("model".into())),
        ("general.name", MetadataValue::String(name(&checkpoint.folder))),
        ("general.file_type", MetadataValue::U32(file_type(dtype))),
        // GGML_QNT_VERSION: which layout ggml's blocks have.
        ("general.quantization_version", MetadataValue::U32(2)),
        ("gpt2.block_count", number(model.layers)),
        ("gpt2.context_length", number(model.context)),
        ("gpt2.embedding_length", number(model.embd)),
        ("gpt2.feed_forward_length", number(4 * model.embd)),
        ("gpt2.attention.head_count", number(model.heads)),
        ("gpt2.attention.layer_norm_epsilon", MetadataValue::F32(norm::EPSILON)),
    ]
}

/// The name of the run, or of a checkpoint's folder outside of any.
fn name(folder: &Path) -> String {
    match (run_of(folder), folder.canonicalize()) {
        (Some(run), _) => run.name(),
        (None, Ok(folder)) => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        (None, Err(_)) => String::new(),
    }
}

/// llama.cpp's `LLAMA_FTYPE`: how most of a file's weights are written.
fn file_type(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::Float32 => 0,
        Dtype::Float16 => 1,
        Dtype::Q8_0 => 7,
        Dtype::Bfloat16 => 32,
    }
}
