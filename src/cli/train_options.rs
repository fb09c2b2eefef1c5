//! The options of `train`, which are also the keys of its configuration file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::runs::find_checkpoint;
use crate::config::Device;
use crate::config::{
    Activation, Architecture, BatchRamp, DEFAULT_CORPUS, Norm, OnNan, Optimizer, Position, Precision, Preset, Schedule,
    SpecialTokens, TrainConfig, default_threads,
};
use crate::measure::contest::ranking::shown;
use crate::model::init::parameter_count;

/// Settings that may be given or left to the preset. The file of `--config` has the same names with underscores.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Text to learn from: a UTF-8 file, a folder of them, or a folder of tokens (from `data prepare`, or nanoGPT's
    /// train.bin and val.bin) [default: Shakespeare's plays, built in]
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    corpus: Option<String>,
    /// How text becomes tokens: char, gpt2, cl100k, or a path: a tokenizer.json, .model or .tiktoken, or a folder that
    /// holds one [default: that of a folder of tokens; else char for nano and baby, gpt2 for the others]
    #[arg(long, value_name = "NAME_OR_PATH", help_heading = "Data")]
    tokenizer: Option<String>,
    /// What becomes of special tokens whose text is in the corpus, such as '<|endoftext|>' between documents [default: text]
    #[arg(long, value_enum, help_heading = "Data")]
    special: Option<SpecialTokens>,
    /// Start from this checkpoint's weights, shape and tokenizer instead of random weights
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    init_from: Option<String>,

    /// Keep parameters as they are whose names match this pattern, such as 'wte.*' or 'h.[0-5].*'; may be given several
    /// times
    #[arg(long, value_name = "PATTERN", help_heading = "Finetuning")]
    freeze: Option<Vec<String>>,
    /// Train low-rank adapters of this rank beside the weights of --init-from, which stay (LoRA); 0 for none
    #[arg(long, value_name = "R", help_heading = "Finetuning")]
    lora_rank: Option<usize>,
    /// Adapters are scaled by ALPHA / R [default: 16]
    #[arg(
        long,
        value_name = "ALPHA",
        allow_negative_numbers = true,
        help_heading = "Finetuning"
    )]
    lora_alpha: Option<f32>,
    /// Linear layers that get adapters, by the ends of their names, with commas between [default: c_attn]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Finetuning")]
    lora_targets: Option<Vec<String>>,

    /// The network: GPT-2, GPT-2 with later parts (modern), or one of the lessons' steps towards it
    #[arg(long, value_enum, help_heading = "Model")]
    arch: Option<Architecture>,
    // The parts one by one: keys of the file alone.
    #[arg(skip)]
    position: Option<Position>,
    #[arg(skip)]
    norm: Option<Norm>,
    #[arg(skip)]
    qk_norm: Option<bool>,
    #[arg(skip)]
    activation: Option<Activation>,
    #[arg(skip)]
    tie_head: Option<bool>,
    #[arg(skip)]
    kv_heads: Option<usize>,
    /// Transformer blocks
    #[arg(long, value_name = "N", help_heading = "Model")]
    layers: Option<usize>,
    /// Attention heads; they must divide --embd
    #[arg(long, value_name = "N", help_heading = "Model")]
    heads: Option<usize>,
    /// Width: channels of a token's vector
    #[arg(long, value_name = "N", help_heading = "Model")]
    embd: Option<usize>,
    /// Tokens that the model sees at once
    #[arg(long, value_name = "N", help_heading = "Model")]
    context: Option<usize>,
    /// Share of activations dropped in training, 0 to below 1
    #[arg(long, value_name = "P", allow_negative_numbers = true, help_heading = "Model")]
    dropout: Option<f32>,

    /// Optimizer steps in total, those before a resume included
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Training")]
    steps: Option<u64>,
    /// Rows of a batch
    #[arg(long, value_name = "N", help_heading = "Training")]
    batch_size: Option<usize>,
    #[arg(skip)]
    batch_start: Option<BatchRamp>,
    #[arg(skip)]
    batch_ramp: Option<BatchRamp>,
    /// Batches whose gradients are added up for one step, for larger batches than memory holds
    #[arg(long, value_name = "N", help_heading = "Training")]
    grad_accum: Option<usize>,
    /// What moves the weights; each brings its own rates [default: muon for nano, adamw for the others, finetuning and
    /// adapters]
    #[arg(long, value_enum, help_heading = "Training")]
    optimizer: Option<Optimizer>,
    /// Highest learning rate, reached after the warm-up
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = "Training")]
    lr: Option<f32>,
    /// Muon's highest learning rate, of the blocks' matrices; it rises and falls as the other does [default: 0.02]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = "Training")]
    muon_lr: Option<f32>,
    /// Learning rate at the end of the schedule
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = "Training")]
    min_lr: Option<f32>,
    /// Steps over which the rate rises
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Training")]
    warmup: Option<u64>,
    /// How the learning rate falls after the warm-up [default: cosine]
    #[arg(long, value_enum, help_heading = "Training")]
    schedule: Option<Schedule>,
    /// Steps at whose end the rate is at its lowest, where it stays [default: --steps; a resumed run keeps its own, even
    /// with other --steps]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Training")]
    schedule_steps: Option<u64>,
    /// Share of the schedule's steps, the last ones, over which --schedule wsd falls [default: 0.4]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")]
    decay_share: Option<f32>,
    /// AdamW's decay of parameters with two or more dimensions
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")]
    weight_decay: Option<f32>,
    /// AdamW's memory of squared gradients
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")]
    beta2: Option<f32>,
    /// Gradients are cut to this norm; 0 turns it off
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")]
    grad_clip: Option<f32>,
    /// Number format of the forward and backward pass; weights stay float32
    #[arg(long, value_enum, help_heading = "Training")]
    dtype: Option<Precision>,
    /// Compute each block a second time in the backward pass instead of keeping what it needs: less memory, more time
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Training"
    )]
    recompute: Option<bool>,
    /// Decides initial weights, batches and dropout
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Training")]
    seed: Option<u64>,

    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum, help_heading = "Machine")]
    device: Option<Device>,
    /// CPU threads that share a batch's rows, the update and evaluations [default: all cores; 1 on a GPU]
    #[arg(long, value_name = "N", help_heading = "Machine")]
    threads: Option<usize>,

    /// Steps between estimates of the loss on both splits
    #[arg(long, value_name = "N", help_heading = "Watching and saving")]
    eval_every: Option<u64>,
    /// Batches of either split that an estimate reads
    #[arg(long, value_name = "N", help_heading = "Watching and saving")]
    eval_batches: Option<usize>,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", help_heading = "Watching and saving")]
    save_every: Option<u64>,
    /// Keep the newest N checkpoints and the best one, and remove the others; 0 keeps all [default: all for nano and baby,
    /// 3 for the others]
    #[arg(long, value_name = "N", help_heading = "Watching and saving")]
    keep_last: Option<usize>,
    /// Keep the checkpoints of every Nth step as well
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Watching and saving")]
    keep_every: Option<u64>,
    /// What happens when the loss or the gradients of a step are not finite numbers [default: stop]
    #[arg(long, value_enum, help_heading = "Watching and saving")]
    on_nan: Option<OnNan>,
}

