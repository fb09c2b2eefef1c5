//! What can go wrong with what a user gives: one line, exit code 1, nothing left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::common::{contents, fail, folder, mlx_gpt, succeed, train_smallest, train_tiny, trained};

fn is_empty_but_for(folder: &Path, kept: &[&str]) -> bool {
    fs::read_dir(folder)
        .unwrap()
        .all(|entry| kept.contains(&entry.unwrap().file_name().to_str().unwrap()))
}

#[test]
fn a_corpus_that_cannot_be_learned_from() {
    let folder = folder();
    let path = folder.path();
    fs::write(path.join("empty.txt"), "").unwrap();
    fs::write(path.join("latin1.txt"), b"caf\xe9 au lait".repeat(50)).unwrap();
    fs::write(path.join("short.txt"), "twenty characters ..").unwrap();
    fs::create_dir(path.join("nothing")).unwrap();
    for (corpus, expected) in [
        ("missing.txt", "missing.txt cannot be opened"),
        ("empty.txt", "is empty"),
        ("latin1.txt", "not UTF-8 text, byte 3 is 0xe9"),
        ("short.txt", "is too short"),
        ("nothing", "has no text files"),
    ] {
        let said = fail(&mut train_tiny(path, &["--steps", "1", "--corpus", corpus]));
        assert!(said.contains(corpus) && said.contains(expected), "{said}");
    }
    assert!(is_empty_but_for(
        path,
        &["empty.txt", "latin1.txt", "short.txt", "nothing"]
    ));
}

#[test]
fn settings_that_no_model_can_have() {
    let folder = folder();
    let path = folder.path();
    fs::write(path.join("typo.toml"), "stepz = 3\n").unwrap();
    for (options, expected) in [
        (&["--embd", "50", "--heads", "4"][..], "heads 4 does not divide embd 50"),
        (&["--heads", "0"], "heads is 0"),
        (&["--steps", "0"], "steps is 0"),
        (&["--dropout", "1"], "dropout 1"),
        (&["--lr", "NaN"], "lr is NaN"),
        (&["--eval-batches", "9000000000000000000"], "eval-batches is"),
        (
            &["--batch-size", "1000000", "--context", "100000"],
            "more tokens than a step can hold",
        ),
        (&["--min-lr", "1"], "min-lr 1"),
        (&["--decay-share", "1.5"], "decay-share is 1.5"),
        (&["--config", "typo.toml"], "stepz"),
        (&["--config", "none.toml"], "none.toml cannot be read"),
        (&["--init-from", "none"], "none"),
        (&["--resume", "none"], "none is not a run"),
    ] {
        let said = fail(mlx_gpt(path).args(["train", "--device", "cpu"]).args(options));
        assert!(said.contains(expected), "{said}");
    }
    assert!(is_empty_but_for(path, &["typo.toml"]));
}

#[test]
fn starting_from_a_checkpoint_that_does_not_fit() {
    let folder = folder();
    trained(folder.path(), "1");
    let start = |options: &[&str]| {
        let mut command = mlx_gpt(folder.path());
        command
            .args([
                "train",
                "--device",
                "cpu",
                "--steps",
                "1",
                "--init-from",
                "run",
                "--out",
                "next",
            ])
            .args(options);
        command
    };
    for (file, line) in [
        ("norm.toml", "norm = \"rms\""),
        ("qk_norm.toml", "qk_norm = true"),
        ("kv_heads.toml", "kv_heads = 1"),
    ] {
        fs::write(folder.path().join(file), line).unwrap();
    }
    let said = fail(&mut start(&["--context", "17"]));
    assert!(said.contains("context 17 is over the 16"), "{said}");
    for (options, expected) in [
        (["--dropout", "1.5"], "dropout 1.5"),
        (["--context", "0"], "context is 0"),
    ] {
        let said = fail(&mut start(&options));
        assert!(said.contains(expected), "{said}");
    }
    for (options, expected) in [
        (
            ["--embd", "32"],
            "embd is 16 in the checkpoint of --init-from; leave it out",
        ),
        (["--arch", "modern"], "arch is gpt2"),
        (["--config", "norm.toml"], "norm is layer"),
        (
            ["--config", "qk_norm.toml"],
            "qk_norm is false in the checkpoint of --init-from; leave it out",
        ),
        (["--config", "kv_heads.toml"], "kv_heads is that of heads"),
    ] {
        let said = fail(&mut start(&options));
        assert!(said.contains(expected), "{said}");
    }
    fs::write(folder.path().join("greek.txt"), "μῆνιν ἄειδε θεά ".repeat(50)).unwrap();
    let said = fail(&mut start(&["--corpus", "greek.txt"]));
    assert!(said.contains("character 'μ'"), "{said}");
    let files = ["run", "greek.txt", "norm.toml", "qk_norm.toml", "kv_heads.toml"];
    assert!(is_empty_but_for(folder.path(), &files));
    // Shorter rows than the model's context are fine, and the model keeps its shape.
    succeed(&mut start(&["--context", "8", "--eval-batches", "2"]));
    assert!(
        fs::read_to_string(folder.path().join("next/latest/config.json"))
            .unwrap()
            .contains("\"n_positions\": 16")
    );
}

