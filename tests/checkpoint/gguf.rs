//! GGUF files, read back by gguflib, which MLX reads them with and nobody here wrote.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{folder, mlx_gpt, random_checkpoint, saved, stdout, succeed, train_tiny};
use anyhow::bail;
use mlx_gpt::checkpoint::Checkpoint;
use mlx_gpt::checkpoint::formats::Dtype;
use mlx_gpt::checkpoint::formats::gguf::Gguf;
use mlx_gpt::config::{Architecture, BosEos};
use mlx_gpt::model::Parameters;
use mlx_gpt::tokenizer::byte_unicode::unicode_to_bytes;
use mlx_gpt::tokenizer::{Bpe, Pattern, Tokenizer};
use mlx_rs::io::GgufFile;
use mlx_rs::ops::concatenate;
use mlx_rs::{Array, Dtype as ArrayType};
use serde_json::json;

// GGUF's token types.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;

const TEXT: &str = "the cat sat on the mat, and the dog sat on the log; what's that? ";

fn bpe(specials: &[&str]) -> Tokenizer {
    Bpe::train(TEXT, 270 + specials.len(), Pattern::Gpt2, specials, |_| ())
        .unwrap()
        .into()
}

fn export(folder: &Path, options: &[&str]) -> Command {
    let mut command = mlx_gpt(folder);
    command
        .args(["export", "--checkpoint", "model", "--format", "gguf"])
        .args(options);
    command
}

fn write(checkpoint: &Checkpoint, dtype: Dtype, place: &Path) -> anyhow::Result<()> {
    Gguf::new(checkpoint, dtype)?.write(place, |_| Ok(()))
}

fn numbers(array: &Array) -> Vec<f32> {
    let array = array.as_dtype(ArrayType::Float32).unwrap().contiguous().unwrap();
    array.try_as_slice::<f32>().unwrap().to_vec()
}

fn string(file: &GgufFile, key: &str) -> String {
    file.get_metadata_string(key).unwrap().unwrap()
}

fn strings(file: &GgufFile, key: &str) -> Vec<String> {
    file.get_metadata_strings(key).unwrap().unwrap()
}

fn array(file: &GgufFile, key: &str) -> Array {
    file.get_metadata_array(key).unwrap().unwrap()
}

fn integer(file: &GgufFile, key: &str) -> u32 {
    array(file, key).item_exact::<u32>()
}

/// The checkpoint's weights by llama.cpp's names, as ggml lays them out: a Conv1D's `[in, out]` becomes `[out, in]`.
fn expected(folder: &Path) -> HashMap<String, Array> {
    let names = [
        ("h.", "blk."),
        ("wte", "token_embd"),
        ("wpe", "position_embd"),
        ("ln_1", "attn_norm"),
        ("attn.c_attn", "attn_qkv"),
        ("attn.c_proj", "attn_output"),
        ("ln_2", "ffn_norm"),
        ("mlp.c_fc", "ffn_up"),
        ("mlp.c_proj", "ffn_down"),
        ("ln_f", "output_norm"),
    ];
    Array::load_safetensors(folder.join("model.safetensors"))
        .unwrap()
        .into_iter()
        .map(|(name, array)| {
            let array = if name.contains(".c_") {
                array.transpose().unwrap()
            } else {
                array
            };
            let translated = names
                .iter()
                .fold(name, |name, (ours, theirs)| name.replace(ours, theirs));
            (translated, array)
        })
        .collect()
}

/// Vectors and position embeddings, which stay float32.
fn is_exact(name: &str, array: &Array) -> bool {
    array.ndim() == 1 || name == "position_embd.weight"
}

#[test]
fn float16_holds_the_rounded_weights_at_any_width() {
    for (embd, heads) in [(32, 2), (18, 3)] {
        let folder = folder();
        let model = saved(random_checkpoint(folder.path(), bpe(&["<|endoftext|>"]), embd, heads)).folder;
        let said = stdout(&succeed(&mut export(folder.path(), &["--out", "made/a.gguf"])));
        assert!(said.contains("llama-completion -m made/a.gguf"), "{said}");

        let file = GgufFile::load(folder.path().join("made/a.gguf")).unwrap();
        let (read, expected) = (file.arrays().unwrap(), expected(&model));
        assert_eq!(read.len(), expected.len());
        for (name, array) in &expected {
            let kind = if is_exact(name, array) {
                ArrayType::Float32
            } else {
                ArrayType::Float16
            };
            assert_eq!(
                (read[name].dtype(), read[name].shape()),
                (kind, array.shape()),
                "{name}"
            );
            assert_eq!(numbers(&read[name]), numbers(&array.as_dtype(kind).unwrap()), "{name}");
        }
    }
}