/// Parameters from which on a model is finetuned more carefully than a small one is trained further.
const LARGE: usize = 50_000_000;

impl Settings {
    /// Reads the file of `--config`.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = crate::disk::files::read(path)
            .with_context(|| format!("configuration {} cannot be read", path.display()))?;
        let settings: Self =
            toml::from_slice(&bytes).with_context(|| format!("configuration {} is not valid", path.display()))?;
        let place = format!("configuration {}", path.display());
        for ramp in [settings.batch_start, settings.batch_ramp].into_iter().flatten() {
            ramp.ensure_unused(&place, "remove those lines from it")?;
        }
        Ok(settings)
    }

    /// `base` with what is given here in its place. Threads suit a device, and don't go to another with it.
    fn over(&self, base: &TrainConfig) -> Result<TrainConfig> {
        let mut table = toml::Table::try_from(base)?;
        table.extend(toml::Table::try_from(self)?);
        let mut config: TrainConfig = table.try_into()?;
        if config.device != base.device && self.threads.is_none() {
            config.threads = default_threads(config.device);
        }
        Ok(config)
    }

    /// Whether these say which tokenizer.
    pub fn names_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

    /// The configuration of a new run: these flags over `file` over the preset. Without a preset, the device decides.
    pub fn resolve(&self, file: &Settings, preset: Option<Preset>) -> Result<(TrainConfig, Preset)> {
        let device = match self.device.or(file.device) {
            Some(device) => device,
            None => Device::current()?,
        };
        let recipe = preset;
        let preset = preset.unwrap_or(Preset::for_device(device));
        let arch = self.arch.or(file.arch);
        let mut base = preset.train(device).with_architecture(arch.unwrap_or_default());
        let adapts = self.lora_rank.or(file.lora_rank).is_some_and(|rank| rank > 0);
        let mut finetunes = false;
        if let Some(path) = self.init_from.as_ref().or(file.init_from.as_ref()) {
            let folder = find_checkpoint(Some(Path::new(path)))?;
            let model = Checkpoint::load_model_config(&folder)?;
            ensure!(
                self.tokenizer.is_none(),
                "the tokenizer is that of the checkpoint of --init-from; leave --tokenizer out"
            );
            base.tokenizer = absolute(&folder, "checkpoint")?;
            base.arch = model.architecture;
            base.set_parts(model.parts);
            (base.layers, base.heads, base.embd, base.context) = (model.layers, model.heads, model.embd, model.context);
            ensure_network_of(&base, self.over(&file.over(&base)?)?)?;
            finetunes = recipe.is_none() && parameter_count(&model) >= LARGE;
        }
        base = base.with_optimizer(match self.optimizer.or(file.optimizer) {
            Some(optimizer) => optimizer,
            None if adapts || finetunes => Optimizer::Adamw,
            None => preset.optimizer(),
        });
        if finetunes {
            base.finetune(adapts);
        }
        let mut before = file.over(&base)?;
        if let (Some(arch), None) = (self.arch, &before.init_from) {
            before = before.with_architecture(arch); // with its parts, not those of the file's
        }
        let mut config = self.over(&before)?;
        config.corpus = absolute_corpus(&config.corpus)?;
        config.tokenizer = absolute_tokenizer(&config.tokenizer)?;
        if let Some(path) = &config.init_from {
            let folder = find_checkpoint(Some(Path::new(path)))?;
            config.init_from = Some(absolute(&folder, "checkpoint")?);
        }
        Ok((config, preset))
    }

    /// The configuration of a resumed run: `before` with what is given here.
    pub fn resume(&self, before: &TrainConfig) -> Result<TrainConfig> {
        let mut config = self.over(before)?;
        if self.corpus.is_some() {
            config.corpus = absolute_corpus(&config.corpus)?;
        }
        // That of a run is in its checkpoints, wherever it came from.
        if self.tokenizer.is_some() {
            config.tokenizer = absolute_tokenizer(&config.tokenizer)?;
        }
        Ok(config)
    }
}