#[test]
fn a_damaged_or_foreign_checkpoint() {
    let folder = folder();
    let run = trained(folder.path(), "1");
    let whole = contents(&run.join("latest"));
    let broken = folder.path().join("broken");
    let restore = || {
        let _ = fs::remove_dir_all(&broken);
        fs::create_dir(&broken).unwrap();
        for (name, bytes) in &whole {
            fs::write(broken.join(name), bytes).unwrap();
        }
    };
    let generate = || fail(mlx_gpt(folder.path()).args(["generate", "--device", "cpu", "--checkpoint", "broken"]));

    restore();
    let model = broken.join("model.safetensors");
    let bytes = fs::read(&model).unwrap();
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&model, &bytes[..length]).unwrap();
        let said = generate();
        assert!(said.contains("model.safetensors"), "{length} bytes: {said}");
    }
    let mut header = bytes.clone();
    header[..8].copy_from_slice(&u64::MAX.to_le_bytes()); // a header longer than the file
    fs::write(&model, header).unwrap();
    assert!(generate().contains("damaged"));

    for (edit, expected) in [
        (("\"n_embd\": 16", "\"n_embd\": 32"), "shape"),
        (("\"n_layer\": 2", "\"n_layer\": 1"), "has an unexpected tensor h.1."),
        (("\"n_layer\": 2", "\"n_layer\": 3"), "has no tensor h.2."),
        (("\"n_head\": 2", "\"n_head\": 3"), "does not divide"),
        (("\"vocab_size\": 65", "\"vocab_size\": 66"), "the model needs [66, 16]"),
        (("\"model_type\": \"gpt2\"", "\"model_type\": \"llama\""), "type llama"),
        (("gelu_new", "relu"), "activation_function is relu"),
    ] {
        restore();
        let config = fs::read_to_string(broken.join("config.json")).unwrap();
        assert!(config.contains(edit.0), "{config}");
        fs::write(broken.join("config.json"), config.replace(edit.0, edit.1)).unwrap();
        let said = generate();
        assert!(said.contains(expected), "{edit:?}: {said}");
    }

    for file in ["tokenizer.json", "config.json", "model.safetensors"] {
        restore();
        fs::remove_file(broken.join(file)).unwrap();
        let said = generate();
        assert!(said.contains(file), "{said}");
    }
    restore();
    fs::write(broken.join("tokenizer.json"), "{\"model\": {\"type\": \"BPE\"}}").unwrap();
    let said = generate();
    assert!(
        said.contains("tokenizer.json") && said.contains("not a tokenizer.json that can be used"),
        "{said}"
    );

    // A bit that no reader notices is found by its hash.
    restore();
    let mut flipped = bytes;
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    fs::write(&model, flipped).unwrap();
    assert!(generate().contains("model.safetensors was changed or damaged"));
    let output = mlx_gpt(folder.path())
        .args(["doctor", "--checkpoint", "broken"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("model.safetensors was changed or damaged")
    );
}

#[test]
fn numbers_that_run_away_stop_the_run_and_keep_its_checkpoint() {
    let folder = folder();
    let options = [
        "--steps",
        "50",
        "--save-every",
        "1",
        "--lr",
        "1e30",
        "--warmup",
        "3",
        "--out",
        "run",
    ];
    let said = fail(train_smallest(folder.path()).args(options));
    assert!(
        said.contains("error: step ") && said.contains("not both finite") && said.contains("--lr"),
        "{said}"
    );
    assert!(folder.path().join("run/config.toml").exists());
}

#[test]
fn an_existing_run_is_not_overwritten() {
    let folder = folder();
    let run = trained(folder.path(), "1");
    let before = contents(&run.join("step-000001"));
    let said = fail(&mut train_tiny(folder.path(), &["--steps", "1", "--out", "run"]));
    assert!(
        said.contains("already holds a run") && said.contains("--resume"),
        "{said}"
    );
    assert_eq!(contents(&run.join("step-000001")), before);
}

