//! Training code of one's own in the place of this library's: the loop around it, its checkpoints, curve and resume stay.

use anyhow::{Result, ensure};
use mlx_rs::Array;

use super::session::Session;
use crate::config::{Architecture, ModelConfig, Optimizer, Precision, Schedule, TrainConfig};
use crate::data::batches::Batch;
use crate::model::init::layout;
use crate::model::parameters::Parameters;

/// A model and an optimizer of one's own, of GPT-2's parameters.
pub trait OwnTraining {
    /// Called once, before anything else.
    ///
    /// # Errors
    /// Those of the implementation.
    fn prepare(&mut self, config: &TrainConfig, model: &ModelConfig) -> Result<()>;

    /// The parameters before the first step, of GPT-2's names and shapes.
    ///
    /// # Errors
    /// Those of the implementation.
    fn initialize(&self) -> Result<Parameters>;

    /// A step, counted from 1, from parameters and both moments to those after it; with the loss and the norm of the gradients
    /// before clipping, scalars. Nothing needs to be evaluated.
    ///
    /// # Errors
    /// Those of the implementation.
    fn step(&mut self, state: [&Parameters; 3], batch: &Batch, step: u64) -> Result<OwnStep>;
}

/// What a step of one's own gives.
pub struct OwnStep {
    /// In nats per token, a scalar.
    pub loss: Array,
    /// Norm of all gradients before clipping, a scalar.
    pub grad_norm: Array,
    /// Parameters and moments, m and v, after the step.
    pub state: [Parameters; 3],
}

impl Session {
    /// Trains with code of one's own; if no step was made yet, its initial parameters replace the library's.
    ///
    /// # Errors
    /// A configuration that such code does not know; initial parameters of other names or shapes. A new run is gone then.
    pub fn with_own(mut self, mut own: Box<dyn OwnTraining>) -> Result<Self> {
        self.begin_with(&mut *own).inspect_err(|_| self.run.discard())?;
        self.stepper.use_own(own);
        Ok(self)
    }

    fn begin_with(&mut self, own: &mut dyn OwnTraining) -> Result<()> {
        ensure_plain(&self.config)?;
        ensure!(
            self.together.is_none(),
            "a model and an optimizer of your own are trained on one machine; start one process"
        );
        own.prepare(&self.config, &self.model)?;
        if self.state.step == 0 {
            let parameters = own.initialize()?;
            ensure_layout(&parameters, &self.model)?;
            self.state.parameters = parameters;
        }
        Ok(())
    }
}

/// What one's own code does not have: everything else that a configuration can ask for.
fn ensure_plain(config: &TrainConfig) -> Result<()> {
    let refused = [
        (config.arch != Architecture::Gpt2, "--arch gpt2"),
        (config.optimizer != Optimizer::Adamw, "--optimizer adamw"),
        (config.schedule != Schedule::Cosine, "--schedule cosine"),
        (config.dtype != Precision::Float32, "--dtype float32"),
        (config.grad_accum != 1, "--grad-accum 1"),
        (config.dropout != 0.0, "--dropout 0"),
        (config.lora_rank > 0, "no --lora-rank"),
        (config.init_from.is_some(), "no --init-from"),
        (config.preferences.is_some(), "no --preferences"),
        (config.task.is_some(), "no --task"), // its targets are in part ignored
        (config.chat.is_some(), "no --chat"), // as well
        (!config.freeze.is_empty(), "no --freeze"),
        (config.grad_clip == 0.0, "--grad-clip above 0"),
        (
            config.model_config(1).architecture != Architecture::Gpt2,
            "GPT-2's components (position, norm, qk_norm, activation, tie_head, kv_heads, convolution, ngram_rows)",
        ),
        (config.recompute, "no --recompute"),
    ];
    for (asked, needed) in refused {
        ensure!(!asked, "a model and an optimizer of your own are trained with {needed}");
    }
    Ok(())
}

fn ensure_layout(parameters: &Parameters, model: &ModelConfig) -> Result<()> {
    let specs = layout(model);
    for spec in &specs {
        let found = parameters.get(&spec.name)?.shape();
        ensure!(
            found == spec.shape,
            "the initial {} has the shape {found:?}, not {:?}",
            spec.name,
            spec.shape
        );
    }
    ensure!(
        parameters.names().len() == specs.len(),
        "there are {} initial parameters, not {}",
        parameters.names().len(),
        specs.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Device, Preset};

    #[test]
    fn what_such_code_would_ignore_is_refused() {
        let plain = || TrainConfig {
            optimizer: Optimizer::Adamw,
            ..Preset::Nano.train_config(Device::Cpu)
        };
        ensure_plain(&plain()).unwrap();
        type Change = fn(&mut TrainConfig);
        let changes: [(Change, &str); 4] = [
            (|config| config.init_from = Some("run".into()), "no --init-from"),
            (|config| config.freeze = vec!["wte*".into()], "no --freeze"),
            (|config| config.grad_clip = 0.0, "--grad-clip above 0"),
            (|config| config.qk_norm = true, "GPT-2's components"),
        ];
        for (change, named) in changes {
            let mut config = plain();
            change(&mut config);
            let error = ensure_plain(&config).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
