//! Day 9: the figures and claims of its chapter, in its order.

use std::fmt::Write;

use mlx_rs::error::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype, ops, random};

use super::day08::FURTHER;
use super::unused;
use crate::config::Preset;
use crate::course::day02::{cross_entropy, sample};
use crate::course::day03::Weights;
use crate::course::day07::{Shape, gpt, initialize};
use crate::course::day09::{
    Cache, cache_bytes, generate, gpt_with_cache, min_p, push, ranked, repetition_penalty, softmax, temperature, top_k,
    top_p,
};
use crate::data::corpus::Split;
use crate::generate::sampler::{SampledToken, Sampling};
use crate::lessons::Lesson;
use crate::lessons::arrays::{largest, largest_difference, token_labels};
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::pictures::{Axes, Series, bars, curves, text_bars};
use crate::lessons::training::interleaved;
use crate::lessons::workspace::Workspace;
use crate::measure::bench::timing::{median, milliseconds};
use crate::model::Model;
use crate::model::kv_cache::KvCache;
use crate::terminal::console::say;

/// Day 9.
pub const LESSON: Lesson = Lesson {
    day: 9,
    title: "Generation",
    teaches: "temperature, top-k, top-p, min-p, penalties and seeds on real logits; the key-value cache",
    chapter: include_str!("../../../book/src/day-09.md"),
    models: &[],
    needs: &[FURTHER.folder],
    program,
};