#[test]
fn a_folder_that_cannot_be_written() {
    let folder = folder();
    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write anywhere, but not below /proc.
    let places = if fs::write(locked.join("probe"), "").is_ok() {
        vec!["/proc/run"]
    } else {
        vec!["locked/run"]
    };
    for place in places {
        let said = fail(&mut train_tiny(folder.path(), &["--steps", "1", "--out", place]));
        assert!(said.contains(place) && said.contains("choose another --out"), "{said}");
    }
    fs::write(folder.path().join("file"), "").unwrap();
    let before = fs::read_dir(folder.path()).unwrap().count();
    let said = fail(&mut train_tiny(folder.path(), &["--steps", "1", "--out", "file/run"]));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before);
    assert!(
        said.contains("file/run") && said.contains("choose another --out"),
        "{said}"
    );
}

#[test]
fn a_prompt_or_sampling_that_cannot_be() {
    let folder = folder();
    trained(folder.path(), "1");
    for (options, expected) in [
        (&["--prompt", "naïve"][..], "character 'ï' (U+00EF) at position 3"),
        (&["--prompt", ""], "prompt is empty"),
        (&["--temperature", "-1"], "temperature is -1"),
        (&["--samples", "0"], "samples is 0"),
    ] {
        let said = fail(
            mlx_gpt(folder.path())
                .args(["generate", "--device", "cpu", "--checkpoint", "run"])
                .args(options),
        );
        assert!(said.contains(expected), "{said}");
    }
    let said = fail(mlx_gpt(folder.path()).args(["generate", "--device", "cpu"]));
    assert!(said.contains("there is no run in runs"), "{said}");
    let said = fail(mlx_gpt(folder.path()).args(["generate", "--checkpoint", "nowhere"]));
    assert!(said.contains("nowhere does not exist"), "{said}");
}

#[test]
fn a_file_of_endings_that_cannot_be_scored() {
    let folder = folder();
    trained(folder.path(), "1");
    let good = r#"{"ctx": "To be", "endings": ["or not", "to be"], "label": 1}"#;
    let eval = |content: &str| {
        fs::write(folder.path().join("q.jsonl"), content).unwrap();
        let mut command = mlx_gpt(folder.path());
        command.args([
            "eval",
            "--device",
            "cpu",
            "--checkpoint",
            "run",
            "--hellaswag",
            "q.jsonl",
        ]);
        command
    };
    // A blank line is no example, and lines end as on any system.
    let output = succeed(&mut eval(&format!("{good}\r\n\n{good}\n")));
    assert!(crate::common::stdout(&output).contains("examples    2"));
    for (line, expected) in [
        ("{\"ctx\": \"To", "not JSON from column"),
        ("[1, 2]", "no text under \"ctx\""),
        (r#"{"endings": ["a", "b"], "label": 0}"#, "no text under \"ctx\""),
        (r#"{"ctx": "a", "label": 0}"#, "no list under \"endings\""),
        (
            r#"{"ctx": "a", "endings": ["b"], "label": 0}"#,
            "no list under \"endings\"",
        ),
        (r#"{"ctx": "a", "endings": ["b", "c"]}"#, "no \"label\""),
        (
            r#"{"ctx": "a", "endings": ["b", "c"], "label": 2}"#,
            "label is 2; it must be the number of an ending, from 0 to 1",
        ),
        (r#"{"ctx": "a", "endings": ["b", "c"], "label": ""}"#, "label is \"\""),
        (
            r#"{"ctx": "a", "endings": ["b", ""], "label": 0}"#,
            "endings[1]: it has no tokens",
        ),
        (
            r#"{"ctx": "a", "endings": ["b", 7], "label": 0}"#,
            "endings[1]: it is not a text",
        ),
        (
            r#"{"ctx": "", "endings": ["b", "c"], "label": 0}"#,
            "ctx: it has no tokens",
        ),
        (
            r#"{"ctx": "a", "endings": ["b", "naïve"], "label": 0}"#,
            "endings[1]: character 'ï' (U+00EF)",
        ),
        (
            r#"{"ctx": "a", "endings": ["b", "twenty characters .."], "label": 0}"#,
            "endings[1] has 21 tokens, the model's context is 16",
        ),
    ] {
        let said = fail(&mut eval(&format!("{good}\n{line}\n{good}\n")));
        assert!(said.contains("q.jsonl, line 2: ") && said.contains(expected), "{said}");
    }
    for empty in ["", "\n \n"] {
        let said = fail(&mut eval(empty));
        assert!(said.contains("q.jsonl is empty"), "{said}");
    }
    fs::remove_file(folder.path().join("q.jsonl")).unwrap();
    let said = fail(mlx_gpt(folder.path()).args(["eval", "--checkpoint", "run", "--hellaswag", "q.jsonl"]));
    assert!(said.contains("q.jsonl cannot be read"), "{said}");
}
