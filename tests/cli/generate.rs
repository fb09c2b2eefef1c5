//! `generate` as its user runs it: what it prints, where texts end, what it refuses.

use std::io::Write;
use std::path::Path;

use crate::common::{Start, fail, folder, generate, mlx_gpt, stderr, stdout, succeed, train_tiny, trained};
use serde_json::Value;

fn text(folder: &Path, options: &[&str]) -> String {
    stdout(&succeed(&mut generate(folder, options)))
}

fn json(folder: &Path, options: &[&str]) -> Value {
    let output = text(folder, &[&["--json"], options].concat());
    serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"))
}

#[test]
fn samples_are_written_together_and_shown_one_after_the_other() {
    let folder = folder();
    let path = folder.path();
    trained(path, "3");
    let options = ["--seed", "3", "--prompt", "ROMEO:", "--max-new-tokens", "40"];
    let result = json(path, &[&options[..], &["--samples", "3"]].concat());
    let samples = result["samples"].as_array().unwrap();
    assert_eq!(
        (samples.len(), &result["prompt"], &result["seed"]),
        (3, &Value::from("ROMEO:"), &Value::from(3))
    );
    let mut expected = String::new();
    for (number, sample) in (1..).zip(samples) {
        assert_eq!(sample["ids"].as_array().unwrap().len(), 40);
        assert_eq!(sample["logprobs"].as_array().unwrap().len(), 40);
        assert_eq!(sample["finish_reason"], "length");
        expected += &format!("── sample {number} ──\nROMEO:{}\n", sample["text"].as_str().unwrap());
    }
    assert_eq!(text(path, &[&options[..], &["--samples", "3"]].concat()), expected);
    // The first of several is the only one of one.
    assert_eq!(json(path, &options)["samples"][0]["ids"], samples[0]["ids"]);
    assert_eq!(text(path, &["--prompt", "ROMEO:", "--max-new-tokens", "0"]), "ROMEO:\n");
}

/// Whatever the tokenizer, the text of a sample is what its ids say, and nothing of the prompt.
#[test]
fn the_text_of_a_sample_is_without_the_prompt() {
    let folder = folder();
    let path = folder.path();
    let train = ["tokenizer", "train", "--vocab-size", "300", "--out", "tok"];
    succeed(mlx_gpt(path).args(train));
    for tokenizer in ["char", "tok/tokenizer.json"] {
        let run = ["--tokenizer", tokenizer, "--out", "run", "--steps", "2"];
        succeed(&mut train_tiny(path, &run));
        let options = [
            "--prompt",
            "ROMEO:",
            "--max-new-tokens",
            "20",
            "--samples",
            "2",
            "--seed",
            "3",
        ];
        let result = json(path, &options);
        assert_eq!(result["prompt"], "ROMEO:");
        for sample in result["samples"].as_array().unwrap() {
            let ids = sample["ids"].as_array().unwrap();
            assert_eq!(ids.len(), 20);
            let ids = ids.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(",");
            let decode = ["tokenizer", "decode", "--tokenizer", "run/latest", "--json", &ids];
            let decoded: Value = serde_json::from_str(&stdout(&succeed(mlx_gpt(path).args(decode)))).unwrap();
            assert_eq!(sample["text"], decoded["text"], "{tokenizer}");
        }
        std::fs::remove_dir_all(path.join("run")).unwrap();
    }
}

#[test]
fn a_stop_text_ends_each_sample_and_is_left_out() {
    let folder = folder();
    let path = folder.path();
    trained(path, "3");
    let options = ["--seed", "5", "--samples", "4", "--max-new-tokens", "200"];
    let whole = json(path, &options);
    let stopped = json(path, &[&options[..], &["--stop", "e", "--stop", "o,"]].concat());
    for number in 0..4 {
        let (whole, stopped) = (&whole["samples"][number], &stopped["samples"][number]);
        let text = whole["text"].as_str().unwrap();
        // A character is a token here.
        let ends = ["e", "o,"].map(|stop| text.find(stop).map(|at| (at + stop.len(), at)));
        let (end, start) = ends
            .into_iter()
            .flatten()
            .min()
            .expect("200 characters of which one is an e");
        assert_eq!(stopped["text"], text[..start]);
        assert_eq!(
            stopped["ids"].as_array().unwrap(),
            &whole["ids"].as_array().unwrap()[..end]
        );
        assert_eq!(stopped["finish_reason"], "stop");
    }
}

#[test]
fn the_end_of_text_token_ends_a_sample_unless_it_is_ignored() {
    let folder = folder();
    let path = folder.path();
    succeed(mlx_gpt(path).args([
        "tokenizer",
        "train",
        "--vocab-size",
        "257",
        "--special",
        "<|endoftext|>",
        "--out",
        "tok",
    ]));
    // Hardly trained, it finds its 257 tokens about equally likely.
    succeed(&mut train_tiny(
        path,
        &["--steps", "1", "--tokenizer", "tok", "--out", "run"],
    ));
    let options = [
        "--seed",
        "1",
        "--samples",
        "3",
        "--max-new-tokens",
        "1000",
        "--temperature",
        "1",
    ];
    let ended = json(path, &options);
    let ignored = json(path, &[&options[..], &["--ignore-eos"]].concat());
    for number in 0..3 {
        let (ended, ignored) = (&ended["samples"][number], &ignored["samples"][number]);
        assert_eq!(ended["finish_reason"], "end_of_text");
        let ids = ended["ids"].as_array().unwrap();
        assert_eq!(*ids.last().unwrap(), 256);
        assert!(!ended["text"].as_str().unwrap().contains("<|endoftext|>"));
        let all = ignored["ids"].as_array().unwrap();
        assert_eq!((all.len(), &all[..ids.len()]), (1000, &ids[..]));
        assert_eq!(ignored["finish_reason"], "length");
    }
}

