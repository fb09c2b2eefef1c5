//! GGUF, the format of llama.cpp: weights, hyperparameters and tokenizer in one file.
//!
//! The output matches that of llama.cpp's `convert_hf_to_gguf.py` for `GPT2LMHeadModel`.

mod container;
mod encoding;
mod tensors;
mod vocabulary;

pub use vocabulary::EOG_KEYS;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Dtype;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::runs::run_of;
use crate::config::Architecture;
use crate::disk::durable;
use crate::model::norm;
use crate::model::parameters::Parameters;
use container::MetadataValue;
use encoding::Encoding;
use tensors::GgufTensor;

/// Numbers encoded per write: a multiple of every encoding's block.
const CHUNK: usize = 1 << 16;

/// A GGUF file to be written: its header, and the parameters of its tensors.
pub struct Gguf<'a> {
    header: Vec<u8>,
    tensors: Vec<GgufTensor>,
    parameters: &'a Parameters,
}

impl<'a> Gguf<'a> {
    /// Prepares the file of a checkpoint, with weights in the format `dtype`.
    ///
    /// # Errors
    /// The architecture is not GPT-2, the tokenizer is not byte-level BPE, or rows are not a multiple of `dtype`'s block.
    pub fn new(checkpoint: &'a Checkpoint, dtype: Dtype) -> Result<Self> {
        let shown = checkpoint.folder.display();
        let refused = || format!("checkpoint {shown} cannot be written as GGUF");
        let architecture = checkpoint.model.architecture;
        // The names of other architectures' parameters translate too, to a file that would claim to be a GPT-2.
        ensure!(
            architecture == Architecture::Gpt2,
            "{}: its architecture is {}; only gpt2 can be exported",
            refused(),
            architecture.name()
        );
        let tensors = tensors::of_model(&checkpoint.model, Encoding::of(dtype)).with_context(refused)?;
        let mut metadata = metadata(checkpoint, dtype);
        metadata.extend(vocabulary::metadata(checkpoint).with_context(refused)?);
        if let Some(template) = &checkpoint.chat_template {
            let source = template.source().to_owned();
            metadata.push(("tokenizer.chat_template", MetadataValue::String(source)));
        }
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

    /// Writes the file atomically. `progress` is called with the number of bytes after each write; its error aborts. At most
    /// one tensor is copied in memory.
    ///
    /// # Errors
    /// The file cannot be written, a weight overflows its encoding, or an error of `progress`.
    pub fn write(&self, dest: &Path, progress: impl FnMut(u64) -> Result<()>) -> Result<()> {
        durable::fill_file(dest, |temp| self.write_to(temp, progress))
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

/// llama.cpp's metadata of the model.
fn metadata(checkpoint: &Checkpoint, dtype: Dtype) -> Vec<(&'static str, MetadataValue)> {
    let model = &checkpoint.model;
    let number = |n: usize| MetadataValue::U32(n as u32);
    vec![
        ("general.architecture", MetadataValue::String("gpt2".into())),
        ("general.type", MetadataValue::String("model".into())),
        ("general.name", MetadataValue::String(name(&checkpoint.folder))),
        ("general.file_type", MetadataValue::U32(file_type(dtype))),
        // GGML_QNT_VERSION: the layout of ggml's blocks.
        ("general.quantization_version", MetadataValue::U32(2)),
        ("gpt2.block_count", number(model.layers)),
        ("gpt2.context_length", number(model.context)),
        ("gpt2.embedding_length", number(model.embd)),
        ("gpt2.feed_forward_length", number(4 * model.embd)),
        ("gpt2.attention.head_count", number(model.heads)),
        ("gpt2.attention.layer_norm_epsilon", MetadataValue::F32(norm::EPSILON)),
    ]
}

/// The name of the run, or of the checkpoint's folder if it is not in a run.
fn name(folder: &Path) -> String {
    match (run_of(folder), folder.canonicalize()) {
        (Some(run), _) => run.name(),
        (None, Ok(folder)) => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        (None, Err(_)) => String::new(),
    }
}

/// llama.cpp's `LLAMA_FTYPE`: the format of most weights.
fn file_type(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::Float32 => 0,
        Dtype::Float16 => 1,
        Dtype::Q8_0 => 7,
        Dtype::Bfloat16 => 32,
    }
}
