//! Writes checkpoints.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use mlx_rs::{Array, Dtype};

use super::formats::{hugging_face, mlx_lm, peft};
use super::weights::WEIGHTS_FILE;
use super::{Checkpoint, CheckpointState, MODEL_CONFIG, Moments, OPTIMIZER, SAMPLE, bos_eos, tensors};
use crate::config::Precision;
use crate::disk::{durable, floats};
use crate::model::parameters::Parameters;
use crate::tokenizer::folder::{TOKENIZER, TOKENIZER_CONFIG};

impl Checkpoint {
    /// Checks that all weights are finite.
    ///
    /// # Errors
    /// A weight is infinite or NaN.
    pub fn check_finite(&self) -> Result<()> {
        let floats = self
            .parameters
            .iter()
            .filter(|(_, array)| array.dtype() == Dtype::Float32);
        for (name, array) in floats {
            floats::check_finite(array.try_as_slice()?).with_context(|| format!("tensor {name}"))?;
        }
        Ok(())
    }

    /// Writes the checkpoint atomically.
    ///
    /// # Errors
    /// The disk is full or cannot be written.
    pub fn save(&self, moments: &Moments, state: &CheckpointState, sample: &str) -> Result<()> {
        durable::write_folder(&self.folder, |temp| {
            self.write_model(temp, Precision::Float32)?;
            let prefixed = |prefix: &'static str, parameters: &'_ Parameters| -> Vec<(String, Array)> {
                parameters
                    .iter()
                    .map(|(name, array)| (format!("{prefix}{name}"), array.clone()))
                    .collect()
            };
            let both = [prefixed("m.", &moments.m), prefixed("v.", &moments.v)].concat();
            tensors::write(
                &temp.join(OPTIMIZER),
                Precision::Float32,
                both.iter().map(|(name, array)| (name.clone(), array)),
            )?;
            if let Some(apart) = &moments.apart {
                apart.write(temp)?;
            }
            if let Some(logprobs) = &moments.pair_logprobs {
                logprobs.write(temp)?;
            }
            fs::write(temp.join(SAMPLE), sample)?;
            state.write(temp)
        })
        .with_context(|| format!("checkpoint {} could not be written", self.folder.display()))
    }

    /// Writes the files for inference: weights, configuration, tokenizer. Of a model with adapters, only the adapters are
    /// written.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn write_model(&self, folder: &Path, precision: Precision) -> Result<()> {
        match (&self.model.lora, &self.base) {
            (Some(lora), Some(base)) => peft::write(folder, lora, &self.parameters, base)?,
            _ => {
                let prefix = self.model.quantization.map_or("", |_| mlx_lm::PREFIX);
                let arrays = self.parameters.iter();
                tensors::write(
                    &folder.join(WEIGHTS_FILE),
                    precision,
                    arrays.map(|(name, array)| (format!("{prefix}{name}"), array)),
                )?;
            }
        }
        let mut config = hugging_face::config_json(&self.model, precision);
        bos_eos::write(&mut config, &self.model, &self.tokenizer);
        let mut tokenizer_config = self.tokenizer.config_json(self.model.context);
        bos_eos::write_names(&mut tokenizer_config, &self.model, &self.tokenizer);
        if let Some(template) = &self.chat_template {
            tokenizer_config["chat_template"] = template.source().into();
        }
        for (name, json) in [
            (MODEL_CONFIG, config),
            (TOKENIZER, self.tokenizer.to_json()),
            (TOKENIZER_CONFIG, tokenizer_config),
        ] {
            fs::write(folder.join(name), serde_json::to_string_pretty(&json)?)?;
        }
        Ok(())
    }
}