fn program(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    let checkpoint = workspace.load(FURTHER.folder)?;
    let (weights, shape) = (Weights::from(&checkpoint.parameters), Shape::from(&checkpoint.model));
    let (tokenizer, context) = (&checkpoint.tokenizer, shape.context as usize);
    // The beginning of the validation text, up to the beginning of a word, where many tokens are likely.
    let beginning: String = workspace.text(Split::Val).chars().take(40).collect();
    let prompt = tokenizer.encode(&beginning[..beginning.rfind(' ').map_or(beginning.len(), |blank| blank + 1)])?;
    let last_logits = gpt(&row(&prompt), &weights, &shape)?.try_index((0, -1))?;
    let logits: Vec<f32> = last_logits.to_vec_exact()?; // [V]
    let likely: Vec<u32> = ranked(&logits).iter().take(12).map(|&id| id as u32).collect();
    let labels = token_labels(tokenizer, &likely)?;
    let of_likely = |name: &str, changed: &[f32]| {
        let probabilities = softmax(changed);
        let shown = likely.iter().map(|&id| f64::from(probabilities[id as usize]));
        (name.to_owned(), shown.collect())
    };
    page.figure("logits.txt", || {
        let with_logit = |(label, &id): (&String, &u32)| format!("{label} {:>9.2}", logits[id as usize]);
        let labels: Vec<String> = labels.iter().zip(&likely).map(with_logit).collect();
        let table = text_bars("token  logit", &labels, &[of_likely("probability", &logits)]);
        let prompt = token_labels(tokenizer, &prompt)?.concat();
        Ok(format!("after  {prompt}\n\n{table}"))
    })?;
    let temperatures = [0.5, 1.0, 2.0].map(|t| of_likely(&t.to_string(), &temperature(&logits, t)));
    page.figure("temperature.txt", || Ok(text_bars("token", &labels, &temperatures)))?;
    page.figure("temperature.svg", || bars("Temperature", &labels, &temperatures))?;
    let filters = [
        of_likely("all", &logits),
        of_likely("top-k 3", &top_k(&logits, 3)),
        of_likely("top-p 0.8", &top_p(&logits, 0.8)),
        of_likely("min-p 0.1", &min_p(&logits, 0.1)),
    ];
    page.figure("filters.txt", || Ok(text_bars("token", &labels, &filters)))?;
    page.figure("filters.svg", || bars("What filters leave", &labels, &filters))?;
    page.claim(
        "temperature, top-k, top-p, min-p and penalty leave the library's probabilities",
        "softmax, temperature, top_k, top_p, min_p and repetition_penalty in src/course/day09.rs",
        || {
            let off = |ours: Vec<f32>, change: fn(&mut Sampling)| {
                let mut library = Sampling::PLAIN;
                change(&mut library);
                let kept = library.candidates(&logits, &prompt);
                let total: f32 = kept.iter().map(|token| token.weight).sum();
                let mut left = softmax(&ours);
                for token in kept {
                    left[token.id as usize] -= token.weight / total;
                }
                largest(left)
            };
            let off = largest([
                off(logits.clone(), |_| ()),
                off(temperature(&logits, 0.5), |library| library.temperature = 0.5),
                off(top_k(&logits, 3), |library| library.top_k = 3),
                off(top_p(&logits, 0.8), |library| library.top_p = 0.8),
                off(min_p(&logits, 0.1), |library| library.min_p = 0.1),
                off(repetition_penalty(&logits, &prompt, 1.5), |library| {
                    library.repetition_penalty = 1.5
                }),
            ]);
            // Fractions of 1 in float32.
            Ok(CheckResult::within_tolerance(off, 1e-6))
        },
    )?;

    // Tokens after the prompt, with the logarithms of the probabilities that the model gave them.
    let written = |seed: u64, tokens: usize, t: f32| -> anyhow::Result<(Vec<u32>, Vec<f32>)> {
        let uniforms = random::uniform::<_, f32>(0.0, 1.0, &[tokens as i32], &random::key(seed)?)?;
        let mut uniforms = uniforms.to_vec_exact::<f32>()?.into_iter();
        let mut logprobs = Vec::new();
        let ids = generate(&prompt, tokens, &weights, &shape, &mut |logits, _| {
            let id = sample(&softmax(&temperature(logits, t)), uniforms.next().unwrap_or_default());
            logprobs.push(softmax(logits)[id as usize].ln());
            id
        })?;
        Ok((ids, logprobs))
    };
    let greedy = |tokens, penalty| {
        generate(&prompt, tokens, &weights, &shape, &mut |logits, seen| {
            ranked(&repetition_penalty(logits, seen, penalty))[0] as u32
        })
    };
    page.figure("greedy.txt", || {
        let mut text = String::new();
        for (name, ids) in [
            ("greedy", greedy(400, 1.0)?),
            ("greedy, repetition penalty 1.3", greedy(400, 1.3)?),
            ("temperature 0.8", written(1, 400, 0.8)?.0),
        ] {
            let found = period(&ids).map_or("no loop".into(), |period| format!("a loop of {period} tokens"));
            let shown = tokenizer.decode(&ids[..240])?;
            writeln!(text, "— {name}; at its end {found}:\n{}\n", shown.trim_matches('\n'))?;
        }
        Ok(text)
    })?;
    page.figure("penalty.txt", || {
        let penalized = of_likely("penalty 1.5", &repetition_penalty(&logits, &prompt, 1.5));
        let star = |id| if prompt.contains(id) { "*" } else { "" };
        let starred: Vec<String> = labels
            .iter()
            .zip(&likely)
            .map(|(label, id)| label.clone() + star(id))
            .collect();
        let table = text_bars("token", &starred, &[of_likely("none", &logits), penalized]);
        Ok(format!("{table}\n* is in the prompt\n"))
    })?;

    page.figure("seeds.txt", || {
        let mut text = String::new();
        for seed in [1, 2, 3, 1] {
            let ids = written(seed, 60, 1.0)?.0;
            writeln!(text, "seed {seed}  {}", token_labels(tokenizer, &ids)?.concat())?;
        }
        Ok(text)
    })?;
    page.claim(
        "the same seed gives the same text",
        "generate in src/course/day09.rs: `choose` must be its only source of chance",
        || {
            let [first, other, again] = [written(1, 40, 1.0)?, written(2, 40, 1.0)?, written(1, 40, 1.0)?];
            let measured = "seed 1 twice, then seed 2".into();
            Ok(CheckResult::passes_if(first == again && first != other, measured))
        },
    )?;

    let (ids, logprobs) = written(1, 24.min(context - prompt.len()), 1.0)?;
    let by_sampling = -logprobs.iter().sum::<f32>() / logprobs.len() as f32;
    let whole = row(&[&prompt[..], &ids].concat()); // [1, T]
    let new = -(ids.len() as i32)..;
    let predictions = gpt(&whole.try_index((.., ..-1))?, &weights, &shape)?.try_index((.., new.clone()))?;
    let by_loss: f32 = cross_entropy(&predictions, &whole.try_index((.., new))?)?.try_item_exact()?;
    page.figure("logprobs.txt", || {
        let with_logprob = |(label, logprob): (String, &f32)| format!("{label} {logprob:>19.3}");
        let labels = token_labels(tokenizer, &ids)?
            .into_iter()
            .zip(&logprobs)
            .map(with_logprob);
        let probabilities = logprobs.iter().map(|logprob| f64::from(logprob.exp()));
        let column = ("probability".to_owned(), probabilities.collect());
        let table = text_bars(
            "token  log-probability",
            &labels.take(12).collect::<Vec<_>>(),
            &[column],
        );
        let count = ids.len();
        Ok(format!(
            "{table}\nminus the mean of all {count}    {by_sampling:.5}\nthe loss on the same tokens {by_loss:.5}\n"
        ))
    })?;
    page.claim(
        "minus the mean log-probability of a text is the model's loss on it",
        "softmax and generate in src/course/day09.rs, cross_entropy in src/course/day02.rs",
        // Float32 log-probabilities, by the cache and without it.
        || Ok(CheckResult::within_tolerance((by_sampling - by_loss).abs(), 1e-4)),
    )?;

    let mut sizes = Vec::new();
    for (name, model) in [
        ("day 8", checkpoint.model.clone()),
        ("gpt2", Preset::Gpt2.model_config(50257)),
        ("gpt2-medium", Preset::Gpt2Medium.model_config(50257)),
        ("gpt2-large", Preset::Gpt2Large.model_config(50257)),
        ("gpt2-xl", Preset::Gpt2Xl.model_config(50257)),
    ] {
        let library = KvCache::new(&model, 1, Dtype::Float32)?.bytes();
        sizes.push((name, Shape::from(&model), library));
    }
    page.figure("cache.txt", || {
        let mut text = String::from("model        layers  width  context      by hand   in the library\n");
        for (name, shape, library) in &sizes {
            let (l, c, t, by_hand) = (shape.layers, shape.embd, shape.context, cache_bytes(shape));
            writeln!(text, "{name:<12} {l:>6} {c:>6} {t:>8} {by_hand:>12} {library:>16}")?;
        }
        Ok(text)
    })?;
    page.claim(
        "the cache has as many bytes as counted by hand",
        "cache_bytes in src/course/day09.rs, KvCache::new in src/model/kv_cache.rs",
        || {
            let same = sizes.iter().all(|(_, shape, library)| cache_bytes(shape) == *library);
            Ok(CheckResult::passes_if(same, "day 8's, four published sizes".into()))
        },
    )?;

    let text: String = workspace.text(Split::Val).chars().take(context + 3).collect();
    let text = tokenizer.encode(&text)?;
    let ids = row(&text[..context]);
    let log_softmax = |logits: Array| logits.subtract(logits.logsumexp_axis(-1, true)?);
    let at_once = log_softmax(gpt(&ids, &weights, &shape)?)?; // [1, T, V]
    // ANCHOR: both
    let mut cache = Cache::new(shape.layers);
    let mut one_by_one = Vec::new();
    for at in 0..ids.dim(1) {
        let id = ids.try_index((.., at..at + 1))?; // [1, 1]
        one_by_one.push(gpt_with_cache(&id, &weights, &shape, &mut cache)?); // [1, 1, V]
    }
    // ANCHOR_END: both
    let model = Model::new(&checkpoint.model, &checkpoint.parameters)?;
    let mut cache = KvCache::new(&checkpoint.model, 1, Dtype::Float32)?;
    let by_library = (0..ids.dim(1)).map(|at| {
        let id = ids.try_index((.., at..at + 1))?; // [1, 1]
        model.forward_cached(&id, &mut cache)?.expand_dims(1) // [1, 1, V]
    });
    let by_library = by_library.collect::<Result<Vec<_>>>()?;
    let off = |parts: &[Array]| largest_difference(&log_softmax(ops::concatenate(parts, 1)?)?, &at_once);
    let (ours, library) = (off(&one_by_one)?, off(&by_library)?);
    page.figure("same.txt", || {
        Ok(format!(
            "log-probabilities {:?}\nlargest difference of one by one from at once: by hand {ours:.1e}, in the library {library:.1e}\n",
            at_once.shape()
        ))
    })?;
    page.claim(
        "log-probabilities are the same with the cache and without it, in the library too",
        "gpt_with_cache in src/course/day09.rs, Gpt::forward_cached in src/model/gpt.rs",
        // Log-probabilities of up to 20 in float32 through all layers, each product with another order of sums.
        || Ok(CheckResult::within_tolerance(largest([ours, library]), 1e-4)),
    )?;

    let mut times = [Vec::new(), Vec::new()];
    page.figure("timing.txt", || {
        times = time_of_a_token(&shape, workspace.seed())?;
        let mut text = String::from("tokens so far      no cache   with the cache\n");
        for ((tokens, anew), (_, cached)) in times[0].iter().zip(&times[1]) {
            writeln!(text, "{tokens:>13} {anew:>10.2} ms {cached:>13.2} ms")?;
        }
        Ok(text + "\n(medians of 5 rounds)\n")
    })?;
    page.figure("timing.svg", || {
        let [anew, cached] = times;
        let lines = [("without the cache", anew), ("with the cache", cached)];
        let axes = Axes::new("Time of one more token", "tokens so far", "milliseconds");
        curves(&axes, &lines.map(|(name, points)| Series::new(name, points)))
    })?;

    page.figure("full.txt", || {
        let mut lines = String::from("tokens of the text  in context   computed for the next\n");
        let (mut window, mut cached) = (Vec::new(), 0);
        for (count, &id) in (1..).zip(&text) {
            if push(&mut window, id, context) {
                cached = 0;
            }
            if count + 2 > context {
                let (seen, new) = (window.len(), window.len() - cached);
                writeln!(lines, "{count:>18} {seen:>11} {new:>23}")?;
            }
            cached = window.len();
        }
        Ok(lines)
    })?;
    page.claim(
        "a full context continues from its last half: the library writes the same most likely tokens",
        "push and generate in src/course/day09.rs, ContextWindow::push in src/generate/window.rs",
        || {
            let (ours, mut library) = (greedy(context + 8, 1.0)?, Vec::new());
            let each = |_, token: SampledToken| {
                library.push(token.id);
                Ok(library.len() < ours.len())
            };
            let generator = checkpoint.generator()?;
            generator.generate(&prompt, 0..1, &Sampling::GREEDY, 0, each)?;
            let measured = format!("{} tokens after {} in a context of {context}", ours.len(), prompt.len());
            Ok(CheckResult::passes_if(ours == library, measured))
        },
    )?;
    unused::find(page, workspace)
}

