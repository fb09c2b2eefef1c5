//! The library's surface, as another program uses it.

use std::path::Path;

use crate::common::{folder, generate, random_checkpoint, saved, stdout, succeed, trained};
use mlx_gpt::config::Device;
use mlx_gpt::generate::sampler::Sampling;
use mlx_gpt::tokenizer::CharTokenizer;
use mlx_gpt::{CompletionOptions, ErrorKind, FinishReason, LanguageModel, Token, Tokenizer};
use serde_json::Value;

fn options(max_new_tokens: usize) -> CompletionOptions {
    CompletionOptions {
        max_new_tokens,
        seed: 7,
        ..CompletionOptions::default()
    }
}

/// A run and the program's own words of it: one call loads what `generate` loads, and writes what it writes.
#[test]
fn a_run_is_loaded_in_one_call_and_writes_what_the_program_writes() {
    Device::Cpu.select().unwrap();
    let folder = folder();
    let run = trained(folder.path(), "2");
    let model = LanguageModel::load(&run).unwrap();
    let program = ["--prompt", "ROMEO:", "--seed", "7", "--max-new-tokens", "40", "--json"];
    let json: Value = serde_json::from_str(&stdout(&succeed(&mut generate(folder.path(), &program)))).unwrap();

    let whole = model.complete("ROMEO:", &options(40)).unwrap();
    assert_eq!(json["samples"][0]["text"], whole.text);
    assert_eq!(json["samples"][0]["ids"], serde_json::json!(whole.ids));
    assert_eq!(whole.finish_reason, Some(FinishReason::Length));

    let tokens: Vec<Token> = model
        .stream("ROMEO:", &options(40))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let texts: String = tokens.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(texts, whole.text);
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    assert_eq!(ids, whole.ids);
    let step = LanguageModel::load(run.join("latest")).unwrap();
    assert_eq!(step.complete("ROMEO:", &options(40)).unwrap().text, whole.text);
}

/// A model of random weights.
fn random_model() -> LanguageModel {
    Device::Cpu.select().unwrap();
    let folder = folder();
    let tokenizer = CharTokenizer::from_text("abcdefgh\n").into();
    let checkpoint = saved(random_checkpoint(folder.path(), tokenizer, 16, 2));
    LanguageModel::load(&checkpoint.folder).unwrap()
}

#[test]
fn samples_side_by_side_are_what_each_is_alone() {
    let model = random_model();
    // Random weights are sure of one token; at this temperature others are drawn as well.
    let options = |max_new_tokens| CompletionOptions {
        sampling: Sampling {
            temperature: 50.0,
            ..Sampling::PLAIN
        },
        ..options(max_new_tokens)
    };
    let mut heard = [String::new(), String::new(), String::new()];
    let samples = model
        .complete_many("abc", 0..3, &options(20), |number, text, _| {
            heard[number as usize] += text;
            Ok::<_, mlx_gpt::Error>(())
        })
        .unwrap();
    assert_eq!(samples[0].ids, model.complete("abc", &options(20)).unwrap().ids);
    assert_ne!(samples[0].ids, samples[1].ids);
    let texts: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
    assert_eq!(texts, heard);

    let none = model.complete_many("abc", 0..2, &options(0), |_, text, finished| {
        assert!(text.is_empty() && finished);
        Ok::<_, mlx_gpt::Error>(())
    });
    assert!(none.unwrap().iter().all(|sample| sample.ids.is_empty()));
}

