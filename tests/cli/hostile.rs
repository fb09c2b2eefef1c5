//! Files from elsewhere on the command line: what has no end, what leads elsewhere, what would steer the terminal, what is
//! not as it was written. One line says what is wrong; nothing is left behind.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::common::{
    Start, contents, fail, folder, generate, mlx_gpt, names, random_checkpoint, stderr, stdout, succeed, trained,
};
use mlx_gpt::checkpoint::Checkpoint;
use mlx_gpt::config::Precision;
use mlx_gpt::model::Parameters;
use mlx_gpt::tokenizer::{Bpe, CharTokenizer, Pattern, Tokenizer};
use mlx_rs::Array;
use serde_json::{Value, json};

/// A folder as others make it: model, configuration and tokenizer.
fn foreign(folder: &Path, tokenizer: Tokenizer) -> Checkpoint {
    let checkpoint = random_checkpoint(folder, tokenizer, 16, 2);
    fs::create_dir_all(&checkpoint.folder).unwrap();
    checkpoint.write_model(&checkpoint.folder, Precision::Float32).unwrap();
    checkpoint
}

fn characters() -> Tokenizer {
    CharTokenizer::from_text("\n abcdefgh").into()
}

fn import(folder: &Path, source: &str, out: &str) -> Command {
    let mut command = mlx_gpt(folder);
    command.args(["import", source, "--out", out]);
    command
}

/// Changes a JSON file.
fn edit(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    change(&mut json);
    fs::write(file, json.to_string()).unwrap();
}

fn pipe(path: &Path) {
    let _ = fs::remove_file(path);
    succeed(Command::new("mkfifo").arg(path));
}

/// A pipe that nobody writes to would be waited for, and zeros never end: each place that takes a file refuses both.
#[test]
fn pipes_and_devices_are_no_files() {
    let folder = folder();
    let path = folder.path();
    trained(path, "1");
    pipe(&path.join("pipe"));
    foreign(path, characters());
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let place = path.join("model").join(file);
        let whole = fs::read(&place).unwrap();
        pipe(&place);
        let said = fail(&mut import(path, "model", "out"));
        assert!(
            said.contains(file) && said.contains("pipe, a socket or a device"),
            "{said}"
        );
        fs::remove_file(&place).unwrap();
        symlink("/dev/zero", &place).unwrap();
        let said = fail(&mut import(path, "model", "out"));
        assert!(
            said.contains(file) && said.contains("pipe, a socket or a device"),
            "{said}"
        );
        fs::remove_file(&place).unwrap();
        fs::write(&place, whole).unwrap();
    }
    for endless in ["pipe", "/dev/zero"] {
        for arguments in [
            &[
                "generate",
                "--device",
                "cpu",
                "--checkpoint",
                "run",
                "--prompt-file",
                endless,
            ][..],
            &["tokenizer", "encode", "--tokenizer", "gpt2", "--file", endless],
            &["tokenizer", "encode", "--tokenizer", endless, "x"],
            &["eval", "--device", "cpu", "--checkpoint", "run", "--hellaswag", endless],
            &["eval", "--device", "cpu", "--checkpoint", "run", "--corpus", endless],
            &["train", "--corpus", endless, "--out", "next"],
            &["train", "--config", endless, "--out", "next"],
            &["data", "prepare", "--corpus", endless, "--out", "tokens"],
        ] {
            let said = fail(mlx_gpt(path).args(arguments));
            assert!(said.contains(endless), "{arguments:?}: {said}");
            assert!(
                said.contains("pipe, a socket or a device") || said.contains("neither a file nor a folder"),
                "{arguments:?}: {said}"
            );
        }
    }
    assert_eq!(names(path), ["model", "pipe", "run"]);
}