#[test]
fn q8_0_holds_a_scale_and_the_nearest_integers() {
    let folder = folder();
    let model = saved(random_checkpoint(folder.path(), bpe(&["<|endoftext|>"]), 32, 2)).folder;
    succeed(&mut export(folder.path(), &["--dtype", "q8_0", "--out", "a.gguf"]));
    let file = GgufFile::load(folder.path().join("a.gguf")).unwrap();
    let read = file.arrays().unwrap();
    for (name, array) in expected(&model) {
        if is_exact(&name, &array) {
            assert_eq!(numbers(&read[&name]), numbers(&array), "{name}");
            continue;
        }
        // MLX unpacks blocks into float16 scales and unsigned bytes, 128 above the integers, four in a word.
        let scales = &read[&name.replace(".weight", ".scales")];
        assert_eq!(scales.shape(), [array.shape()[0], array.shape()[1] / 32], "{name}");
        let words = read[&name].try_as_slice::<u32>().unwrap();
        let integers: Vec<i8> = words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .map(|byte| (byte ^ 0x80) as i8)
            .collect();
        assert_eq!(integers.len(), array.size(), "{name}");
        for ((block, integers), scale) in numbers(&array).chunks(32).zip(integers.chunks(32)).zip(numbers(scales)) {
            let step = block.iter().fold(0f32, |largest, x| largest.max(x.abs())) / 127.0;
            assert_eq!(scale, half::f16::from_f32(step).to_f32(), "{name}");
            for (x, &integer) in block.iter().zip(integers) {
                // Half a step, and what float32 loses in dividing by the step.
                let off = (x - f32::from(integer) * step).abs() / step;
                assert!(off <= 0.5 + 1e-4, "{name}: {x} is {off} steps from {integer}");
            }
        }
    }
}

#[test]
fn metadata_is_what_llama_cpp_reads() {
    let folder = folder();
    saved(random_checkpoint(folder.path(), bpe(&["<|endoftext|>"]), 32, 2));
    for (dtype, code) in [("float32", 0), ("float16", 1), ("q8_0", 7), ("bfloat16", 32)] {
        let name = format!("{dtype}.gguf");
        succeed(&mut export(folder.path(), &["--dtype", dtype, "--out", &name]));
        let file = GgufFile::load(folder.path().join(name)).unwrap();
        assert_eq!(string(&file, "general.architecture"), "gpt2");
        assert_eq!(string(&file, "general.name"), "model");
        assert_eq!(integer(&file, "general.file_type"), code);
        assert_eq!(integer(&file, "general.quantization_version"), 2);
        for (key, value) in [
            ("block_count", 2),
            ("context_length", 16),
            ("embedding_length", 32),
            ("feed_forward_length", 128),
            ("attention.head_count", 2),
        ] {
            assert_eq!(integer(&file, &format!("gpt2.{key}")), value, "{key}");
        }
        let epsilon = array(&file, "gpt2.attention.layer_norm_epsilon").item_exact::<f32>();
        assert_eq!(epsilon, 1e-5);
    }
}

#[test]
fn a_run_that_was_trained_is_exported() {
    let folder = folder();
    let tokenizer = [
        "tokenizer",
        "train",
        "--vocab-size",
        "300",
        "--special",
        "<|endoftext|>",
        "--out",
        "tok",
    ];
    succeed(mlx_gpt(folder.path()).args(tokenizer));
    let run = ["--steps", "1", "--tokenizer", "tok", "--out", "runs/mine"];
    succeed(&mut train_tiny(folder.path(), &run));
    succeed(mlx_gpt(folder.path()).args(["export", "--format", "gguf", "--out", "a.gguf"]));
    let file = GgufFile::load(folder.path().join("a.gguf")).unwrap();
    assert_eq!(string(&file, "general.name"), "mine");
    assert_eq!(strings(&file, "tokenizer.ggml.tokens").len(), 300);
    let token_embd = &expected(&folder.path().join("runs/mine/latest"))["token_embd.weight"];
    let read = file.get_array("token_embd.weight").unwrap().unwrap();
    assert_eq!(
        numbers(&read),
        numbers(&token_embd.as_dtype(ArrayType::Float16).unwrap())
    );
}

