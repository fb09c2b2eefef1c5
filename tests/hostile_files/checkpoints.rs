//! Parsers of what a checkpoint or a run holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use mlx_gpt::checkpoint::run::Run;
use mlx_gpt::checkpoint::{Checkpoint, read_state, verify};
use mlx_gpt::config::Device;
use mlx_gpt::config::{Lora, ModelConfig, Precision, Preset, TrainConfig};
use mlx_gpt::model::Parameters;
use mlx_gpt::model::init::layout;
use mlx_gpt::tokenizer::{Bpe, CharTokenizer, Pattern, Tokenizer};
use mlx_gpt::train::metrics::Metrics;
use mlx_rs::Array;
use serde_json::json;
use tempfile::TempDir;

use super::common::{folder, random_checkpoint, saved};
use super::harness::{BASE, BASE_WITH_EXPRESSIONS, Target, alone};
use super::mutation::Form;

/// A checkpoint of a model that is as small as models are, in a folder of its own.
fn small(tokenizer: Tokenizer) -> (TempDir, Checkpoint) {
    let folder = folder();
    let mut checkpoint = random_checkpoint(folder.path(), tokenizer, 8, 2);
    checkpoint.folder = folder.path().join("model");
    let checkpoint = saved(checkpoint);
    for entry in fs::read_dir(&checkpoint.folder).unwrap() {
        let path = entry.unwrap().path();
        fs::rename(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::remove_dir(&checkpoint.folder).unwrap();
    (folder, checkpoint)
}

fn characters() -> Tokenizer {
    CharTokenizer::from_text("\n abcdefgh").into()
}

fn target<'a>(
    folder: &TempDir,
    name: &'a str,
    file: &'a str,
    hashed: bool,
    read: &'a dyn Fn(&Path) -> Result<()>,
) -> Target<'a> {
    let form = if file.ends_with(".safetensors") {
        Form::Safetensors
    } else {
        Form::Plain
    };
    Target {
        name,
        file,
        form,
        seeds: vec![fs::read(folder.path().join(file)).unwrap()],
        hashed,
        base: BASE,
        one_of: 1,
        read,
    }
}

/// Fires at one file of `folder`.
fn fire(folder: &TempDir, name: &str, file: &str, hashed: bool, read: &dyn Fn(&Path) -> Result<()>) {
    let original = fs::read(folder.path().join(file)).unwrap();
    target(folder, name, file, hashed, read).run(folder);
    fs::write(folder.path().join(file), original).unwrap();
}

fn load(folder: &Path) -> Result<()> {
    Checkpoint::load(folder).map(|_| ())
}

#[test]
fn weights_and_their_configuration() {
    let _alone = alone();
    let (folder, _) = small(characters());
    fs::remove_file(folder.path().join("state.json")).unwrap();
    fire(&folder, "model.safetensors", "model.safetensors", false, &load);
    fire(&folder, "config.json", "config.json", false, &load);
}

/// What says how texts end, beside the configuration, and the head where it stands for the embedding.
#[test]
fn how_texts_end_and_a_head_alone() {
    let _alone = alone();
    let (folder, checkpoint) = small(characters());
    fs::remove_file(folder.path().join("state.json")).unwrap();
    let generation =
        json!({ "_from_model_config": true, "bos_token_id": 0, "eos_token_id": [2, 3], "use_cache": true });
    fs::write(folder.path().join("generation_config.json"), generation.to_string()).unwrap();
    let ends = |folder: &Path| {
        let checkpoint = Checkpoint::load(folder)?;
        let vocabulary = checkpoint.model.vocab_size as u32;
        assert!(
            checkpoint
                .eos_tokens()
                .iter()
                .chain(&checkpoint.default_prompt())
                .all(|&id| id < vocabulary)
        );
        Ok(())
    };
    fire(
        &folder,
        "generation_config.json",
        "generation_config.json",
        false,
        &ends,
    );
    fs::remove_file(folder.path().join("generation_config.json")).unwrap();

    let renamed = checkpoint.parameters.iter().map(|(name, array)| match name {
        "wte.weight" => ("lm_head.weight".to_owned(), array.clone()),
        _ => (format!("transformer.{name}"), array.clone()),
    });
    let path = folder.path().join("model.safetensors");
    Array::save_safetensors(renamed.collect::<std::collections::HashMap<_, _>>(), None, &path).unwrap();
    fire(&folder, "head-alone", "model.safetensors", false, &load);
}

/// As `mlx_lm convert` writes them: quantized, positions too, and as they are.
#[test]
fn weights_of_mlx_lm() {
    let _alone = alone();
    let folder = folder();
    for file in ["config.json", "model.safetensors"] {
        let path = format!("tests/fixtures/mlx-lm/{file}");
        fs::copy(
            Path::new(env!("CARGO_MANIFEST_DIR")).join(path),
            folder.path().join(file),
        )
        .unwrap();
    }
    let characters: String = (0x400..0x400 + 65).filter_map(char::from_u32).collect();
    let tokenizer = CharTokenizer::from_text(&characters).to_json().to_string();
    fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
    fire(&folder, "mlx-lm-model", "model.safetensors", false, &load);
    fire(&folder, "mlx-lm-config", "config.json", false, &load);
}