/// Standard input is where a pipe is meant, and is read up to a bound: so is a prompt's file.
#[test]
fn a_prompt_has_a_bound() {
    let folder = folder();
    trained(folder.path(), "1");
    let mut child = generate(folder.path(), &["--prompt-file", "-"]).start();
    let mut stdin = child.stdin.take().unwrap();
    while stdin.write_all(&[b'y'; 1 << 16]).is_ok() {} // until the program has had enough
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("more than 4194304 bytes"),
        "{}",
        stderr(&output)
    );

    fs::write(folder.path().join("long.txt"), "y".repeat((1 << 22) + 1)).unwrap();
    let said = fail(&mut generate(folder.path(), &["--prompt-file", "long.txt"]));
    assert!(
        said.contains("long.txt") && said.contains("more than 4194304 bytes"),
        "{said}"
    );
    // As much as there may be is taken: of it, the model sees the end.
    fs::write(folder.path().join("long.txt"), "y".repeat(1 << 22)).unwrap();
    succeed(&mut generate(
        folder.path(),
        &["--prompt-file", "long.txt", "--max-new-tokens", "1", "--json"],
    ));
}

#[test]
fn no_name_leads_out_of_its_folder() {
    let folder = folder();
    let path = folder.path();
    foreign(path, characters());
    let model = path.join("model");
    fs::rename(model.join("model.safetensors"), path.join("outside.safetensors")).unwrap();
    let outside = path.join("outside.safetensors").display().to_string();
    for name in [
        "../outside.safetensors",
        &outside,
        "..",
        "",
        "a/../../outside.safetensors",
    ] {
        let index = json!({ "weight_map": { "wte.weight": name } });
        fs::write(model.join("model.safetensors.index.json"), index.to_string()).unwrap();
        let said = fail(&mut import(path, "model", "out"));
        assert!(
            said.contains("model.safetensors.index.json") && said.contains("is not the name of a file in this folder"),
            "{said}"
        );
    }

    // Links are followed, as the hub's cache is made of them; what they lead to is read like any file.
    fs::remove_file(model.join("model.safetensors.index.json")).unwrap();
    symlink("../outside.safetensors", model.join("model.safetensors")).unwrap();
    succeed(&mut import(path, "model", "out"));

    fs::write(path.join("a.txt"), "abc abc abd\n".repeat(20)).unwrap();
    succeed(mlx_gpt(path).args(["data", "prepare", "--corpus", "a.txt", "--out", "tokens"]));
    let train = [
        "train", "--device", "cpu", "--corpus", "tokens", "--steps", "1", "--out", "run",
    ];
    for name in ["../a.txt", "/etc/passwd", ".."] {
        edit(&path.join("tokens/manifest.json"), |json| {
            json["train"][0]["file"] = name.into()
        });
        let said = fail(mlx_gpt(path).args(train));
        assert!(
            said.contains("manifest.json") && said.contains("is not the name of a file in this folder"),
            "{said}"
        );
    }
    edit(&path.join("out/state.json"), |json| {
        json["files"] = json!({ "../a.txt": "0" })
    });
    let output = mlx_gpt(path)
        .args(["doctor", "--device", "cpu", "--checkpoint", "out"])
        .output()
        .unwrap();
    assert!(stdout(&output).contains("is not the name of a file in this folder"));
}

/// Links in circles would be followed for ever; folders that link to each other multiply.
#[test]
fn links_among_the_folders_of_a_corpus() {
    let folder = folder();
    let corpus = folder.path().join("corpus");
    fs::create_dir(&corpus).unwrap();
    fs::write(corpus.join("a.txt"), "text").unwrap();
    for link in ["one", "two"] {
        symlink(".", corpus.join(link)).unwrap();
    }
    let said = stderr(&succeed(
        mlx_gpt(folder.path()).args(["data", "prepare", "--corpus", "corpus", "--out", "tokens"]),
    ));
    assert!(
        said.contains("skipped corpus/one, corpus/two, links to files that are already in the corpus"),
        "{said}"
    );
}

