//! GPT-2s made elsewhere: every way that Hugging Face's libraries write one comes in unchanged, and a wrong one does not.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::source::Source;
use crate::common::{Fixture, contents, fail, folder, largest_difference, mlx_gpt, stderr, stdout, succeed};
use half::{bf16, f16};
use mlx_gpt::checkpoint::Checkpoint;
use mlx_gpt::model::Gpt;
use mlx_gpt::tokenizer::CharTokenizer;
use mlx_rs::Array;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

fn import(folder: &Path, source: &str, out: &str) -> std::process::Command {
    let mut command = mlx_gpt(folder);
    command.args(["import", source, "--out", out]);
    command
}

/// The model that an import left, and that its logits for the fixture's batch are PyTorch's within `tolerance`.
fn check_logits(fixture: &Fixture, out: &Path, tolerance: f32) -> Checkpoint {
    let checkpoint = Checkpoint::load(out).unwrap();
    let gpt = Gpt::new(&checkpoint.model, &checkpoint.parameters).unwrap();
    let ids = Array::from_slice(&fixture.batch.inputs[..3 * 24], &[3, 24]);
    let logits = gpt.forward(&ids, None).unwrap();
    let off = largest_difference(logits.try_as_slice().unwrap(), &fixture.numbers("logits"));
    assert!(off <= tolerance, "{}: logits off by {off:e}", out.display());
    checkpoint
}

#[test]
fn every_way_of_writing_a_gpt2_comes_in() {
    let fixture = Fixture::load();
    let folder = folder();
    let place = |name: &str| folder.path().join(name);

    let mut source = Source::new(&fixture);
    source.write(&place("prefixed"));
    source.write_in_shards(&place("shards"));
    // As older versions wrote it: attention masks, and the tied head once more.
    let embedding = source.tensor("transformer.wte.weight").clone();
    source.tensors.insert("lm_head.weight".into(), embedding);
    for layer in 0..3 {
        let mask = (Dtype::U8, vec![1, 1, 24, 24], vec![1; 24 * 24]);
        source.tensors.insert(format!("transformer.h.{layer}.attn.bias"), mask);
        let masked = (Dtype::F32, vec![], (-1e4f32).to_le_bytes().to_vec());
        source
            .tensors
            .insert(format!("transformer.h.{layer}.attn.masked_bias"), masked);
    }
    source.write(&place("old"));
    // GPT2Model's names, as OpenAI's files on the hub have them.
    let bare = source
        .tensors
        .iter()
        .map(|(name, tensor)| (name.replace("transformer.", ""), tensor.clone()));
    source.tensors = bare.filter(|(name, _)| name != "lm_head.weight").collect();
    source.config["activation_function"] = json!("gelu_pytorch_tanh"); // another name for the same function
    source.write(&place("bare"));

    for name in ["prefixed", "shards", "old", "bare"] {
        let out = format!("{name}-in");
        let said = stderr(&succeed(&mut import(folder.path(), name, &out)));
        assert!(
            said.contains("3 layers, 5 heads, 80 wide, context 24, vocabulary 65"),
            "{said}"
        );
        let checkpoint = check_logits(&fixture, &place(&out), 1e-5);
        for ((name, ours), theirs) in checkpoint.parameters.iter().zip(fixture.parameters.arrays()) {
            assert_eq!(
                ours.try_as_slice::<f32>().unwrap(),
                theirs.try_as_slice::<f32>().unwrap(),
                "{name}"
            );
        }
    }
    assert_eq!(contents(&place("shards-in")).len(), contents(&place("bare-in")).len());
    assert_eq!(
        fs::read(place("shards-in/model.safetensors")).unwrap(),
        fs::read(place("bare-in/model.safetensors")).unwrap()
    );
}

#[test]
fn half_precision_comes_in_as_float32() {
    let fixture = Fixture::load();
    let folder = folder();
    for (name, dtype) in [("f16", Dtype::F16), ("bf16", Dtype::BF16)] {
        let mut source = Source::new(&fixture);
        for (stored, _, bytes) in source.tensors.values_mut() {
            let numbers = bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|&number| f32::from_le_bytes(number));
            *bytes = match dtype {
                Dtype::F16 => numbers.flat_map(|number| f16::from_f32(number).to_le_bytes()).collect(),
                _ => numbers
                    .flat_map(|number| bf16::from_f32(number).to_le_bytes())
                    .collect(),
            };
            *stored = dtype;
        }
        source.write(&folder.path().join(name));
        let out = format!("{name}-in");
        succeed(&mut import(folder.path(), name, &out));
        let checkpoint = Checkpoint::load(&folder.path().join(out)).unwrap();
        for ((name, ours), theirs) in checkpoint.parameters.iter().zip(fixture.parameters.arrays()) {
            let rounded = theirs.try_as_slice::<f32>().unwrap().iter().map(|&number| match dtype {
                Dtype::F16 => f16::from_f32(number).to_f32(),
                _ => bf16::from_f32(number).to_f32(),
            });
            assert!(
                ours.try_as_slice::<f32>().unwrap().iter().copied().eq(rounded),
                "{name}"
            );
        }
    }
}

