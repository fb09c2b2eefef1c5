//! What transformers, peft and mlx-lm write, in their less usual forms, against what they make of it themselves: losses and
//! texts of `tests/fixtures/formats.json`, made by `scripts/format_fixtures.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::source::{Source, Tensors, write_tensors};
use crate::common::{Fixture, fail, folder, mlx_gpt, stderr, succeed};
use mlx_gpt::checkpoint::Checkpoint;
use mlx_gpt::config::Device;
use mlx_gpt::data::tokens::Tokens;
use mlx_gpt::evaluate::Evaluator;
use mlx_gpt::evaluate::text::evaluate_tokens;
use serde_json::{Value, json};

/// Two float32 implementations of a model of this size.
const TOLERANCE: f64 = 1e-5;

/// What the libraries found.
struct Expected(Value);

impl Expected {
    fn load() -> Self {
        Device::Cpu.select().unwrap();
        Self(serde_json::from_slice(&fs::read(fixture("formats.json")).unwrap()).unwrap())
    }

    fn ids(&self, key: &str) -> Vec<u32> {
        ids(&self.0[key])
    }

    /// That a folder's model has this loss.
    fn check_loss(&self, folder: &Path, loss: &Value) -> Checkpoint {
        let checkpoint = Checkpoint::load(folder).unwrap();
        let mut evaluator = Evaluator::of_checkpoint(&checkpoint).unwrap();
        let tokens = Tokens::Memory(self.ids("ids"));
        let context = checkpoint.model.context;
        let found = evaluate_tokens(&mut evaluator, &checkpoint.parameters, &tokens, context, |_| ()).unwrap();
        let off = (found.loss() - loss.as_f64().unwrap()).abs();
        assert!(
            off <= TOLERANCE,
            "{}: {} against {loss}",
            folder.display(),
            found.loss()
        );
        checkpoint
    }

    /// The most likely tokens after the prompt, by the program.
    fn greedy(&self, folder: &Path, checkpoint: &str, most: usize) -> Value {
        let tokenizer = Checkpoint::load(&folder.join(checkpoint)).unwrap().tokenizer;
        let prompt = tokenizer.decode(&self.ids("prompt")).unwrap();
        let most = most.to_string();
        let options = [
            "--temperature",
            "0",
            "--max-new-tokens",
            &most,
            "--json",
            "--device",
            "cpu",
        ];
        let mut command = mlx_gpt(folder);
        command.args(["generate", "--checkpoint", checkpoint, "--prompt", &prompt]);
        let output = succeed(command.args(options));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["samples"][0].clone()
    }
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = mlx_gpt(folder);
    command.args(arguments);
    command
}

