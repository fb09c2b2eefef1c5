//! Resolves a preset, a file and options to a configuration: options override the file, the file overrides the preset.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{Device, ModelConfig, Objective, Optimizer, Preset, Task, TrainConfig, default_threads};
use crate::disk::files;

/// Values for some of the keys of [`TrainConfig`], which override others.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct ConfigOverrides(Table);

/// The checkpoint that a run starts from.
#[derive(Clone, Debug)]
pub struct StartCheckpoint {
    /// The checkpoint's folder.
    pub folder: String,
    /// Its model.
    pub model: ModelConfig,
    /// The model's number of parameters.
    pub parameters: usize,
}

/// Models with at least this many parameters are fine-tuned with few steps at a low rate by default.
const FINETUNE_MIN_PARAMETERS: usize = 50_000_000;

/// The keys that a checkpoint determines.
const ARCHITECTURE_KEYS: [&str; 13] = [
    "arch",
    "layers",
    "heads",
    "embd",
    "position",
    "norm",
    "qk_norm",
    "activation",
    "tie_head",
    "kv_heads",
    "convolution",
    "ngram_rows",
    "ngram_size",
];

/// The keys that may differ between machines that train together: paths, and what a machine has.
const MACHINE_KEYS: [&str; 5] = ["corpus", "chat", "tokenizer", "init_from", "threads"];

impl From<Table> for ConfigOverrides {
    fn from(table: Table) -> Self {
        Self(table)
    }
}

impl TrainConfig {
    /// The configuration of a run that another machine leads, with the text and the threads that this one was given.
    ///
    /// # Errors
    /// An invalid value.
    pub fn on_this_machine(mut self, own: &ConfigOverrides) -> Result<Self> {
        let none = ConfigOverrides::default();
        if let Some(corpus) = own.get("corpus", &none)? {
            self.corpus = corpus;
        }
        if let Some(chat) = own.get("chat", &none)? {
            self.chat = Some(chat);
        }
        // Of another number a resumed run would differ in the last digits, so that all have rank 0's unless told otherwise.
        if let Some(threads) = own.get("threads", &none)? {
            self.threads = threads;
        }
        Ok(self)
    }
}