/// What a checkpoint's network is made of.
const NETWORK: [&str; 10] = [
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
];

/// # Errors
/// `config` asks for another network than the one of --init-from, which `checkpoint` has.
fn ensure_network_of(checkpoint: &TrainConfig, mut config: TrainConfig) -> Result<()> {
    config.kv_heads = config.kv_heads.filter(|&kv_heads| kv_heads != config.heads);
    let asked = toml::Table::try_from(&config)?;
    let has = toml::Table::try_from(checkpoint)?;
    for key in NETWORK {
        ensure!(
            asked.get(key) == has.get(key),
            "{key} is {} in the checkpoint of --init-from; leave it out",
            has.get(key).map_or("that of heads".into(), shown)
        );
    }
    Ok(())
}

/// Runs remember where their text is, whatever folder they are resumed from.
pub(super) fn absolute_corpus(corpus: &str) -> Result<String> {
    if corpus == DEFAULT_CORPUS {
        return Ok(corpus.into());
    }
    absolute(Path::new(corpus), "corpus")
}

fn absolute_tokenizer(tokenizer: &str) -> Result<String> {
    match tokenizer {
        "char" | "gpt2" | "cl100k" => Ok(tokenizer.into()),
        path => absolute(Path::new(path), "tokenizer"),
    }
}