fn parsed(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn adapters_choose_their_layers_in_every_way() {
    let expected = Expected::load();
    let folder = folder();
    Source::new(&Fixture::load()).write(&folder.path().join("base"));
    expected.check_loss(&folder.path().join("base"), &expected.0["loss"]);
    let adapters = expected.0["adapters"].as_object().unwrap();
    assert_eq!(adapters.len(), fs::read_dir(fixture("adapters")).unwrap().count());
    for (name, loss) in adapters {
        let place = folder.path().join("adapters").join(name);
        copy(&fixture("adapters").join(name), &place);
        let checkpoint = expected.check_loss(&place, loss);
        assert!(checkpoint.base.is_some() && checkpoint.model.lora.is_some());
        // Merged by an import.
        succeed(&mut run(
            folder.path(),
            &["import", place.to_str().unwrap(), "--out", name],
        ));
        expected.check_loss(&folder.path().join(name), loss);
    }
}

#[test]
fn adapters_that_are_not_read_say_what_to_do() {
    let folder = folder();
    Source::new(&Fixture::load()).write(&folder.path().join("base"));
    let place = folder.path().join("adapters/x");
    copy(&fixture("adapters/all-linear"), &place);
    let config = parsed(&place.join("adapter_config.json"));
    for (key, value, expected) in [
        ("target_modules", json!("(c_attn"), "not a supported regular expression"),
        ("target_modules", json!("c_attn"), "no linear layer"),
        ("use_dora", json!(true), "use_dora is true, which is not supported"),
        ("lora_bias", json!(true), "lora_bias is true, which is not supported"),
        ("layers_pattern", json!("layers"), "GPT-2's blocks are under h"),
    ] {
        let mut config = config.clone();
        config[key] = value;
        fs::write(place.join("adapter_config.json"), config.to_string()).unwrap();
        let said = fail(&mut run(folder.path(), &["import", "adapters/x", "--out", "out"]));
        assert!(
            said.contains("adapter_config.json") && said.contains(expected),
            "{said}"
        );
    }
    fs::write(
        place.join("adapter_config.json"),
        json!({ "fine_tune_type": "lora", "lora_parameters": {} }).to_string(),
    )
    .unwrap();
    let said = fail(&mut run(folder.path(), &["import", "adapters/x", "--out", "out"]));
    assert!(said.contains("mlx_lm.fuse"), "{said}");
    fs::write(place.join("adapter_config.json"), config.to_string()).unwrap();
    fs::rename(place.join("adapter_model.safetensors"), place.join("adapter_model.bin")).unwrap();
    let said = fail(&mut run(folder.path(), &["import", "adapters/x", "--out", "out"]));
    assert!(
        said.contains("only adapter_model.bin, a pickle") && said.contains("save_pretrained"),
        "{said}"
    );
}

#[test]
fn what_mlx_lm_converts_is_read() {
    let expected = Expected::load();
    let folder = folder();
    let mut source = Source::new(&Fixture::load());
    let place = folder.path().join("quantized");
    copy(&fixture("mlx-lm"), &place);
    fs::write(place.join("tokenizer.json"), source.tokenizer.to_string()).unwrap();
    let loss = &expected.0["mlx_lm"]["loss"];
    expected.check_loss(&place, loss);
    let greedy = &expected.0["mlx_lm"]["greedy"];
    let most = ids(greedy).len();
    assert_eq!(expected.greedy(folder.path(), "quantized", most)["ids"], *greedy);
    succeed(&mut run(folder.path(), &["import", "quantized", "--out", "imported"]));
    expected.check_loss(&folder.path().join("imported"), loss);

    // Without -q: mlx-lm's names and matrices by rows.
    let turned = |(name, (dtype, shape, bytes)): (String, (_, Vec<usize>, Vec<u8>))| {
        let name = name.replace("transformer.", "model.");
        let is_linear = name.ends_with("weight") && (name.contains(".attn.") || name.contains(".mlp."));
        let (shape, bytes) = if is_linear {
            transposed(&shape, &bytes)
        } else {
            (shape, bytes)
        };
        (name, (dtype, shape, bytes))
    };
    source.tensors = std::mem::take(&mut source.tensors)
        .into_iter()
        .map(turned)
        .collect::<Tensors>();
    source.write(&folder.path().join("dense"));
    expected.check_loss(&folder.path().join("dense"), &expected.0["loss"]);
    succeed(&mut run(folder.path(), &["import", "dense", "--out", "dense-in"]));
    expected.check_loss(&folder.path().join("dense-in"), &expected.0["loss"]);
}

fn transposed(shape: &[usize], bytes: &[u8]) -> (Vec<usize>, Vec<u8>) {
    let (rows, columns) = (shape[0], shape[1]);
    let number = |row: usize, column: usize| &bytes[4 * (row * columns + column)..][..4];
    let all = (0..columns).flat_map(|column| (0..rows).flat_map(move |row| number(row, column)));
    (vec![columns, rows], all.copied().collect())
}

/// What `safetensors.torch.save_model` keeps of the tied pair.
#[test]
fn a_head_without_its_embedding_is_the_embedding() {
    let expected = Expected::load();
    let folder = folder();
    let mut source = Source::new(&Fixture::load());
    let embedding = source.tensors.remove("transformer.wte.weight").unwrap();
    source.tensors.insert("lm_head.weight".into(), embedding);
    source.write(&folder.path().join("source"));
    expected.check_loss(&folder.path().join("source"), &expected.0["loss"]);
    succeed(&mut run(folder.path(), &["import", "source", "--out", "imported"]));
    let imported = folder.path().join("imported");
    expected.check_loss(&imported, &expected.0["loss"]);
    let names = fs::read(imported.join("model.safetensors")).unwrap();
    assert!(String::from_utf8_lossy(&names[..4000]).contains("\"wte.weight\""));
}

/// A source whose vocabulary is padded by ids that look attractive.
fn padded(expected: &Expected) -> Source {
    let rows = expected.0["padded"]["rows"].as_u64().unwrap() as usize;
    let mut source = Source::new(&Fixture::load());
    source.config["vocab_size"] = json!(65 + rows);
    let (_, shape, bytes) = source.tensor("transformer.wte.weight");
    shape[0] += rows;
    let numbers = bytes.as_chunks::<4>().0[..80 * rows]
        .iter()
        .map(|&number| 4.0 * f32::from_le_bytes(number));
    let more: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
    bytes.extend(more);
    source
}

#[test]
fn a_padded_vocabulary_imports_generates_exports_and_comes_back() {
    let expected = Expected::load();
    let (loss, greedy) = (&expected.0["padded"]["loss"], &expected.0["padded"]["greedy"]);
    let folder = folder();
    let path = folder.path();
    padded(&expected).write(&path.join("source"));
    let said = stderr(&succeed(&mut run(path, &["import", "source", "--out", "imported"])));
    assert!(said.contains("note     47 of the 112 ids have no token"), "{said}");
    expected.check_loss(&path.join("imported"), loss);
    assert_eq!(expected.greedy(path, "imported", 20)["ids"], *greedy);

    // However hot, no id without a text is drawn, and the run that goes on from it can write its sample.
    let hot = [
        "--temperature",
        "9",
        "--max-new-tokens",
        "300",
        "--samples",
        "2",
        "--seed",
        "1",
        "--json",
        "--device",
        "cpu",
    ];
    let output = succeed(run(path, &["generate", "--checkpoint", "imported"]).args(hot));
    for sample in serde_json::from_slice::<Value>(&output.stdout).unwrap()["samples"]
        .as_array()
        .unwrap()
    {
        assert!(ids(&sample["ids"]).iter().all(|&id| id < 65));
    }
    let train = [
        "train",
        "--init-from",
        "imported",
        "--steps",
        "1",
        "--eval-batches",
        "1",
        "--batch-size",
        "2",
        "--out",
        "run",
        "--device",
        "cpu",
    ];
    succeed(&mut run(path, &train));
    assert_eq!(parsed(&path.join("run/latest/config.json"))["vocab_size"], 112);
    succeed(&mut run(
        path,
        &["train", "--resume", "run", "--steps", "2", "--device", "cpu"],
    ));

    succeed(&mut run(
        path,
        &[
            "export",
            "--checkpoint",
            "imported",
            "--format",
            "hf",
            "--out",
            "exported",
        ],
    ));
    assert_eq!(parsed(&path.join("exported/config.json"))["vocab_size"], 112);
    succeed(&mut run(path, &["import", "exported", "--out", "again"]));
    let weights = |name: &str| fs::read(path.join(name).join("model.safetensors")).unwrap();
    assert!(weights("imported") == weights("exported") && weights("exported") == weights("again"));
    assert_eq!(expected.greedy(path, "again", 20)["ids"], *greedy);
}

/// nanoGPT's own: GPT-2's tokenizer is the one of 50304 ids too, where a folder has none.
#[test]
fn fifty_thousand_three_hundred_and_four_ids_are_gpt2s() {
    let folder = folder();
    let mut source = Source::new(&Fixture::load());
    source.config["vocab_size"] = json!(50304);
    let (_, shape, bytes) = source.tensor("transformer.wte.weight");
    (*shape, *bytes) = (vec![50304, 80], vec![0; 4 * 80 * 50304]);
    source.write(&folder.path().join("source"));
    fs::remove_file(folder.path().join("source/tokenizer.json")).unwrap();
    let said = stderr(&succeed(&mut run(folder.path(), &["import", "source", "--out", "out"])));
    assert!(
        said.contains("GPT-2's tokenizer is used") && said.contains("47 of the 50304 ids have no token"),
        "{said}"
    );
    let checkpoint = Checkpoint::load(&folder.path().join("out")).unwrap();
    assert_eq!(
        (checkpoint.model.vocab_size, checkpoint.tokenizer.vocab_size()),
        (50304, 50257)
    );
}

#[test]
fn texts_end_where_their_model_ends_them() {
    let expected = Expected::load();
    let folder = folder();
    let path = folder.path();
    for (number, case) in expected.0["ends"].as_array().unwrap().iter().enumerate() {
        let mut source = Source::new(&Fixture::load());
        for (key, value) in case["config"].as_object().unwrap() {
            source.config[key] = value.clone();
        }
        let [place, imported, exported, again] = ["source", "in", "out", "again"].map(|name| format!("{name}{number}"));
        source.write(&path.join(&place));
        if !case["generation_config"].is_null() {
            fs::write(
                path.join(&place).join("generation_config.json"),
                case["generation_config"].to_string(),
            )
            .unwrap();
        }
        succeed(&mut run(path, &["import", &place, "--out", &imported]));
        succeed(&mut run(
            path,
            &[
                "export",
                "--checkpoint",
                &imported,
                "--format",
                "hf",
                "--out",
                &exported,
            ],
        ));
        succeed(&mut run(path, &["import", &exported, "--out", &again]));
        let ended = ids(&case["ids"]);
        for checkpoint in [&place, &imported, &exported, &again] {
            let sample = expected.greedy(path, checkpoint, 20);
            assert_eq!(ids(&sample["ids"]), ended, "{checkpoint}: {case}");
            assert_eq!(
                sample["finish_reason"] == "end_of_text",
                ended.len() < 20,
                "{checkpoint}: {sample}"
            );
        }
        let named = match &case["generation_config"] {
            Value::Null => &case["config"]["eos_token_id"],
            generation => &generation["eos_token_id"],
        };
        let written = if *named == 50256 { &Value::Null } else { named };
        for folder in [&imported, &exported, &again] {
            assert_eq!(
                parsed(&path.join(folder).join("config.json"))["eos_token_id"],
                *written,
                "{folder}"
            );
        }
    }
}

#[test]
fn models_in_files_that_are_not_read_get_a_hint() {
    let folder = folder();
    let path = folder.path();
    fs::create_dir(path.join("out-shakespeare")).unwrap();
    fs::write(path.join("out-shakespeare/ckpt.pt"), b"PK\x03\x04archive/data.pkl").unwrap();
    for source in ["out-shakespeare", "out-shakespeare/ckpt.pt"] {
        for arguments in [
            &["import", source, "--out", "x"][..],
            &["generate", "--checkpoint", source],
        ] {
            let said = fail(&mut run(path, arguments));
            assert!(
                said.contains("ckpt.pt is a PyTorch pickle") && said.contains("docs/formats.md"),
                "{said}"
            );
        }
    }
    let source = Source::new(&Fixture::load());
    write_tensors(&path.join("model.safetensors"), &source.tensors);
    let said = fail(&mut run(path, &["import", "model.safetensors", "--out", "x"]));
    assert!(
        said.contains("a weights file without its model; give the folder"),
        "{said}"
    );
}