/// Whoever listens can end it, and gets its own error back.
#[test]
fn the_first_error_of_who_listens_ends_all_samples() {
    #[derive(Debug)]
    enum Own {
        Enough,
        Library(#[allow(dead_code, reason = "shown by a failure")] mlx_gpt::Error),
    }
    impl From<mlx_gpt::Error> for Own {
        fn from(error: mlx_gpt::Error) -> Self {
            Self::Library(error)
        }
    }
    let mut calls = 0;
    let result = random_model().complete_many("abc", 0..3, &options(1000), |_, _, _| {
        calls += 1;
        if calls == 5 { Err(Own::Enough) } else { Ok(()) }
    });
    assert!(matches!(result, Err(Own::Enough)), "{result:?}");
    assert_eq!(calls, 5);
}

/// A text goes on in turns, and is the text that is written at once.
#[test]
fn a_text_goes_on_where_it_was() {
    let model = random_model();
    let greedy = |max_new_tokens| CompletionOptions {
        sampling: Sampling::GREEDY,
        ..options(max_new_tokens)
    };
    let mut text = model.stream("abc", &greedy(10)).unwrap();
    let mut ids: Vec<u32> = text.by_ref().map(|token| token.unwrap().id).collect();
    assert!(text.next().is_none(), "it is at its end");
    text.begin_completion(&greedy(15)).unwrap();
    ids.extend(text.by_ref().map(|token| token.unwrap().id));
    assert_eq!(ids, model.complete("abc", &greedy(25)).unwrap().ids);

    let added = model.tokenizer().encode("defg").unwrap();
    text.push(&added);
    assert!(text.window().ends_with(&added));
    text.begin_completion(&greedy(3)).unwrap();
    assert_eq!(text.count(), 3);
}

/// What was stopped has ended: no more tokens, a reason, and the text that was held back, once.
#[test]
fn a_stopped_completion_has_ended() {
    let model = random_model();
    let greedy = CompletionOptions {
        sampling: Sampling::GREEDY,
        ..options(10)
    };
    let first = model.complete("abc", &greedy).unwrap().text.chars().next().unwrap();
    // The first character may begin the stop string, so that its text is held back.
    let options = CompletionOptions {
        stop: vec![format!("{first}!")],
        ..greedy
    };
    let mut text = model.stream("abc", &options).unwrap();
    assert_eq!(text.next().unwrap().unwrap().text, "");
    assert_eq!(text.stop().unwrap(), first.to_string());
    assert_eq!(text.stop().unwrap(), "");
    assert!(text.next().is_none());
    let completion = text.completion();
    assert_eq!(completion.text, first.to_string());
    assert_eq!(completion.ids.len(), 1);
    assert_eq!(completion.finish_reason, Some(FinishReason::Cancelled));

    text.begin_completion(&options).unwrap();
    assert!(text.next().is_some(), "another one can begin");
}

/// A model whose tokenizer drops all spaces.
fn without_spaces() -> LanguageModel {
    let tokenizer: Tokenizer = CharTokenizer::from_text("abc").into();
    let mut json = tokenizer.to_json();
    json["normalizer"] = serde_json::json!({"type": "Replace", "pattern": {"String": " "}, "content": ""});
    let tokenizer = Tokenizer::from_json(json, Path::new("tokenizer.json")).unwrap();
    let folder = folder();
    let checkpoint = saved(random_checkpoint(folder.path(), tokenizer, 16, 2));
    LanguageModel::load(&checkpoint.folder).unwrap()
}

#[test]
fn errors_have_a_kind_and_say_what_to_do() {
    let Err(error) = LanguageModel::load("no/such/place") else {
        panic!()
    };
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no/such/place"), "{error}");

    let empty = folder();
    let Err(error) = LanguageModel::load(empty.path()) else {
        panic!()
    };
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    assert!(error.to_string().contains("config.json"), "{error}");

    let model = random_model();
    let error = model.complete("xyz", &options(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Text);
    assert!(error.to_string().contains('x'), "{error}");

    // A prompt of which the tokenizer leaves nothing, alone and side by side.
    let nothing = without_spaces();
    let one = nothing.complete("  ", &options(1)).map(drop);
    let many = nothing.complete_many("  ", 0..2, &options(1), |_, _, _| Ok::<_, mlx_gpt::Error>(()));
    for error in [one.unwrap_err(), many.map(drop).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Text, "{error}");
        assert!(error.to_string().contains("prompt"), "{error}");
    }
    let mut unwritten = model.interactive(&options(1)).unwrap();
    let error = unwritten.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Text, "{error}");

    let hot = CompletionOptions {
        sampling: Sampling {
            temperature: -1.0,
            ..Sampling::PLAIN
        },
        ..options(1)
    };
    let error = model.complete("a", &hot).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Options);
    assert!(error.to_string().contains("temperature is -1"), "{error}");
    // What a program's `main` prints of it is the same line.
    assert_eq!(format!("{error:?}"), error.to_string());
}
