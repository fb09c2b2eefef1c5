//! `mlx-gpt generate`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::run::find_checkpoint;
use crate::console::{self, say};
use crate::device::Compute;
use crate::generate::Generator;
use crate::generate::sampler::Sampling;
use crate::tokenizer::StreamDecoder;

/// Write text with a trained model
///
/// Continues a prompt, one token at a time, as it comes; any length, since the model looks at the last tokens that fit
/// its context.
#[derive(Args)]
#[command(after_long_help = "\
Examples:

    mlx-gpt generate                                        more of the newest run
    mlx-gpt generate --prompt 'ROMEO:' --temperature 0.7    a speech, with fewer surprises
    mlx-gpt generate --temperature 0                        the most likely text, always the same
    mlx-gpt generate --samples 3 --seed 1 --json            for programs")]
pub struct Options {
    /// A run, or one of its step folders [default: the newest run below runs/]
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Text to continue [default: the token that begins a text; for characters, a new line]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Tokens to write
    #[arg(long, value_name = "N", default_value_t = 500)]
    max_new_tokens: usize,
    /// Higher is more daring; 0 always takes the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f32,
    /// Draw from the K most likely tokens only; 0 from all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// How many texts to write
    #[arg(long, value_name = "N", default_value_t = 1)]
    samples: u64,
    /// Repeats a draw [default: another one each time, said on standard error]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print one JSON object: texts, new token ids, their log-probabilities
    #[arg(long)]
    json: bool,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Compute>,
}

#[derive(Serialize)]
struct Output {
    samples: Vec<Sample>,
    prompt: String,
    seed: u64,
}

#[derive(Default, Serialize)]
struct Sample {
    /// The new text, without the prompt.
    text: String,
    ids: Vec<u32>,
    logprobs: Vec<f32>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    ensure!(
        options.temperature >= 0.0 && options.temperature.is_finite(),
        "temperature is {}; it must be a number, 0 or more",
        options.temperature
    );
    ensure!(options.samples >= 1, "samples is 0; it must be at least 1");
    if let Some(device) = options.device {
        device.select()?;
    }
    let folder = find_checkpoint(options.checkpoint.as_deref())?;
    let checkpoint = Checkpoint::load(&folder)?;
    let tokenizer = &checkpoint.tokenizer;
    let prompt = match &options.prompt {
        Some(text) => tokenizer.encode(text).map_err(|error| error.context("prompt"))?,
        None => tokenizer.default_prompt(),
    };
    let seed = options.seed.unwrap_or_else(|| u64::from(rand_seed()));
    say(format_args!("{} · seed {seed}", folder.display()));

    let generator = Generator::new(&checkpoint.model, &checkpoint.parameters)?;
    let sampling = Sampling {
        temperature: options.temperature,
        top_k: options.top_k,
        ..Sampling::PLAIN
    };
    let started = Instant::now();
    let mut samples = Vec::new();
    for number in 0..options.samples {
        let mut sample = Sample::default();
        let mut decoder = StreamDecoder::new(tokenizer);
        let show = |sample: &mut Sample, text: String| {
            sample.text.push_str(&text);
            if options.json { Ok(()) } else { console::print(text) }
        };
        if !options.json {
            let heading = if options.samples > 1 {
                format!("── sample {} ──\n", number + 1)
            } else {
                String::new()
            };
            console::print(&(heading + options.prompt.as_deref().unwrap_or_default()))?;
        }
        if options.max_new_tokens > 0 {
            generator.generate(&prompt, number..number + 1, &sampling, seed, |_, choice| {
                sample.ids.push(choice.id);
                sample.logprobs.push(choice.logprob);
                show(&mut sample, decoder.push(choice.id)?)?;
                Ok(sample.ids.len() < options.max_new_tokens)
            })?;
        }
        show(&mut sample, decoder.finish()?)?;
        if !options.json {
            console::print("\n")?;
        }
        samples.push(sample);
    }
    let tokens: usize = samples.iter().map(|sample| sample.ids.len()).sum();
    say(format_args!(
        "{tokens} tokens, {:.0} a second",
        tokens as f64 / started.elapsed().as_secs_f64()
    ));
    if options.json {
        let output = Output {
            samples,
            prompt: tokenizer.decode(&prompt)?,
            seed,
        };
        console::print(&(serde_json::to_string(&output)? + "\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A seed that differs from one start of the program to the next, short enough to type.
fn rand_seed() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u32
}