/// GPT-2's own files from before `tokenizer.json`, which are in `assets/`, and a model without any tokenizer files.
#[test]
fn gpt2s_tokenizer_is_found_in_every_form() {
    let fixture = Fixture::load();
    let folder = folder();
    let mut source = Source::new(&fixture);
    source.config["vocab_size"] = json!(50257);
    *source.tensor("transformer.wte.weight") = (Dtype::F32, vec![50257, 80], vec![0; 4 * 80 * 50257]);
    source.write(&folder.path().join("source"));
    let tokenizer = folder.path().join("source/tokenizer.json");
    fs::remove_file(&tokenizer).unwrap();
    succeed(&mut import(folder.path(), "source", "without"));
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/gpt2");
    fs::copy(assets.join("encoder.json"), folder.path().join("source/vocab.json")).unwrap();
    fs::copy(assets.join("vocab.bpe"), folder.path().join("source/merges.txt")).unwrap();
    succeed(&mut import(folder.path(), "source", "files"));
    let text = "Hello world, naïve 😀!";
    let ids = |out: &str| {
        Checkpoint::load(&folder.path().join(out))
            .unwrap()
            .tokenizer
            .encode(text)
            .unwrap()
    };
    assert_eq!(ids("files")[..2], [15496, 995]);
    assert_eq!(ids("files"), ids("without"));
    assert_eq!(
        fs::read(folder.path().join("files/tokenizer.json")).unwrap(),
        fs::read(folder.path().join("without/tokenizer.json")).unwrap()
    );
}

#[test]
fn an_import_is_a_checkpoint_like_any_other() {
    let fixture = Fixture::load();
    let folder = folder();
    Source::new(&fixture).write(&folder.path().join("source"));
    succeed(&mut import(folder.path(), "source", "models/small"));
    let run = |arguments: &[&str]| stdout(&succeed(mlx_gpt(folder.path()).args(arguments)));
    let healthy = run(&["doctor", "--checkpoint", "models/small"]);
    assert!(healthy.contains("4 files as they were written"), "{healthy}");
    let model = ["--checkpoint", "models/small", "--device", "cpu"];
    let text = run(&[&["generate", "--max-new-tokens", "5"][..], &model].concat());
    assert_eq!(
        text.chars().count(),
        6,
        "five characters and the end of the line: {text:?}"
    );
    fs::write(
        folder.path().join("text.txt"),
        "To be, or not to be: that is the question.\n".repeat(40),
    )
    .unwrap();
    let measured: Value =
        serde_json::from_str(&run(&[&["eval", "--corpus", "text.txt", "--json"][..], &model].concat())).unwrap();
    assert!(measured["loss"].as_f64().unwrap() > 3.0);
    // Nobody here knows what it learned from, so that any part of any text may be measured on.
    let part = run(&[
        &["eval", "--corpus", "text.txt", "--split", "val", "--json"][..],
        &model,
    ]
    .concat());
    let part: Value = serde_json::from_str(&part).unwrap();
    assert_eq!(
        part["tokens"].as_u64(),
        Some(40 * 43 / 10 - 1),
        "a tenth of the text but its first character"
    );
    let train = [
        "train",
        "--init-from",
        "models/small",
        "--corpus",
        "text.txt",
        "--steps",
        "2",
        "--eval-batches",
        "1",
    ];
    run(&[&train[..], &["--device", "cpu", "--out", "run"]].concat());
    let config = fs::read_to_string(folder.path().join("run/latest/config.json")).unwrap();
    assert!(config.contains("\"n_layer\": 3"), "{config}");

    let said = fail(&mut import(folder.path(), "source", "models/small"));
    assert!(said.contains("models/small exists already"), "{said}");
}

/// What is wrong, how to make it, and what must be said.
type Fault = (&'static str, fn(&mut Source), &'static str);