fn absolute(path: &Path, what: &str) -> Result<String> {
    let real: PathBuf = path
        .canonicalize()
        .with_context(|| format!("{what} {} cannot be opened; check the path", path.display()))?;
    real.into_os_string()
        .into_string()
        .map_err(|path| anyhow::anyhow!("{what} {} has a name that is not UTF-8; rename it", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A large model that is trained further gets few steps and low rates, unless a preset is named; a small one trains
    /// on as it began.
    #[test]
    fn large_models_are_finetuned_gently() {
        let folder = tempfile::tempdir().unwrap();
        let config = |embd: usize, settings: &str, preset| {
            let json = serde_json::json!({
                "model_type": "gpt2", "n_layer": 12, "n_head": 4, "n_embd": embd, "n_positions": 1024, "vocab_size": 257
            });
            std::fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
            let mut settings: Settings = toml::from_str(settings).unwrap();
            settings.init_from = Some(folder.path().to_str().unwrap().into());
            settings.device = Some(Device::Cpu);
            settings.resolve(&Settings::default(), preset).unwrap().0
        };
        let gentle = config(768, "", None);
        assert_eq!(
            (gentle.lr, gentle.steps, gentle.context, gentle.batch_size),
            (1e-4, 200, 256, 4)
        );
        assert_eq!(config(768, "lora_rank = 4", None).lr, 2e-4);
        assert_eq!(config(768, "lr = 3e-5\ncontext = 64", None).lr, 3e-5);
        assert_eq!(config(768, "", Some(Preset::Nano)).lr, 4e-3);
        assert_eq!(config(64, "", None).lr, 4e-3);
    }

    /// What options over a configuration file come to.
    fn over(file: &str, options: &str) -> TrainConfig {
        let [file, options]: [Settings; 2] = [file, options].map(|text| toml::from_str(text).unwrap());
        options.resolve(&file, None).unwrap().0
    }

    #[test]
    fn an_architecture_brings_its_parts() {
        let norm = |options| over("device = \"cpu\"\narch = \"gpt2\"\nnorm = \"layer\"", options).norm;
        assert_eq!(norm("arch = \"modern\""), Norm::Rms);
        assert_eq!(norm("arch = \"modern\"\nnorm = \"layer\""), Norm::Layer);
        assert_eq!(norm(""), Norm::Layer);
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
        let config = |settings: &str, preset| {
            let mut settings: Settings = toml::from_str(settings).unwrap();
            settings.device = Some(Device::Cpu);
            let config = settings.resolve(&Settings::default(), Some(preset)).unwrap().0;
            (config.optimizer, config.lr, config.min_lr, config.warmup)
        };
        let muon = (Optimizer::Muon, 4e-3, 4e-4, 20);
        assert_eq!(config("", Preset::Nano), muon);
        assert_eq!(config("optimizer = \"muon\"", Preset::Baby), muon);
        assert_eq!(config("", Preset::Baby), (Optimizer::Adamw, 1e-3, 1e-4, 100));
        // The recipe of nanoGPT, as `Preset::train` has it.
        let plain = config("optimizer = \"adamw\"", Preset::Nano);
        assert_eq!(plain, (Optimizer::Adamw, 1e-3, 1e-4, 100));
        assert_eq!(config("lr = 0.01", Preset::Nano), (Optimizer::Muon, 0.01, 4e-4, 20));
    }
}
