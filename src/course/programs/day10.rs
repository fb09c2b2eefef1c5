//! Day 10: the figures and claims of its chapter, in its order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;

use mlx_rs::error::Result;
use mlx_rs::{Array, random};

use super::day08::FURTHER;
use super::{drawings, new_tokens};
use crate::config::{Device, ModelConfig, Preset, TrainConfig};
use crate::course::day03::Weights;
use crate::course::day10::{from_hugging_face, from_linear, lora, merge_lora};
use crate::data::corpus::Split;
use crate::disk::durable;
use crate::lessons::arrays::largest_difference;
use crate::lessons::claims::{CheckResult, lower_loss};
use crate::lessons::finetuned::{self, adapters, before_and_after, choices, continued};
use crate::lessons::page::Page;
use crate::lessons::pytorch::PyTorch;
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::model::init::{initialize, initialize_adapters, parameter_count};
use crate::model::linear::lora::{self as library, LoraAdapter};
use crate::model::parameters::Parameters;
use crate::terminal::console::say;
use crate::tokenizer::Tokenizer;

/// Day 10.
pub const LESSON: Lesson = Lesson {
    day: 10,
    title: "OpenAI's GPT-2, and finetuning",
    teaches: "a model trained on one thing is trained on another, and measured before and after",
    chapter: include_str!("../../../book/src/day-10.md"),
    models: &[BASE, FINETUNED],
    needs: &[FURTHER.folder],
    program,
};

/// Small enough that a vocabulary of 50257 can be trained in a minute: nearly all of it is the table of tokens.
fn small(config: TrainConfig, lr: f32, min_lr: f32) -> TrainConfig {
    TrainConfig {
        lr,
        min_lr,
        tokenizer: "gpt2".into(),
        layers: 2,
        heads: 4,
        embd: 64,
        context: 32,
        batch_size: 8,
        dropout: 0.0,
        steps: 150,
        warmup: 15,
        eval_every: 50,
        eval_batches: 5,
        save_every: 150,
        ..config
    }
}

/// Text of another kind than plays: a part of this program's sources, as they once were, so that the model learns the same in every
/// version.
const RUST: &str = include_str!("../../../assets/rust.txt");

/// The stand-in for OpenAI's model.
const BASE: Recipe = Recipe {
    folder: "day-10-base",
    what: "GPT-2's vocabulary, Rust code",
    change: |config| small(config, 4e-3, 4e-4),
    starts_from: None,
    band: (8.8, 9.8),
};

/// The stand-in, finetuned.
pub const FINETUNED: Recipe = Recipe {
    folder: "day-10",
    what: "the same, finetuned on plays",
    change: |config| small(config, 2e-3, 2e-4),
    starts_from: Some(BASE.folder),
    band: (6.4, 6.65),
};