#[test]
fn weights_in_shards() {
    let _alone = alone();
    let (folder, checkpoint) = small(characters());
    for name in ["state.json", "optimizer.safetensors"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    let shard = "model-00001-of-00001.safetensors";
    fs::rename(folder.path().join("model.safetensors"), folder.path().join(shard)).unwrap();
    let map: BTreeMap<&str, &str> = checkpoint.parameters.iter().map(|(name, _)| (name, shard)).collect();
    let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
    fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    fire(&folder, "index.json", "model.safetensors.index.json", false, &load);
}

#[test]
fn what_a_checkpoint_has_hashes_of() {
    let _alone = alone();
    let (folder, checkpoint) = small(characters());
    for file in [
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        fire(&folder, &format!("hashed-{file}"), file, true, &load);
    }
    let checkpoint = Checkpoint {
        folder: folder.path().to_owned(),
        ..checkpoint
    };
    fire(&folder, "optimizer.safetensors", "optimizer.safetensors", true, &|_| {
        checkpoint
            .load_state(&checkpoint.parameters, &checkpoint.parameters)
            .map(|_| ())
    });
}

#[test]
fn the_state_of_training() {
    let _alone = alone();
    let (folder, _) = small(characters());
    fire(&folder, "state.json", "state.json", false, &|folder| {
        read_state(folder)?;
        load(folder)?;
        verify(folder).map(|_| ())
    });
}

#[test]
fn adapters() {
    let _alone = alone();
    let (folder, base) = small(characters());
    let place = folder.path().join("base");
    fs::create_dir(&place).unwrap();
    base.write_model(&place, Precision::Float32).unwrap();
    for name in [
        "model.safetensors",
        "config.json",
        "state.json",
        "optimizer.safetensors",
    ] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    let lora = Lora {
        rank: 2,
        alpha: 4.0,
        targets: vec!["c_attn".into(), "mlp.c_proj".into()],
    };
    let model = ModelConfig {
        lora: Some(lora),
        ..base.model.clone()
    };
    let arrays = layout(&model)
        .into_iter()
        .map(|spec| (spec.name, Array::zeros::<f32>(&spec.shape).unwrap()));
    let adapted = Checkpoint {
        parameters: Parameters::from_entries(arrays.collect()),
        base: Some("base".into()),
        model,
        ..base
    };
    adapted.write_model(folder.path(), Precision::Float32).unwrap();
    fire(&folder, "adapter_config.json", "adapter_config.json", false, &load);
    fire(
        &folder,
        "adapter_model.safetensors",
        "adapter_model.safetensors",
        false,
        &load,
    );
    // The same choice by expressions.
    let file = folder.path().join("adapter_config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["target_modules"] = json!(r"transformer\.h\.\d+\.(attn\.c_attn|mlp\.c_.*)");
    config["exclude_modules"] = json!(r".*\.(?:c_fc)");
    config["layers_to_transform"] = json!([0, 1]);
    fs::write(&file, config.to_string()).unwrap();
    let target = Target {
        base: BASE_WITH_EXPRESSIONS,
        ..target(&folder, "adapter-expressions", "adapter_config.json", false, &load)
    };
    target.run(&folder);
}

#[test]
fn a_tokenizer_in_two_files() {
    let _alone = alone();
    let text = "the cat sat on the mat and the rat";
    let bpe = Bpe::train(text, 256 + 8, Pattern::Gpt2, &[], |_| ()).unwrap();
    let (folder, checkpoint) = small(bpe.into());
    let json = checkpoint.tokenizer.to_json();
    for name in ["tokenizer.json", "state.json", "optimizer.safetensors"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    let merges: Vec<&str> = json["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m.as_str().unwrap())
        .collect();
    fs::write(folder.path().join("vocab.json"), json["model"]["vocab"].to_string()).unwrap();
    fs::write(
        folder.path().join("merges.txt"),
        format!("#version: 0.2\n{}\n", merges.join("\n")),
    )
    .unwrap();
    fire(&folder, "vocab.json", "vocab.json", false, &load);
    fire(&folder, "merges.txt", "merges.txt", false, &load);
}

#[test]
fn the_configuration_and_the_metrics_of_a_run() {
    let _alone = alone();
    let folder = folder();
    let config: TrainConfig = Preset::Nano.train_config(Device::Cpu);
    let place = folder.path().join("run");
    let run = Run::create(&place, &config).unwrap();
    fs::rename(place.join("config.toml"), folder.path().join("config.toml")).unwrap();
    drop(run);
    fs::remove_dir_all(place).unwrap();
    fire(&folder, "config.toml", "config.toml", false, &|folder| {
        let config = Run::open(folder)?.config()?;
        // What a run is started with again is checked before anything is made by it.
        let _ = config.validate();
        let _ = config.model_config(65).validate();
        Ok(())
    });

    let lines = "{\"step\":0,\"train_loss\":4.1,\"val_loss\":4.2}\n{\"step\":10,\"loss\":3.5,\"lr\":0.001,\"grad_norm\":1.0,\"tokens_per_second\":5000.0,\"memory\":1000}\n";
    let run = Run::open(folder.path()).unwrap();
    let target = Target {
        name: "metrics.jsonl",
        file: "metrics.jsonl",
        form: Form::Plain,
        seeds: vec![lines.as_bytes().to_vec()],
        hashed: false,
        base: BASE,
        one_of: 50,
        read: &|_| {
            let metrics = Metrics::open(&run, 5)?;
            assert!(metrics.evaluations().all(|line| line.step <= 5));
            Ok(())
        },
    };
    target.run(&folder);
}