#[test]
fn tokens_and_merges_make_the_same_tokenizer() {
    let folder = folder();
    let checkpoint = random_checkpoint(folder.path(), bpe(&["<|endoftext|>"]), 32, 2);
    let place = folder.path().join("a.gguf");
    write(&checkpoint, Dtype::Float16, &place).unwrap();
    let file = GgufFile::load(&place).unwrap();
    assert_eq!(string(&file, "tokenizer.ggml.model"), "gpt2");
    assert_eq!(string(&file, "tokenizer.ggml.pre"), "gpt-2");
    assert_eq!(integer(&file, "tokenizer.ggml.bos_token_id"), 270);
    assert_eq!(integer(&file, "tokenizer.ggml.eos_token_id"), 270);
    assert!(!array(&file, "tokenizer.ggml.add_bos_token").item_exact::<bool>());

    let tokens = strings(&file, "tokenizer.ggml.tokens");
    let types = array(&file, "tokenizer.ggml.token_type");
    let types = types.try_as_slice::<i32>().unwrap();
    assert_eq!((tokens[270].as_str(), types[270]), ("<|endoftext|>", CONTROL));
    assert_eq!(types[..270], [NORMAL; 270]);

    // Hugging Face's library, given what the file holds and nothing else, encodes as the checkpoint's tokenizer does.
    let vocab: serde_json::Map<_, _> = tokens.into_iter().zip((0..271).map(|id| json!(id))).collect();
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let theirs: tokenizers::Tokenizer = json!({
        "added_tokens": [],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocab, "merges": strings(&file, "tokenizer.ggml.merges") }
    })
    .to_string()
    .parse()
    .unwrap();
    let text = format!("{TEXT}\n\n  The 12 naïve\tcats — and\n other dogs 😀 ");
    assert_eq!(
        theirs.encode(&*text, false).unwrap().get_ids(),
        checkpoint.tokenizer.encode(&text).unwrap()
    );
}

#[test]
fn gpt4s_tokenizer_has_gaps_among_its_ids() {
    let folder = folder();
    let checkpoint = random_checkpoint(folder.path(), Tokenizer::cl100k().unwrap(), 2, 1);
    let place = folder.path().join("a.gguf");
    write(&checkpoint, Dtype::Float16, &place).unwrap();
    let file = GgufFile::load(&place).unwrap();
    assert_eq!(string(&file, "tokenizer.ggml.pre"), "dbrx");
    assert_eq!(integer(&file, "tokenizer.ggml.eos_token_id"), 100257);
    let tokens = strings(&file, "tokenizer.ggml.tokens");
    let types = array(&file, "tokenizer.ggml.token_type");
    assert_eq!((tokens.len(), types.size()), (100277, 100277));
    for (id, (token, &kind)) in tokens.iter().zip(types.try_as_slice::<i32>().unwrap()).enumerate() {
        let bytes = checkpoint.tokenizer.token_bytes(id as u32);
        match id {
            100256 | 100261..=100275 => assert_eq!((token.as_str(), kind), (&*format!("[PAD{id}]"), UNUSED)),
            100257..=100276 => assert_eq!((Some(token.as_bytes()), kind), (bytes.as_deref(), CONTROL)),
            _ => assert_eq!((unicode_to_bytes(token), kind), (bytes, NORMAL)),
        }
    }
}