#[test]
fn filters_do_what_their_names_say() {
    let folder = folder();
    let path = folder.path();
    trained(path, "3");
    let with = |options: &[&str]| text(path, &[options, &["--seed", "2", "--max-new-tokens", "60"]].concat());
    let greedy = with(&["--temperature", "0"]);
    for options in [["--top-k", "1"], ["--top-p", "1e-6"], ["--min-p", "0.999999"]] {
        assert_eq!(with(&options), greedy, "{options:?} leaves the most likely token");
    }
    let plain = with(&[]);
    for options in [
        ["--top-k", "0"],
        ["--top-p", "1"],
        ["--min-p", "0"],
        ["--repetition-penalty", "1"],
    ] {
        assert_eq!(with(&options), plain, "{options:?} changes nothing");
    }
    // A penalty so high that no token of the context of sixteen comes again.
    let varied = with(&["--temperature", "0", "--repetition-penalty", "1e9", "--prompt", "A"]);
    let characters: Vec<char> = varied.trim_end_matches('\n').chars().take(16).collect();
    let mut different = characters.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(characters.len(), different.len(), "{varied:?}");
}

#[test]
fn it_says_how_fast_it_was_after_the_text() {
    let folder = folder();
    let path = folder.path();
    trained(path, "1");
    let last = |options: &[&str]| {
        let said = stderr(&succeed(&mut generate(path, options)));
        said.lines().last().unwrap().to_owned()
    };
    let said = last(&["--max-new-tokens", "20", "--samples", "2"]);
    let words: Vec<&str> = said.split_whitespace().collect();
    let number = |at: usize| words[at].parse::<f64>().unwrap();
    assert_eq!(words[..2], ["40", "tokens,"], "{said}");
    assert!(
        number(2) > 0.0 && words[3..8] == ["a", "second,", "the", "first", "after"],
        "{said}"
    );
    assert!(number(8) > 0.0 && words[9..] == ["ms"], "{said}");
    // The only token comes from the prompt's computation.
    assert!(last(&["--max-new-tokens", "1"]).starts_with("1 token, the first after "));
    assert_eq!(last(&["--max-new-tokens", "0"]), "0 tokens");
}

#[test]
fn a_prompt_may_come_from_a_file_or_a_pipe() {
    let folder = folder();
    let path = folder.path();
    trained(path, "1");
    std::fs::write(path.join("prompt.txt"), "JULIET:\nO ").unwrap();
    let greedy = ["--temperature", "0", "--max-new-tokens", "10"];
    let expected = text(path, &[&greedy[..], &["--prompt", "JULIET:\nO "]].concat());
    assert!(expected.starts_with("JULIET:\nO "));
    assert_eq!(
        text(path, &[&greedy[..], &["--prompt-file", "prompt.txt"]].concat()),
        expected
    );
    let mut piped = generate(path, &[&greedy[..], &["--prompt-file", "-"]].concat());
    let mut child = piped.start();
    child.stdin.take().unwrap().write_all(b"JULIET:\nO ").unwrap();
    assert_eq!(stdout(&child.wait_with_output().unwrap()), expected);
    let said = fail(&mut generate(path, &["--prompt-file", "none.txt"]));
    assert!(said.contains("prompt") && said.contains("none.txt"), "{said}");
}

#[test]
fn what_cannot_be_is_one_line() {
    let folder = folder();
    let path = folder.path();
    trained(path, "1");
    for (options, expected) in [
        (&["--top-p", "0"][..], "top-p is 0"),
        (&["--top-p", "-0.5"], "top-p is -0.5"),
        (&["--min-p", "1"], "min-p is 1"),
        (&["--repetition-penalty", "-1"], "repetition-penalty is -1"),
        (&["--temperature", "inf"], "temperature is inf"),
        (&["--stop", ""], "stop is empty"),
        (&["--samples", "9000000000000000000"], "it can be at most"),
        (&["--interactive", "--json"], "--interactive prints no JSON"),
        (&["--interactive", "--samples", "2"], "--interactive generates one text"),
        (
            &["--interactive", "--prompt-file", "-"],
            "--interactive reads standard input itself",
        ),
        (&["--interactive", "--prompt", "naïve"], "prompt: character 'ï'"),
    ] {
        let said = fail(&mut generate(path, options));
        assert!(said.contains(expected), "{said}");
    }
    let both = generate(path, &["--prompt", "a", "--prompt-file", "b"])
        .output()
        .unwrap();
    assert_eq!(both.status.code(), Some(2));
}
