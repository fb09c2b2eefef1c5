//! GPT-2s as other programs write them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use mlx_gpt::data::corpus::{Corpus, Split};
use mlx_gpt::tokenizer::CharTokenizer;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use super::Fixture;

/// Tensors on their way into a file: format, shape, bytes.
pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// The fixture's model as `transformers` writes one: `GPT2LMHeadModel`, float32.
pub struct Source {
    pub config: Value,
    pub tokenizer: Value,
    pub tensors: Tensors,
}

impl Source {
    pub fn new(fixture: &Fixture) -> Self {
        let corpus = Corpus::open(mlx_gpt::config::DEFAULT_CORPUS).unwrap();
        let tensors = fixture.parameters.iter().map(|(name, array)| {
            let shape = array.shape().iter().map(|&n| n as usize).collect();
            let bytes = array
                .try_as_slice::<f32>()
                .unwrap()
                .iter()
                .flat_map(|x| x.to_le_bytes())
                .collect();
            (format!("transformer.{name}"), (Dtype::F32, shape, bytes))
        });
        Self {
            config: json!({
                "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new",
                "n_layer": 3, "n_head": 5, "n_embd": 80, "n_positions": 24, "n_inner": null, "vocab_size": 65,
                "bos_token_id": null, "eos_token_id": null, "layer_norm_epsilon": 1e-05, "reorder_and_upcast_attn": false
            }),
            tokenizer: CharTokenizer::from_text(corpus.text(Split::All)).to_json(),
            tensors: tensors.collect(),
        }
    }

    pub fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        fs::write(folder.join("tokenizer.json"), self.tokenizer.to_string()).unwrap();
        write_tensors(&folder.join("model.safetensors"), &self.tensors);
    }

    /// The same in two files and their index.
    pub fn write_in_shards(&self, folder: &Path) {
        self.write(folder);
        fs::remove_file(folder.join("model.safetensors")).unwrap();
        let (first, second): (Tensors, Tensors) = self
            .tensors
            .clone()
            .into_iter()
            .partition(|(name, _)| name.contains("h.1."));
        let mut weight_map = BTreeMap::new();
        for (number, part) in [(1, &first), (2, &second)] {
            let name = format!("model-0000{number}-of-00002.safetensors");
            write_tensors(&folder.join(&name), part);
            weight_map.extend(part.keys().map(|tensor| (tensor.clone(), name.clone())));
        }
        let index = json!({ "metadata": { "total_size": 0 }, "weight_map": weight_map });
        fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }

    pub fn tensor(&mut self, name: &str) -> &mut (Dtype, Vec<usize>, Vec<u8>) {
        self.tensors.get_mut(name).unwrap()
    }
}

pub fn write_tensors(path: &Path, tensors: &Tensors) {
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None::<HashMap<_, _>>, path).unwrap();
}