fn program(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    let gpt2 = Tokenizer::gpt2()?;
    let vocab_size = gpt2.vocab_size();
    page.figure("vocabulary.txt", || {
        let text = workspace.text(Split::Train);
        let ids = gpt2.encode(text)?;
        let different = ids.iter().collect::<BTreeSet<_>>().len();
        let mut out = format!(
            "tokens in the vocabulary       {vocab_size:>9}\nln(vocabulary)                 {:>9.2}\n\
             tokens of the training text    {:>9}, {:.2} bytes each\ndifferent ones among them      {different:>9}\n\n\
             parameters, in millions               all   its table of tokens\n",
            (vocab_size as f64).ln(),
            ids.len(),
            text.len() as f64 / ids.len() as f64,
        );
        for (name, preset) in [
            ("gpt2", Preset::Gpt2),
            ("gpt2-medium", Preset::Gpt2Medium),
            ("gpt2-large", Preset::Gpt2Large),
            ("gpt2-xl", Preset::Gpt2Xl),
        ] {
            let model = preset.model_config(vocab_size);
            let all = parameter_count(&model) as f64 / 1e6;
            let wte = (vocab_size * model.embd) as f64 / 1e6;
            let percent = format!("{:>3.0} %", 100.0 * wte / all);
            writeln!(out, "{name:<12}                   {all:>10.1}  {wte:>10.1}  {percent}")?;
        }
        Ok(out)
    })?;
    page.claim(
        "GPT-2's vocabulary is 256 bytes, 50000 merges and one special token",
        "gpt2 in src/tokenizer/published.rs",
        || {
            let holds = vocab_size == 256 + 50_000 + 1 && gpt2.special_tokens().len() == 1;
            Ok(CheckResult::passes_if(holds, format!("{vocab_size} tokens")))
        },
    )?;

    page.figure("base.txt", || {
        let path = workspace.folder("day-10-rust.txt");
        let _made = durable::make_parents(&path)?;
        durable::write_file(&path, RUST.as_bytes())?;
        let results = workspace.train_on_corpus(&BASE, &path, None)?;
        Ok(format!(
            "learned from {}, {} bytes\n{} parameters, {} steps in {:.0} s\n\n{}\n",
            path.display(),
            fs::metadata(&path)?.len(),
            results.parameters,
            results.steps,
            results.seconds,
            continued(workspace, &workspace.load(BASE.folder)?, "pub fn ")?
        ))
    })?;
    page.figure("before.txt", || {
        let results = workspace.results(BASE.folder)?;
        Ok(format!(
            "on the validation text of the plays: {:.4} nats per token, {:.4} bits per byte\n\
             guessing among all tokens alike:     {:.4} nats per token\n",
            results.val_loss,
            results.bits_per_byte,
            (vocab_size as f64).ln()
        ))
    })?;
    page.figure("training.txt", || Ok(workspace.train(&FINETUNED)?.summary()))?;
    page.figure("comparison.txt", || {
        let mut out = String::from("                                     nats per token  bits per byte\n");
        for (name, folder) in [
            ("before: learned from Rust code", BASE.folder),
            ("after: finetuned on the plays", FINETUNED.folder),
            ("day 2, of characters", "day-02"),
            ("day 8, of characters", "day-08"),
        ] {
            if let Ok(results) = workspace.results(folder) {
                let (nats, bits) = (results.val_loss, results.bits_per_byte);
                writeln!(out, "{name:<35}  {nats:>14.4}  {bits:>13.4}")?;
            }
        }
        Ok(out)
    })?;
    page.claim(
        "finetuning lowers the loss on plays that it has not seen",
        "the training: `lesson 10`",
        || lower_loss(workspace, &FINETUNED, &BASE),
    )?;
    page.claim(
        "bits per byte are the loss times tokens, divided by bytes and ln 2",
        "evaluate_checkpoint in src/evaluate/text.rs",
        || {
            let (results, text) = (workspace.results(FINETUNED.folder)?, workspace.text(Split::Val));
            let ids = gpt2.encode(text)?;
            // The first token is given, not predicted.
            let bytes = text.len() - gpt2.token_bytes(ids[0]).map_or(0, |bytes| bytes.len());
            let bits = results.val_loss * (ids.len() - 1) as f64 / std::f64::consts::LN_2 / bytes as f64;
            // The same numbers in float64, divided in another order.
            let off = (bits - results.bits_per_byte).abs() as f32;
            Ok(CheckResult::within_tolerance(off, 1e-9))
        },
    )?;
    page.figure("samples.txt", || {
        let prompt = "HAMLET:\nTo be, or not to be";
        let of = |recipe: &Recipe| continued(workspace, &workspace.load(recipe.folder)?, prompt);
        Ok(before_and_after(&of(&BASE)?, &of(&FINETUNED)?))
    })?;
    page.figure("endings.txt", || {
        say("asking for endings");
        let (before, after) = (workspace.load(BASE.folder)?, workspace.load(FINETUNED.folder)?);
        let ((questions, before), (_, after)) = (choices(&before)?, choices(&after)?);
        let question = &questions[0];
        let mut out = format!("{}\n", gpt2.decode(&question.ctx)?);
        for (number, ending) in question.endings.iter().enumerate() {
            let right = if number == question.label { "right" } else { "" };
            let [before, after] = [&before, &after].map(|result| result.scores[0].losses[number]);
            let ending = gpt2.decode(ending)?;
            let losses = format!("before {before:>6.2}  after {after:>6.2} nats");
            writeln!(out, " {ending:<22}  {right:<5}  {losses}")?;
        }
        let chances = questions.iter().map(|question| 1.0 / question.endings.len() as f64);
        let (guessing, count) = (chances.sum::<f64>() / questions.len() as f64, questions.len());
        let accuracy = format!("before {:.2}  after {:.2}", before.accuracy, after.accuracy);
        out += &format!("\nright, of {count} questions  {accuracy}  guessing {guessing:.2}\n");
        Ok(out)
    })?;

    // A model of a small vocabulary, with adapters as they begin, and with others.
    let plain = small(Preset::Nano.train_config(Device::Cpu), 0.0, 0.0).model_config(16);
    let model = ModelConfig {
        lora: Some(adapters()),
        ..plain.clone()
    };
    let base = initialize(&plain, workspace.seed())?;
    let new = initialize_adapters(&model, workspace.seed())?;
    let learned = base.union(&new.map(|array| array.add(Array::from_f32(0.01)))?);
    let layer = "h.0.attn.c_attn";
    let part = |parameters: &Parameters, part: &str| parameters.get(&format!("{layer}.{part}")).cloned();
    let [weight, a, b] = ["weight", library::A, library::B].map(|name| part(&learned, name));
    let (weight, a, b, scale) = (weight?, a?, b?, adapters().scale()); // [in, out], [rank, in], [out, rank]
    let x = random::normal::<f32>(&[1, 8, weight.dim(0)], None, None, &random::key(workspace.seed())?)?;
    page.claim(
        "new adapters change nothing; beside a weight and merged into it they compute the same, which is the library's",
        "lora and merge_lora in src/course/day10.rs, merge and LoraAdapter in src/model/linear/lora.rs",
        || {
            let new = lora(&x, &weight, &part(&new, library::A)?, &part(&new, library::B)?, scale)?;
            let changed = largest_difference(&new, &x.matmul(&weight)?)?; // a product with zeros was added
            let beside = lora(&x, &weight, &a, &b, scale)?;
            let merged = merge_lora(&weight, &a, &b, scale)?;
            let merged_off = largest_difference(&x.matmul(&merged)?, &beside)?;
            let adapter = LoraAdapter::new(&learned.under(layer), &model)?.map(|adapter| adapter.forward(&x));
            let added = adapter.transpose()?.unwrap_or_else(|| Array::from_f32(0.0));
            let library_off = largest_difference(&x.matmul(&weight)?.add(added)?, &beside)?;
            let (_, parameters) = library::merge(&model, &learned)?;
            let weights_off = largest_difference(&part(&parameters, "weight")?, &merged)?;
            let measured =
                format!("new {changed}, merged {merged_off:.1e}, library {library_off:.1e} {weights_off:.1e}");
            // Numbers around 1: sums of some 64 products in float32, in another order.
            let holds = changed == 0.0 && [merged_off, library_off, weights_off].iter().all(|&off| off <= 1e-5);
            Ok(CheckResult::passes_if(holds, measured))
        },
    )?;
    page.figure("adapters.txt", || {
        let rank = adapters().rank;
        let mut out = format!("rank {rank}\n\nbeside                 W          A and B\n");
        for layer in ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"] {
            let shape = |part: &str| anyhow::Ok(format!("{:?}", learned.get(&format!("h.0.{layer}.{part}"))?.shape()));
            let (w, a, b) = (shape("weight")?, shape(library::A)?, shape(library::B)?);
            writeln!(out, "{layer:<12}  {w:>10}  {a:>9} and {b}")?;
        }
        let (learning, config) = (new.count(), workspace.config(&BASE)?);
        let frozen = parameter_count(&config.model_config(vocab_size));
        let percent = 100.0 * learning as f64 / (learning + frozen) as f64;
        out += &format!("\n{learning} parameters learn, {percent:.1} % of all; {frozen} stay as they are\n");
        Ok(out)
    })?;

    new_tokens::special(page, workspace)?;
    new_tokens::compressed_prompt(page, workspace)?;
    drawings::program(page, workspace)?;

    let stored = || -> anyhow::Result<BTreeMap<String, Array>> {
        let path = workspace.checkpoint(BASE.folder)?.join("model.safetensors");
        Ok(Array::load_safetensors(path)?.into_iter().collect())
    };
    page.figure("file.txt", || {
        let tensors = stored()?;
        let mut out = format!("{} tensors, some of them:\n\n", tensors.len());
        for (name, array) in tensors.iter().filter(|(name, _)| !name.contains("h.1.")) {
            writeln!(out, "{name:<24} {:?}", array.shape())?;
        }
        Ok(out)
    })?;
    page.claim(
        "weights are read as Hugging Face, this program and nanoGPT store them, with the tied head or without",
        "from_hugging_face and from_linear in src/course/day10.rs, read in src/checkpoint/weights.rs",
        || {
            let weights = Weights::from(&PyTorch::read()?.parameters);
            let named = |(name, array): (&String, &Array)| (format!("transformer.{name}"), array.clone());
            let mut both: BTreeMap<String, Array> = weights.iter().map(named).collect();
            both.insert("transformer.h.0.attn.bias".into(), Array::from_f32(1.0));
            both.insert("lm_head.weight".into(), weights["wte.weight"].clone());
            let mut untied = both.clone();
            untied.insert("lm_head.weight".into(), Array::from_f32(0.0));
            let mut head = both.clone();
            head.remove("transformer.wte.weight");
            let mut transposed = both.clone();
            for (name, array) in &mut transposed {
                if name.contains(".h.") && array.ndim() == 2 {
                    *array = array.transpose()?;
                }
            }
            let mut equal = from_hugging_face(untied).is_err();
            equal &= same(
                &from_hugging_face(stored()?)?,
                &Weights::from(&workspace.load(BASE.folder)?.parameters),
            )?;
            let read = [
                from_hugging_face(both),
                from_hugging_face(head),
                from_linear(transposed),
            ];
            for read in read {
                equal &= same(&read?, &weights)?;
            }
            Ok(CheckResult::passes_if(equal, format!("{} arrays", weights.len())))
        },
    )?;
    page.figure("openai.txt", || finetuned::openai(workspace))
}

/// Whether two sets of weights are equal.
fn same(a: &Weights, b: &Weights) -> Result<bool> {
    let mut equal = a.keys().eq(b.keys());
    for (a, b) in a.values().zip(b.values()) {
        equal = equal && a.eq_values(b)?;
    }
    Ok(equal)
}