#[test]
fn what_a_file_says_does_not_steer_the_terminal() {
    let folder = folder();
    let path = folder.path();
    foreign(path, characters());
    let config = path.join("model/config.json");
    let whole = fs::read(&config).unwrap();
    for (key, value) in [
        ("activation_function", "\u{1b}[2Jrelu"),
        ("model_type", "\u{9b}31m\u{7}\u{202e}tpg"),
    ] {
        edit(&config, |json| json[key] = value.into());
        let output = import(path, "model", "out").output().unwrap();
        let said = stderr(&output);
        assert!(said.contains("\\u{"), "{said}");
        assert!(
            !said.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{said:?}"
        );
        fs::write(&config, &whole).unwrap();
    }
    // A tensor's name, through a finding on standard output.
    let model = path.join("model/model.safetensors");
    let bytes = fs::read(&model).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header = String::from_utf8(header.to_vec())
        .unwrap()
        .replace("ln_f.bias", "\\u001b[31mx");
    fs::write(
        &model,
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat(),
    )
    .unwrap();
    let output = mlx_gpt(path)
        .args(["doctor", "--device", "cpu", "--checkpoint", "model"])
        .output()
        .unwrap();
    assert!(
        stdout(&output).contains("\\u{1b}[31mx") && !stdout(&output).contains('\u{1b}'),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_tokenizer_whose_ids_are_not_its_tokens_own() {
    let folder = folder();
    let path = folder.path();
    let bpe = Bpe::train(
        "the cat sat on the mat",
        256 + 4,
        Pattern::Gpt2,
        &["<|endoftext|>"],
        |_| (),
    )
    .unwrap();
    let file = path.join("tokenizer.json");
    let whole = Tokenizer::from(bpe).to_json().to_string();
    for (at, id, expected) in [
        ("a", json!(257), "both have the id 257"),
        ("a", json!(-1), "token \"a\" has the id -1"),
        ("a", json!(16777215), "far beyond the number of tokens"),
        ("<|endoftext|>", json!(7), "both have the id 7"),
    ] {
        fs::write(&file, &whole).unwrap();
        edit(&file, |json| json["model"]["vocab"][at] = id);
        let said = fail(mlx_gpt(path).args(["tokenizer", "encode", "--tokenizer", "tokenizer.json", "the"]));
        assert!(
            said.contains("tokenizer.json is broken") && said.contains(expected),
            "{said}"
        );
    }
    // The library panics on this one, which is no failure of this program's.
    let precompiled = json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" });
    fs::write(&file, &whole).unwrap();
    edit(&file, |json| json["normalizer"] = precompiled);
    let said = fail(mlx_gpt(path).args(["tokenizer", "encode", "--tokenizer", "tokenizer.json", "the"]));
    assert!(said.contains("tokenizer.json"), "{said}");
}

#[test]
fn adapters_that_cannot_be() {
    let folder = folder();
    let path = folder.path();
    foreign(path, characters());
    fs::create_dir(path.join("adapter")).unwrap();
    let config = json!({
        "peft_type": "LORA", "base_model_name_or_path": "../model", "r": 4, "lora_alpha": 8, "target_modules": ["c_attn"]
    });
    fs::copy(
        path.join("model/model.safetensors"),
        path.join("adapter/adapter_model.safetensors"),
    )
    .unwrap();
    for (key, value, expected) in [
        (
            "r",
            json!(4294967297_u64),
            "lora-rank 4294967297 is not from 1 to the model's embedding dimension of 16",
        ),
        ("r", json!(0), "r is 0"),
        ("r", json!(-1), "is not a configuration"),
        ("lora_alpha", json!(0), "lora_alpha is 0"),
        ("lora_alpha", json!(-2.5), "lora_alpha is -2.5"),
        ("lora_alpha", json!(1e300), "lora_alpha is inf"),
        ("target_modules", json!([]), "target_modules is empty"),
    ] {
        let file = path.join("adapter/adapter_config.json");
        fs::write(&file, config.to_string()).unwrap();
        edit(&file, |json| json[key] = value);
        let said = fail(&mut import(path, "adapter", "out"));
        assert!(
            said.contains("adapter_config.json") && said.contains(expected),
            "{said}"
        );
    }
    assert_eq!(names(path), ["adapter", "model"]);
}

#[test]
fn tokens_that_end_texts_and_that_the_vocabulary_has_not_are_named() {
    let folder = folder();
    let path = folder.path();
    foreign(path, characters());
    let config = path.join("model/config.json");
    for (number, (value, expected)) in [
        (
            json!(50256),
            "note     the configuration names token 50256, which is outside the vocabulary of 10; eos is no token",
        ),
        (
            json!([3, 70, 4]),
            "note     the configuration names token 70, which is outside the vocabulary of 10; eos is token 3, 4",
        ),
        (json!([3, 4]), ""),
        (Value::Null, ""),
    ]
    .into_iter()
    .enumerate()
    {
        edit(&config, |json| json["eos_token_id"] = value);
        let said = stderr(&succeed(&mut import(path, "model", &format!("out{number}"))));
        assert!(
            said.contains(expected) && said.contains("note") != expected.is_empty(),
            "{said}"
        );
    }
    edit(&config, |json| json["eos_token_id"] = json!(-1));
    let said = fail(&mut import(path, "model", "out"));
    assert!(
        said.contains("config.json") && said.contains("eos_token_id is -1"),
        "{said}"
    );
}

#[test]
fn a_run_is_imported_by_its_newest_checkpoint() {
    let folder = folder();
    let run = trained(folder.path(), "2");
    succeed(&mut import(folder.path(), "run", "out"));
    let weights = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    assert_eq!(weights(&folder.path().join("out")), weights(&run.join("step-000002")));
}

/// Damage that no reader can see is seen by the hash.
#[test]
fn a_changed_file_is_refused_wherever_its_hash_was_recorded() {
    let folder = folder();
    let path = folder.path();
    let run = trained(path, "1");
    let flip = |file: &Path| {
        let mut bytes = fs::read(file).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(file, &bytes).unwrap();
    };
    let model = run.join("step-000001/model.safetensors");
    flip(&model);
    for arguments in [
        &["generate", "--device", "cpu", "--checkpoint", "run"][..],
        &["eval", "--device", "cpu", "--checkpoint", "run"],
        &["export", "--checkpoint", "run", "--format", "hf", "--out", "out"],
        &["train", "--resume", "run", "--steps", "2"],
        &[
            "train",
            "--device",
            "cpu",
            "--init-from",
            "run",
            "--steps",
            "2",
            "--out",
            "next",
        ],
    ] {
        let said = fail(mlx_gpt(path).args(arguments));
        assert!(
            said.contains("model.safetensors was changed or damaged"),
            "{arguments:?}: {said}"
        );
    }
    flip(&model);
    flip(&run.join("step-000001/optimizer.safetensors"));
    // Which only training reads.
    succeed(&mut generate(path, &["--max-new-tokens", "1"]));
    let said = fail(mlx_gpt(path).args(["train", "--resume", "run", "--steps", "2"]));
    assert!(said.contains("optimizer.safetensors was changed or damaged"), "{said}");

    fs::write(path.join("a.txt"), "abc abc abd\n".repeat(200)).unwrap();
    succeed(mlx_gpt(path).args(["data", "prepare", "--corpus", "a.txt", "--out", "tokens"]));
    flip(&path.join("tokens/val-00000.bin"));
    let said = fail(mlx_gpt(path).args(["train", "--device", "cpu", "--corpus", "tokens", "--out", "next"]));
    assert!(said.contains("val-00000.bin was changed or damaged"), "{said}");
    assert_eq!(names(path), ["a.txt", "run", "tokens"]);
}

#[test]
fn weights_that_are_no_numbers_go_nowhere() {
    let folder = folder();
    let path = folder.path();
    let tokenizer: Tokenizer = Bpe::train("the cat", 256, Pattern::Gpt2, &[], |_| ()).unwrap().into();
    let mut checkpoint = random_checkpoint(path, tokenizer, 32, 2);
    let arrays = checkpoint.parameters.iter().map(|(name, array)| {
        let factor = if name == "h.1.ln_2.bias" { f32::NAN } else { 1.0 };
        (name.to_owned(), array.multiply(Array::from_f32(factor)).unwrap())
    });
    checkpoint.parameters = Parameters::from_entries(arrays.collect());
    fs::create_dir(&checkpoint.folder).unwrap();
    checkpoint.write_model(&checkpoint.folder, Precision::Float32).unwrap();
    let export = |format: &str| {
        let mut command = mlx_gpt(path);
        command.args(["export", "--checkpoint", "model", "--out", "out", "--format", format]);
        command
    };
    for command in [
        &mut import(path, "model", "out"),
        &mut export("hf"),
        &mut export("mlx"),
        &mut export("gguf"),
    ] {
        let said = fail(command);
        assert!(
            said.contains("tensor h.1.ln_2.bias") && said.contains("a weight is NaN"),
            "{said}"
        );
    }
    assert_eq!(names(path), ["model"]);
}

#[test]
fn a_line_that_is_not_utf8_does_not_end_a_conversation() {
    let folder = folder();
    trained(folder.path(), "1");
    let mut child = generate(folder.path(), &["--interactive", "--max-new-tokens", "3"]).start();
    child.stdin.take().unwrap().write_all(b"caf\xe9\nROMEO:\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let said = stderr(&output);
    assert!(said.contains("rejected: it is not UTF-8, from byte 3 on"), "{said}");
    assert!(said.contains("3 tokens"), "the next line is answered: {said}");
}

#[test]
fn a_page_replaces_pages_only() {
    let folder = folder();
    let path = folder.path();
    let show = |text: &str, file: &str| {
        let mut command = mlx_gpt(path);
        command.args(["tokenizer", "show", text, "--html", file]);
        command
    };
    fs::write(path.join("notes.txt"), "mine").unwrap();
    let said = fail(&mut show("hello", "notes.txt"));
    assert!(
        said.contains("notes.txt already exists and is not a page of tokens"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(path.join("notes.txt")).unwrap(), "mine");
    succeed(&mut show("hello", "tokens.html"));
    succeed(&mut show("world", "tokens.html"));
    assert!(
        fs::read_to_string(path.join("tokens.html"))
            .unwrap()
            .contains(">world<")
    );
}

/// A model whose import takes long enough to be met in the middle: 60 MB.
fn large(folder: &Path) {
    let tokenizer: Tokenizer = Bpe::train("the cat", 256, Pattern::Gpt2, &[], |_| ()).unwrap().into();
    let checkpoint = random_checkpoint(folder, tokenizer, 768, 2);
    fs::create_dir(&checkpoint.folder).unwrap();
    checkpoint.write_model(&checkpoint.folder, Precision::Float32).unwrap();
}

/// Waits until something is being written in `folder`; whether it came to that before `child` ended.
fn met_while_writing(folder: &Path, child: &mut std::process::Child) -> bool {
    while child.try_wait().unwrap().is_none() {
        if names(folder).iter().any(|name| name.starts_with(".making-")) {
            return true;
        }
        sleep(Duration::from_millis(1));
    }
    false
}

/// Whether Ctrl-C comes while the work goes on is a matter of luck, so that it is tried until it does; what is left behind
/// must never be anything but the whole.
#[test]
fn an_interrupted_import_or_export_leaves_nothing() {
    let folder = folder();
    let path = folder.path();
    large(path);
    for arguments in [
        &["import", "model", "--out", "out"][..],
        &["export", "--checkpoint", "model", "--format", "hf", "--out", "out"],
        &["export", "--checkpoint", "model", "--format", "mlx", "--out", "out"],
        &["export", "--checkpoint", "model", "--format", "gguf", "--out", "out"],
    ] {
        let interrupted = (0..20).any(|_| {
            let mut command = mlx_gpt(path);
            let mut child = command.args(arguments).start();
            // Both say what they work on once they heed signals.
            let mut said = BufReader::new(child.stderr.take().unwrap());
            said.read_line(&mut String::new()).unwrap();
            succeed(Command::new("kill").args(["-INT", &child.id().to_string()]));
            match child.wait().unwrap().code() {
                Some(130) => {
                    assert_eq!(names(path), ["model"], "{arguments:?}");
                    true
                }
                code => {
                    assert_eq!(code, Some(0), "{arguments:?}");
                    assert_eq!(names(path), ["model", "out"], "{arguments:?}");
                    let out = path.join("out");
                    fs::remove_dir_all(&out).or_else(|_| fs::remove_file(&out)).unwrap();
                    false
                }
            }
        });
        assert!(interrupted, "{arguments:?} was always quicker");
    }
}

#[test]
fn of_two_imports_into_one_place_one_says_so() {
    let folder = folder();
    let path = folder.path();
    large(path);
    let mut first = import(path, "model", "out");
    let mut first = first.start_quietly();
    assert!(met_while_writing(path, &mut first));
    let said = fail(&mut import(path, "model", "out"));
    assert!(
        said.contains("another process is writing it") || said.contains("was created under that name in the meantime"),
        "{said}"
    );
    assert!(first.wait().unwrap().success(), "the other is not disturbed");
    assert_eq!(names(path), ["model", "out"]);
    assert_eq!(contents(&path.join("out")).len(), 5);
}
