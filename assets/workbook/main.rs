//! My GPT-2. I write `day00.rs` to `day14.rs`; this file only hands their functions to the checks. `mlx-gpt lesson check 4 --mine`
//! says of each function of day 4 whether it is right.

#![allow(unused, reason = "a function that is not written yet uses nothing")]

mod day00;
mod day01;
mod day02;
mod day03;
mod day04;
mod day05;
mod day06;
mod day07;
mod day08;
mod day09;
mod day10;
mod day11;
mod day12;
mod day13;
mod day14;

use mlx_gpt_workbook::{
    Answers, Day00, Day01, Day02, Day03, Day04, Day05, Day06, Day07, Day08, Day09, Day10, Day11, Day12, Day13, Day14,
};

fn main() -> std::process::ExitCode {
    mlx_gpt_workbook::main(&Answers {
        day00: Day00 {
            backward: day00::backward,
            two_layer_gradients: day00::two_layer_gradients,
        },
        day01: Day01 {
            utf8: day01::utf8,
            count_pairs: day01::count_pairs,
            most_frequent: day01::most_frequent,
            merge: day01::merge,
            train: day01::train,
            encode: day01::encode,
            decode: day01::decode,
        },
        day02: Day02 {
            split: day02::split,
            get_batch: day02::get_batch,
            bigram_logits: day02::bigram_logits,
            cross_entropy: day02::cross_entropy,
            sample: day02::sample,
            count_bigrams: day02::count_bigrams,
        },
        day03: Day03 {
            one_hot: day03::one_hot,
            embed: day03::embed,
            mean_by_loop: day03::mean_by_loop,
            mean_weights: day03::mean_weights,
            causal_mask: day03::causal_mask,
            mean_by_softmax: day03::mean_by_softmax,
        },
        day04: Day04 {
            linear: day04::linear,
            scores: day04::scores,
            attention_weights: day04::attention_weights,
            queries_keys_values: day04::queries_keys_values,
            one_head: day04::one_head,
        },
        day05: Day05 {
            heads_by_loop: day05::heads_by_loop,
            split_heads: day05::split_heads,
            merge_heads: day05::merge_heads,
            multi_head_attention: day05::multi_head_attention,
        },
        day06: Day06 {
            gelu: day06::gelu,
            mlp: day06::mlp,
            block: day06::block,
            normalize: day06::normalize,
            layer_norm: day06::layer_norm,
            dropout: day06::dropout,
        },
        day07: Day07 {
            gpt: |ids, weights, shape| day07::gpt(ids, weights, &my(shape)),
            logits: day07::logits,
            initialize: |shape, key| day07::initialize(&my(shape), key),
            parameter_count: |shape| day07::parameter_count(&my(shape)),
        },
        day08: Day08 {
            loss_and_gradients: |weights, ids, targets, shape| {
                day08::loss_and_gradients(weights, ids, targets, &my(shape))
            },
            adamw: day08::adamw,
            learning_rate: day08::learning_rate,
            clip: day08::clip,
            train_step: |state, batch, numbers, shape, with| {
                day08::train_step(state, batch, numbers, &my(shape), &hyperparameters(with))
            },
            compiled_step: |names, shape, with| day08::compiled_step(names, my(&shape), hyperparameters(&with)),
            bits_per_byte: day08::bits_per_byte,
        },
        day09: Day09 {
            softmax: day09::softmax,
            temperature: day09::temperature,
            top_k: day09::top_k,
            top_p: day09::top_p,
            min_p: day09::min_p,
            repetition_penalty: day09::repetition_penalty,
            attention_with_cache: day09::attention_with_cache,
            gpt_with_cache: |pieces, weights, shape| {
                let mut cache = day09::Cache::new(shape.layers);
                let logits = pieces
                    .iter()
                    .map(|ids| day09::gpt_with_cache(ids, weights, &my(shape), &mut cache));
                logits.collect()
            },
            cache_bytes: |shape| day09::cache_bytes(&my(shape)),
            push: day09::push,
            generate: |prompt, tokens, weights, shape, choose| {
                Ok(day09::generate(prompt, tokens, weights, &my(shape), choose)?)
            },
            moved: day09::moved,
        },
        day10: Day10 {
            from_hugging_face: day10::from_hugging_face,
            from_linear: day10::from_linear,
            lora: day10::lora,
            merge_lora: day10::merge_lora,
        },
        day11: Day11 {
            masked_cross_entropy: day11::masked_cross_entropy,
            reversed_sum: day11::reversed_sum,
        },
        day12: Day12 {
            shared_windows: day12::shared_windows,
        },
        day13: Day13 {
            add_tokens: day13::add_tokens,
            answer_targets: day13::answer_targets,
        },
        day14: Day14 {
            advantages: day14::advantages,
            kl_k3: day14::kl_k3,
            dpo_loss: day14::dpo_loss,
        },
    })
}

/// A shape of the checks as my own.
fn my(shape: &mlx_gpt_workbook::Shape) -> day07::Shape {
    day07::Shape {
        vocab_size: shape.vocab_size,
        context: shape.context,
        layers: shape.layers,
        heads: shape.heads,
        embd: shape.embd,
    }
}

fn hyperparameters(with: &mlx_gpt_workbook::Hyperparameters) -> day08::Hyperparameters {
    day08::Hyperparameters {
        beta2: with.beta2,
        weight_decay: with.weight_decay,
        grad_clip: with.grad_clip,
    }
}