/// Of an import: one or several tokens end a text, and ids beyond the tokenizer's have no text.
#[test]
fn ends_and_padding_are_those_of_the_model() {
    let folder = folder();
    let mut checkpoint = random_checkpoint(folder.path(), bpe(&["<|im_end|>", "<eos>"]), 32, 2);
    let tokens = checkpoint.tokenizer.vocab_size();
    for (number, (eos, expected)) in [
        (vec![], [Some(0xff), None, None]), // no token of this tokenizer ends a text by its name
        (vec![270], [Some(270), None, None]),
        (vec![270, 46, 271], [Some(270), Some(46), Some(271)]),
        (vec![270, 46, 271, 47], [Some(270), Some(46), Some(271)]),
    ]
    .into_iter()
    .enumerate()
    {
        checkpoint.model.bos_eos = BosEos {
            bos: (number > 0).then_some(3),
            eos,
        };
        let place = folder.path().join(format!("{number}.gguf"));
        write(&checkpoint, Dtype::Float16, &place).unwrap();
        let file = GgufFile::load(&place).unwrap();
        let found = ["eos", "eot", "eom"].map(|name| {
            let key = format!("tokenizer.ggml.{name}_token_id");
            let value = file.get_metadata_array(&key).ok().flatten();
            value.map(|_| integer(&file, &key))
        });
        assert_eq!(found, expected);
        let begin = integer(&file, "tokenizer.ggml.bos_token_id");
        assert_eq!(begin, if number > 0 { 3 } else { 0xff });
    }

    let larger = checkpoint.parameters.iter().map(|(name, array)| {
        let array = match name {
            "wte.weight" => concatenate(&[array.clone(), Array::zeros::<f32>(&[20, 32]).unwrap()], 0).unwrap(),
            _ => array.clone(),
        };
        (name.to_owned(), array)
    });
    checkpoint.parameters = Parameters::from_entries(larger.collect());
    checkpoint.model.vocab_size = tokens + 20;
    let place = folder.path().join("padded.gguf");
    write(&checkpoint, Dtype::Float16, &place).unwrap();
    let file = GgufFile::load(&place).unwrap();
    let names = strings(&file, "tokenizer.ggml.tokens");
    let types = array(&file, "tokenizer.ggml.token_type");
    let types = types.try_as_slice::<i32>().unwrap();
    assert_eq!((names.len(), types.len()), (tokens + 20, tokens + 20));
    assert_eq!(
        (&types[tokens - 2..tokens], &types[tokens..]),
        (&[CONTROL; 2][..], &[UNUSED; 20][..])
    );
    assert_eq!(names[tokens], format!("[PAD{tokens}]"));
}

/// llama.cpp ends a generation at id 11 where a file names no token for it.
#[test]
fn without_special_tokens_no_text_ends_a_generation() {
    let folder = folder();
    let place = folder.path().join("a.gguf");
    write(
        &random_checkpoint(folder.path(), bpe(&[]), 32, 2),
        Dtype::Float16,
        &place,
    )
    .unwrap();
    let end = integer(&GgufFile::load(&place).unwrap(), "tokenizer.ggml.eos_token_id");
    assert_eq!(end, 0xff, "the byte that UTF-8 never has");
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let folder = folder();
    let mut checkpoint = random_checkpoint(folder.path(), bpe(&[]), 32, 2);
    let place = folder.path().join("a.gguf");
    let is_empty = || fs::read_dir(folder.path()).unwrap().next().is_none();

    let mut told = 0;
    let stopped = Gguf::new(&checkpoint, Dtype::Float16).unwrap().write(&place, |bytes| {
        told += bytes;
        if told > 20_000 { bail!("stopped") } else { Ok(()) }
    });
    assert!(format!("{:#}", stopped.unwrap_err()).contains("stopped"));
    assert!(is_empty());

    let weights = checkpoint.parameters.iter().map(|(name, array)| {
        let factor = if name == "h.1.mlp.c_fc.weight" { 1e6 } else { 1.0 };
        (name.to_owned(), array.multiply(Array::from_f32(factor)).unwrap())
    });
    checkpoint.parameters = Parameters::from_entries(weights.collect());
    let error = format!("{:#}", write(&checkpoint, Dtype::Float16, &place).unwrap_err());
    for expected in [
        "tensor h.1.mlp.c_fc.weight",
        "which overflows float16",
        "--dtype float32",
    ] {
        assert!(error.contains(expected), "{error}");
    }
    assert!(is_empty());

    write(&checkpoint, Dtype::Float32, &place).unwrap();
    let file = GgufFile::load(&place).unwrap();
    let read = file.get_array("blk.1.ffn_up.weight").unwrap().unwrap();
    let weight = checkpoint.parameters.get("h.1.mlp.c_fc.weight").unwrap();
    assert_eq!(numbers(&read), numbers(&weight.transpose().unwrap()));
}

#[test]
fn a_model_of_another_architecture_is_refused() {
    let folder = folder();
    let mut checkpoint = random_checkpoint(folder.path(), bpe(&[]), 32, 2);
    checkpoint.model.architecture = Architecture::Modern;
    let error = Gguf::new(&checkpoint, Dtype::Float32).err().unwrap().to_string();
    assert!(error.contains("its architecture is modern"), "{error}");
}