impl ConfigOverrides {
    /// Those of a file, such as a run's `config.toml`.
    ///
    /// # Errors
    /// It cannot be read, or has an unknown key or an invalid value.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = files::read(path).with_context(|| format!("configuration {} cannot be read", path.display()))?;
        let overrides: Self =
            toml::from_slice(&bytes).with_context(|| format!("configuration {} is not valid", path.display()))?;
        let config = overrides
            .applied_to(&Preset::Nano.train_config(Device::Cpu)) // any preset: only the file's own keys are checked
            .with_context(|| format!("configuration {} is not valid", path.display()))?;
        config.ensure_no_batch_ramp(
            &format!("configuration {}", path.display()),
            "remove those lines from it",
        )?;
        Ok(overrides)
    }

    /// Sets a key that is not set.
    pub fn set_default(&mut self, key: &str, value: impl Into<Value>) {
        self.0.entry(key).or_insert_with(|| value.into());
    }

    /// Whether the key is set.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The settings that are the same on all machines that train together, as text to compare.
    pub fn shared(&self) -> String {
        let mut table = self.0.clone();
        MACHINE_KEYS.iter().for_each(|key| drop(table.remove(*key)));
        table.to_string()
    }

    /// The value of that key, here or else in `fallback`.
    fn get<T: DeserializeOwned>(&self, key: &str, fallback: &Self) -> Result<Option<T>> {
        let Some(value) = self.0.get(key).or_else(|| fallback.0.get(key)) else {
            return Ok(None);
        };
        Ok(Some(value.clone().try_into().with_context(|| key.to_owned())?))
    }

    /// The checkpoint to start from, set here or else in `file`.
    ///
    /// # Errors
    /// It is not a string.
    pub fn init_from(&self, file: &Self) -> Result<Option<String>> {
        self.get("init_from", file)
    }

    /// The device to compute on, set here or else in `file`.
    ///
    /// # Errors
    /// An unknown device.
    pub fn device(&self, file: &Self) -> Result<Option<Device>> {
        self.get("device", file)
    }

    /// `base` with the values set here. If that changes the device, the default number of threads changes, too.
    fn applied_to(&self, base: &TrainConfig) -> Result<TrainConfig> {
        let mut table = Table::try_from(base)?;
        table.extend(self.0.clone());
        let mut config: TrainConfig = table.try_into()?;
        if config.device != base.device && !self.has("threads") {
            config.threads = default_threads(config.device);
        }
        Ok(config)
    }

    /// The configuration of a new run: these values override `file`, which overrides the preset (or the device's default
    /// one). With `start`, the model is that of the checkpoint.
    ///
    /// # Errors
    /// An unknown key, an invalid value, or another model than that of the checkpoint.
    pub fn resolve(
        &self,
        file: &Self,
        preset: Option<Preset>,
        device: Device,
        start: Option<&StartCheckpoint>,
    ) -> Result<(TrainConfig, Preset)> {
        let chosen = preset;
        let task: Option<Task> = self.get("task", file)?;
        let preset = preset.unwrap_or(match task {
            None => Preset::for_device(device),
            Some(_) => Preset::Nano, // problems of a dozen characters keep no GPU busy
        });
        let arch = self.get("arch", file)?;
        let mut base = preset.train_config(device).with_architecture(arch.unwrap_or_default());
        let mut finetunes = false;
        if let Some(task) = task {
            base.set_task(task, self.get("digits", file)?, chosen.is_none());
        }
        if self.get::<String>("chat", file)?.is_some() {
            base.set_chat(chosen.is_none() && preset == Preset::Nano);
        }
        if let Some(start) = start {
            ensure!(
                !self.has("tokenizer"),
                "the tokenizer is that of the checkpoint of --init-from; omit --tokenizer"
            );
            let model = &start.model;
            base.tokenizer.clone_from(&start.folder);
            base.arch = model.architecture;
            base.set_components(model.components);
            (base.layers, base.heads, base.embd) = (model.layers, model.heads, model.embd);
            base.context = if task.is_some() {
                base.context.min(model.context)
            } else {
                model.context
            };
            ensure_same_architecture(&base, self.applied_to(&file.applied_to(&base)?)?)?;
            finetunes = chosen.is_none() && start.parameters >= FINETUNE_MIN_PARAMETERS;
        }
        let adapts = self.get("lora_rank", file)?.is_some_and(|rank: usize| rank > 0);
        (base.rl, base.preferences) = (self.get("rl", file)?, self.get("preferences", file)?);
        base.group_size = self.get("group_size", file)?;
        let tunes = base.objective() != Objective::NextToken;
        if tunes {
            base.tune(base.objective());
        }
        base = base.with_optimizer(match self.get("optimizer", file)? {
            Some(optimizer) => optimizer,
            None if adapts || finetunes || tunes => Optimizer::Adamw,
            None => preset.optimizer(),
        });
        if finetunes && !tunes {
            base.finetune(adapts);
        }
        let mut before = file.applied_to(&base)?;
        if let (Some(arch), None) = (self.get("arch", &Self::default())?, start) {
            before = before.with_architecture(arch); // with its components, not those of the file's
        }
        let mut config = self.applied_to(&before)?;
        if let Some(start) = start {
            config.init_from = Some(start.folder.clone());
        }
        Ok((config, preset))
    }

    /// The configuration of a resumed run: `before` with the values set here.
    ///
    /// # Errors
    /// An unknown key or an invalid value.
    pub fn resume(&self, before: &TrainConfig) -> Result<TrainConfig> {
        self.applied_to(before)
    }
}

/// # Errors
/// `config` sets another model than that of --init-from, which `checkpoint` describes.
fn ensure_same_architecture(checkpoint: &TrainConfig, mut config: TrainConfig) -> Result<()> {
    config.kv_heads = config.kv_heads.filter(|&kv_heads| kv_heads != config.heads);
    let asked = Table::try_from(&config)?;
    let has = Table::try_from(checkpoint)?;
    for key in ARCHITECTURE_KEYS {
        ensure!(
            asked.get(key) == has.get(key),
            "{key} is {} in the checkpoint of --init-from; leave it out",
            has.get(key).map_or("that of heads".into(), display_value)
        );
    }
    Ok(())
}

