//! PyTorch's answers for a small GPT-2 of two layers, in a file of the fixtures.

use std::collections::HashMap;

use mlx_gpt::config::{ModelConfig, Preset};
use mlx_gpt::data::batches::IGNORE_INDEX;
use mlx_gpt::model::init::layout;
use mlx_gpt::model::parameters::Parameters;
use mlx_rs::Array;

/// Inputs, parameters and answers by name.
pub struct Stored(HashMap<String, Array>);

impl Stored {
    pub fn load(fixture: &str) -> Self {
        super::place::device().select().unwrap();
        Self(Array::load_safetensors(super::place::fixture(fixture)).unwrap())
    }

    pub fn numbers(&self, name: &str) -> Vec<f32> {
        self.0[name].reshape(&[-1]).unwrap().to_vec_exact().unwrap()
    }

    /// Token ids, with PyTorch's -100 as this program's constant.
    pub fn ids(&self, name: &str) -> Vec<u32> {
        let ids: Vec<i32> = self.0[name].reshape(&[-1]).unwrap().to_vec_exact().unwrap();
        let id = |id| if id == -100 { IGNORE_INDEX } else { id as u32 };
        ids.into_iter().map(id).collect()
    }

    /// The model that was asked, for rows of that many tokens.
    pub fn model(&self, context: usize) -> (ModelConfig, Parameters) {
        let model = ModelConfig {
            layers: 2,
            heads: 2,
            embd: 16,
            context,
            ..Preset::Nano.model_config(23)
        };
        let specs = layout(&model).into_iter();
        let entries = specs.map(|spec| (spec.name.clone(), self.0[&spec.name].clone()));
        (model, Parameters::from_entries(entries.collect()))
    }
}