/// Tokens as a batch of one row, `[1, T]`.
fn row(ids: &[u32]) -> Array {
    Array::from_slice(ids, &[1, ids.len() as i32])
}

/// The period of a repetition at the end, if there is one: of the fewest tokens that come three times.
fn period(ids: &[u32]) -> Option<usize> {
    let end = |length: usize, after: usize| &ids[ids.len() - after - length..ids.len() - after];
    (1..=ids.len() / 3).find(|&period| end(2 * period, 0) == end(2 * period, period))
}

/// Milliseconds of one more token by the length of the text, computing everything anew, and with the cache: medians.
fn time_of_a_token(shape: &Shape, seed: u64) -> anyhow::Result<[Vec<(f64, f64)>; 2]> {
    say("day 9: timing tokens with the cache and without it");
    let shape = Shape { context: 256, ..*shape }; // longer than day 8's, so that the difference is visible
    let key = random::key(seed)?;
    let weights = initialize(&shape, &key)?; // time does not depend on what the weights are
    let ids = random::randint::<i32, u32>(0, shape.vocab_size, &[1, shape.context], &key)?;
    eval(weights.values().chain([&ids]))?;
    let mut points = [Vec::new(), Vec::new()];
    for tokens in (32..=shape.context).step_by(32) {
        let (all, last) = (ids.try_index((.., ..tokens))?, ids.try_index((.., tokens - 1..tokens))?);
        let mut before = Cache::new(shape.layers);
        gpt_with_cache(&ids.try_index((.., ..tokens - 1))?, &weights, &shape, &mut before)?.eval()?;
        let mut anew = || Ok(gpt(&all, &weights, &shape)?.eval()?);
        let mut cached = || {
            let mut cache = Cache(before.0.clone());
            Ok(gpt_with_cache(&last, &weights, &shape, &mut cache)?.eval()?)
        };
        let times = interleaved(5, &mut [&mut anew, &mut cached])?;
        for (points, times) in points.iter_mut().zip(times) {
            points.push((tokens.into(), milliseconds(median(times))));
        }
    }
    Ok(points)
}