#[test]
fn a_wrong_model_is_refused_and_nothing_is_written() {
    let fixture = Fixture::load();
    let folder = folder();
    let faults: [Fault; 10] = [
        (
            "a missing tensor",
            |source| drop(source.tensors.remove("transformer.h.2.ln_1.bias")),
            "has no tensor h.2.ln_1.bias",
        ),
        (
            "an extra tensor",
            |source| {
                let extra = source.tensors["transformer.ln_f.bias"].clone();
                source.tensors.insert("transformer.h.3.ln_1.bias".into(), extra);
            },
            "has an unexpected tensor transformer.h.3.ln_1.bias",
        ),
        (
            "a wrong shape",
            |source| source.tensor("transformer.wpe.weight").1.swap(0, 1),
            "tensor transformer.wpe.weight has shape [80, 24], the model needs [24, 80]",
        ),
        (
            "another architecture",
            |source| source.config["model_type"] = json!("llama"),
            "describes a model of type llama; only gpt2 is supported",
        ),
        (
            "a tokenizer of another size",
            |source| source.tokenizer = CharTokenizer::from_text("abc").to_json(),
            "its model has a vocabulary of 65, its tokenizer of 3",
        ),
        (
            "a head of its own",
            |source| {
                let mut head = source.tensors["transformer.wte.weight"].clone();
                head.2[0] ^= 1;
                source.tensors.insert("lm_head.weight".into(), head);
            },
            "lm_head.weight is not the token embedding",
        ),
        (
            "a parameter twice",
            |source| {
                let again = source.tensors["transformer.ln_f.bias"].clone();
                source.tensors.insert("ln_f.bias".into(), again);
            },
            "has ln_f.bias and transformer.ln_f.bias, which are the same parameter",
        ),
        (
            "whole numbers",
            |source| source.tensor("transformer.wpe.weight").0 = Dtype::I32,
            "tensor transformer.wpe.weight has format I32; only F32, F16 and BF16 are supported",
        ),
        (
            "packed numbers",
            |source| source.tensor("transformer.wpe.weight").0 = Dtype::U32,
            "tensor transformer.wpe.weight has format U32, the model needs floating-point numbers",
        ),
        (
            "an untied head",
            |source| source.config["tie_word_embeddings"] = json!(false),
            "only tied heads are supported",
        ),
    ];
    for (what, spoil, expected) in faults {
        let mut source = Source::new(&fixture);
        spoil(&mut source);
        source.write(&folder.path().join("source"));
        refused(folder.path(), what, expected);
    }
}

#[test]
fn a_broken_file_is_refused_and_nothing_is_written() {
    let fixture = Fixture::load();
    let folder = folder();
    let source = Source::new(&fixture);
    let model = folder.path().join("source/model.safetensors");
    source.write(&folder.path().join("source"));
    let whole = fs::read(&model).unwrap();
    fs::write(&model, &whole[..whole.len() - 1]).unwrap();
    refused(folder.path(), "a truncated file", "model.safetensors is damaged");
    let mut long = whole.clone();
    long[..8].copy_from_slice(&(whole.len() as u64).to_le_bytes());
    fs::write(&model, long).unwrap();
    refused(
        folder.path(),
        "a header longer than the file",
        "model.safetensors is damaged",
    );
    fs::rename(&model, folder.path().join("source/pytorch_model.bin")).unwrap();
    refused(
        folder.path(),
        "pickled weights",
        "source has no model.safetensors: source/pytorch_model.bin is a PyTorch pickle",
    );
    fs::remove_dir_all(folder.path().join("source")).unwrap();
    refused(folder.path(), "no folder", "source is not a folder");

    source.write_in_shards(&folder.path().join("source"));
    let index = folder.path().join("source/model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    for (what, old, new, expected) in [
        (
            "a file above the folder",
            "model-00001",
            "../model-00001",
            "is not the name of a file in this folder",
        ),
        (
            "a missing shard",
            "model-00001",
            "model-00009",
            "model-00009-of-00002.safetensors cannot be read",
        ),
        (
            "a tensor elsewhere",
            "transformer.ln_f.bias",
            "transformer.ln_g.bias",
            "says that transformer.ln_g.bias is in",
        ),
        (
            "no map",
            "weight_map",
            "weights",
            "is not an index of safetensors files",
        ),
    ] {
        fs::write(&index, text.replace(old, new)).unwrap();
        refused(folder.path(), what, expected);
    }
}

/// `import source --out out` fails with one line that says `expected`, and leaves nothing.
fn refused(folder: &Path, what: &str, expected: &str) {
    let before: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let said = fail(&mut import(folder, "source", "out"));
    assert!(said.contains(expected), "{what}: {said}");
    let after: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(before, after, "{what}");
}