/// Formats a value as a user would write it.
pub fn display_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Float(number) => format!("{number:?}"), // 1e30, not all of its zeros
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Architecture, Components, NormKind};

    fn overrides(text: &str) -> ConfigOverrides {
        toml::from_str(text).unwrap()
    }

    /// The configuration that options and a file resolve to, on a CPU.
    fn over(file: &str, options: &str) -> TrainConfig {
        let (file, options) = (overrides(file), overrides(options));
        let device = options.device(&file).unwrap().unwrap_or(Device::Cpu);
        options.resolve(&file, None, device, None).unwrap().0
    }

    #[test]
    fn options_override_the_file_and_the_file_the_preset() {
        let of = |file, options| {
            let config = over(file, options);
            (config.steps, config.lr, config.embd)
        };
        assert_eq!(of("", ""), (2000, 4e-3, 128));
        assert_eq!(of("steps = 5\nlr = 0.5", ""), (5, 0.5, 128));
        assert_eq!(of("steps = 5\nlr = 0.5", "steps = 7\nembd = 64"), (7, 0.5, 64));
    }

    #[test]
    fn what_no_configuration_has_is_named() {
        for (text, expected) in [
            ("stesp = 5", "unknown field `stesp`"),
            ("steps = \"many\"", "steps"),
            ("arch = \"llama\"", "unknown variant `llama`"),
        ] {
            let error = overrides(text)
                .applied_to(&Preset::Nano.train_config(Device::Cpu))
                .unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(expected), "{error}");
        }
    }

    /// A large model that is trained further gets few steps and low rates, unless a preset is named; a small one trains
    /// on as it began.
    #[test]
    fn large_models_are_finetuned_gently() {
        let config = |parameters, options: &str, preset| {
            let start = StartCheckpoint {
                folder: "models/x".into(),
                model: Preset::Gpt2.model_config(50257),
                parameters,
            };
            let options = overrides(options);
            let resolved = options.resolve(&ConfigOverrides::default(), preset, Device::Cpu, Some(&start));
            resolved.unwrap().0
        };
        let gentle = config(FINETUNE_MIN_PARAMETERS, "", None);
        assert_eq!(
            (gentle.lr, gentle.steps, gentle.context, gentle.batch_size),
            (1e-4, 200, 256, 4)
        );
        assert_eq!((gentle.embd, gentle.init_from), (768, Some("models/x".into())));
        assert_eq!(config(FINETUNE_MIN_PARAMETERS, "lora_rank = 4", None).lr, 2e-4);
        assert_eq!(
            config(FINETUNE_MIN_PARAMETERS, "lr = 3e-5\ncontext = 64", None).lr,
            3e-5
        );
        assert_eq!(config(FINETUNE_MIN_PARAMETERS, "", Some(Preset::Nano)).lr, 4e-3);
        assert_eq!(config(FINETUNE_MIN_PARAMETERS - 1, "", None).lr, 4e-3);
    }

    #[test]
    fn the_network_and_the_tokenizer_are_those_of_the_checkpoint() {
        let start = StartCheckpoint {
            folder: "models/x".into(),
            model: ModelConfig {
                architecture: Architecture::Modern,
                components: Components::MODERN,
                ..Preset::Nano.model_config(65)
            },
            parameters: 1,
        };
        let resolve = |options: &str| {
            overrides(options)
                .resolve(&ConfigOverrides::default(), None, Device::Cpu, Some(&start))
                .map(|(config, _)| config)
        };
        assert_eq!(resolve("heads = 4").unwrap().norm, NormKind::Rms);
        for (options, expected) in [
            ("embd = 64", "embd is 128 in the checkpoint of --init-from"),
            ("norm = \"layer\"", "norm is rms in the checkpoint"),
            ("kv_heads = 2", "kv_heads is that of heads"),
            ("tokenizer = \"gpt2\"", "the tokenizer is that of the checkpoint"),
        ] {
            let error = resolve(options).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_architecture_brings_its_parts() {
        let norm = |options| over("arch = \"gpt2\"\nnorm = \"layer\"", options).norm;
        assert_eq!(norm("arch = \"modern\""), NormKind::Rms);
        assert_eq!(norm("arch = \"modern\"\nnorm = \"layer\""), NormKind::Layer);
        assert_eq!(norm(""), NormKind::Layer);
    }

    #[test]
    fn threads_are_those_of_the_device_that_computes() {
        let threads = |options| over("device = \"gpu\"\nthreads = 1", options).threads;
        assert_eq!(threads(""), 1);
        assert_eq!(threads("device = \"cpu\""), default_threads(Device::Cpu));
        assert_eq!(threads("device = \"cpu\"\nthreads = 3"), 3);
    }

    #[test]
    fn each_optimizer_brings_its_own_rates() {
        let config = |options: &str, preset| {
            let resolved = overrides(options).resolve(&ConfigOverrides::default(), Some(preset), Device::Cpu, None);
            let config = resolved.unwrap().0;
            (config.optimizer, config.lr, config.min_lr, config.warmup)
        };
        let muon = (Optimizer::Muon, 4e-3, 4e-4, 20);
        assert_eq!(config("", Preset::Nano), muon);
        assert_eq!(config("optimizer = \"muon\"", Preset::Baby), muon);
        assert_eq!(config("", Preset::Baby), (Optimizer::Adamw, 1e-3, 1e-4, 100));
        // The recipe of nanoGPT, as `Preset::train_config` has it.
        let plain = config("optimizer = \"adamw\"", Preset::Nano);
        assert_eq!(plain, (Optimizer::Adamw, 1e-3, 1e-4, 100));
        assert_eq!(config("lr = 0.01", Preset::Nano), (Optimizer::Muon, 0.01, 4e-4, 20));
    }
}
