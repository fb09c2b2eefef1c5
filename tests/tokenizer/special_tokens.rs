//! Special tokens whose text is in a corpus or a prompt: text, tokens or an error, as asked; and the tokenizer of OpenAI's
//! own file, which is GPT-2's.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{fail, folder, generate, mlx_gpt, random_checkpoint, saved, stderr, stdout, succeed, train_tiny};
use mlx_gpt::checkpoint::Checkpoint;
use mlx_gpt::config::Precision;
use mlx_gpt::model::vocabulary::split_rows;
use mlx_gpt::tokenizer::{Bpe, CharTokenizer, Pattern, SpecialTokenPolicy, Tokenizer, train_unigram};
use serde_json::Value;

const END: &str = "<|endoftext|>";

/// GPT-2's `tokenizer.json` as OpenAI's is on the hub: the special token is marked as normalized.
fn openais(folder: &Path) -> std::path::PathBuf {
    let mut json = Tokenizer::gpt2().unwrap().to_json();
    json["added_tokens"][0]["normalized"] = true.into();
    json["post_processor"] = serde_json::json!({
        "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true
    });
    json["pre_tokenizer"].as_object_mut().unwrap().shift_remove("use_regex");
    json["model"]["continuing_subword_prefix"] = "".into();
    json["model"]["end_of_word_suffix"] = "".into();
    let file = folder.join("openai.json");
    fs::write(&file, json.to_string()).unwrap();
    file
}

/// A corpus of documents with the marker between them.
fn write_documents(folder: &Path) {
    let play = include_str!("../../assets/shakespeare.txt");
    let documents: Vec<&str> = play[..20_000].split("\n\n").collect();
    fs::write(folder.join("documents.txt"), documents.join(END)).unwrap();
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// `data prepare` of the documents, with an option.
fn prepare(folder: &Path, option: [&str; 2], out: &str) -> Command {
    let mut command = mlx_gpt(folder);
    command.args(["data", "prepare", "--corpus", "documents.txt", "--out", out]);
    command.args(option);
    command
}

#[test]
fn openais_own_tokenizer_is_gpt2s() {
    let folder = folder();
    let file = openais(folder.path());
    let (theirs, ours) = (Tokenizer::load(&file).unwrap(), Tokenizer::gpt2().unwrap());
    // The encoder of this program, so that it is as fast.
    assert!(matches!(theirs, Tokenizer::Bpe(_)));
    assert_eq!(theirs.difference(&ours).unwrap(), None);
    assert_eq!(theirs.to_json(), ours.to_json());

    // Data of the one trains with the other.
    write_documents(folder.path());
    let prepare = |tokenizer: &str, out: &str| prepare(folder.path(), ["--tokenizer", tokenizer], out);
    succeed(&mut prepare("gpt2", "ours"));
    let again = succeed(&mut prepare("openai.json", "ours"));
    assert!(stderr(&again).contains("is already prepared"), "{}", stderr(&again));
    succeed(&mut prepare("openai.json", "theirs"));
    for (corpus, tokenizer) in [("ours", "openai.json"), ("theirs", "gpt2")] {
        let out = format!("run-{corpus}");
        let options = [
            "--corpus",
            corpus,
            "--tokenizer",
            tokenizer,
            "--steps",
            "1",
            "--out",
            &out,
        ];
        succeed(&mut train_tiny(folder.path(), &options));
    }

    saved(random_checkpoint(folder.path(), theirs, 32, 2));
    let export = [
        "export",
        "--checkpoint",
        "model",
        "--format",
        "gguf",
        "--out",
        "model.gguf",
    ];
    succeed(mlx_gpt(folder.path()).args(export));
}

#[test]
fn a_corpus_has_special_tokens_as_asked() {
    let folder = folder();
    write_documents(folder.path());
    let count = fs::read_to_string(folder.path().join("documents.txt"))
        .unwrap()
        .matches(END)
        .count();
    let train = |special: &[&str], out: &str| {
        let options = [
            "--corpus",
            "documents.txt",
            "--tokenizer",
            "gpt2",
            "--steps",
            "2",
            "--out",
            out,
        ];
        train_tiny(folder.path(), &[&options[..], special].concat())
    };
    let tokens = |said: &str| -> usize {
        let line = said.lines().find(|line| line.starts_with("corpus ")).unwrap();
        let numbers = line.split(' ').filter_map(|word| word.parse::<usize>().ok());
        numbers.take(2).sum()
    };
    let as_text = stderr(&succeed(&mut train(&[], "as-text")));
    let note = format!("the text has {END} {count} times, encoded as ordinary text; use --special allow");
    assert!(as_text.contains(&note), "{as_text}");
    let as_tokens = stderr(&succeed(&mut train(&["--special", "allow"], "as-tokens")));
    assert!(!as_tokens.contains("encoded as ordinary text"), "{as_tokens}");
    // The marker is seven tokens of text, of which some merge with what stands beside it.
    let difference = tokens(&as_text) - tokens(&as_tokens);
    assert!((4 * count..7 * count).contains(&difference), "{difference} for {count}");
    let said = fail(&mut train(&["--special", "raise"], "raised"));
    assert!(
        said.contains(&format!("the text has the special token {END} at byte ")),
        "{said}"
    );
    assert!(!folder.path().join("raised").exists());

    // A run goes on, and is measured, as it began.
    let resume = |steps: &str, more: &[&str]| {
        let mut command = mlx_gpt(folder.path());
        command
            .args(["train", "--resume", "as-tokens", "--steps", steps])
            .args(more);
        command
    };
    succeed(&mut resume("3", &[]));
    let said = fail(&mut resume("4", &["--special", "text"]));
    assert!(said.contains("special \"text\" cannot change on resume"), "{said}");
    let evaluate = |run: &str, more: &[&str]| {
        let mut command = mlx_gpt(folder.path());
        command
            .args(["eval", "--json", "--device", "cpu", "--checkpoint", run])
            .args(more);
        let output = succeed(&mut command);
        (json(&stdout(&output))["tokens"].as_u64().unwrap(), stderr(&output))
    };
    let (text, noted) = evaluate("as-text", &[]);
    assert!(noted.contains("encoded as ordinary text"), "{noted}");
    let (special, noted) = evaluate("as-tokens", &[]);
    assert!(
        special < text && !noted.contains("encoded as ordinary text"),
        "{special} {text} {noted}"
    );
    assert_eq!(evaluate("as-tokens", &["--special", "text"]).0, text);
}

#[test]
fn shards_have_special_tokens_as_asked() {
    let folder = folder();
    write_documents(folder.path());
    let prepare = |special: &str, out: &str| prepare(folder.path(), ["--special", special], out);
    let said = stderr(&succeed(&mut prepare("text", "text")));
    assert!(said.contains("encoded as ordinary text"), "{said}");
    let said = stderr(&succeed(&mut prepare("allow", "allow")));
    assert!(!said.contains("encoded as ordinary text"), "{said}");
    let said = fail(&mut prepare("raise", "raise"));
    assert!(said.contains(END) && said.contains("documents.txt"), "{said}");
    let said = fail(&mut prepare("allow", "text"));
    assert!(said.contains("was prepared with another --special"), "{said}");

    let tokenizer = Tokenizer::gpt2().unwrap();
    let ids = |out: &str| -> Vec<u32> {
        let bytes = fs::read(folder.path().join(out).join("train-00000.bin")).unwrap();
        let ids = bytes.as_chunks::<2>().0.iter();
        ids.map(|&id| u16::from_le_bytes(id).into()).collect()
    };
    assert!(ids("allow").contains(&50256) && !ids("text").contains(&50256));
    assert_eq!(
        tokenizer.decode(&ids("allow")).unwrap(),
        tokenizer.decode(&ids("text")).unwrap()
    );
    let train = ["--corpus", "text", "--special", "allow", "--steps", "1", "--out", "run"];
    let said = fail(&mut train_tiny(folder.path(), &train));
    assert!(said.contains("was prepared with special tokens as text"), "{said}");
    let train = ["--corpus", "allow", "--steps", "1", "--out", "run"];
    succeed(&mut train_tiny(folder.path(), &train));
}

/// A line of 20 MB, which is cut where it must be, but not through a marker.
#[test]
fn no_block_ends_in_the_middle_of_a_special_token() {
    let folder = folder();
    let text = format!("ab{}", END.repeat(1_500_000));
    fs::write(folder.path().join("line.txt"), &text).unwrap();
    let mut command = mlx_gpt(folder.path());
    command.args([
        "data",
        "prepare",
        "--corpus",
        "line.txt",
        "--special",
        "allow",
        "--out",
        "tokens",
    ]);
    let said = stdout(&succeed(&mut command));
    // The one cut that may go through a marker is that of the split.
    let ids: usize = said
        .lines()
        .filter(|line| line.starts_with("training") || line.starts_with("validation"))
        .map(|line| line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap())
        .sum();
    assert!(ids <= 1 + 1_500_000 + 20, "{ids} tokens");
}

#[test]
fn a_prompt_has_special_tokens_as_asked() {
    let folder = folder();
    let train = ["--tokenizer", "gpt2", "--steps", "1", "--out", "run"];
    succeed(&mut train_tiny(folder.path(), &train));
    let prompt = format!("a{END}b");
    let run = |special: &[&str]| {
        let options = [
            "--prompt",
            &prompt,
            "--json",
            "--max-new-tokens",
            "1",
            "--temperature",
            "0",
        ];
        generate(folder.path(), &[&options[..], special].concat())
    };
    let output = succeed(&mut run(&[]));
    let note = format!("note: the text has {END} once, encoded as ordinary text; use --special allow");
    assert!(stderr(&output).contains(&note), "{}", stderr(&output));
    let allowed = succeed(&mut run(&["--special", "allow"]));
    assert!(!stderr(&allowed).contains("encoded as ordinary text"));
    let logprob = |output| json(&stdout(output))["samples"][0]["logprobs"][0].as_f64().unwrap();
    assert_ne!(logprob(&output), logprob(&allowed), "another prompt to the model");
    assert_eq!(json(&stdout(&allowed))["prompt"], prompt);
    let said = fail(&mut run(&["--special", "raise"]));
    assert!(
        said.contains(&format!("prompt: the text has the special token {END} at byte 1")),
        "{said}"
    );
}

/// New special tokens in a trained model, with tokenizers of both kinds that have them: saved, loaded, and used.
#[test]
fn a_trained_model_gets_new_special_tokens() {
    let text = &include_str!("../../assets/shakespeare.txt")[..20_000];
    let bpe = Bpe::train(text, 300, Pattern::Gpt2, &[END], |_| ()).unwrap();
    let tokenizers: [Tokenizer; 3] = [
        bpe.into(),
        train_unigram(text, 500, &["<a>"]).unwrap().into(),
        CharTokenizer::from_text(text).into(),
    ];
    for tokenizer in tokenizers {
        let folder = folder();
        let before = saved(random_checkpoint(folder.path(), tokenizer, 16, 2));
        let first = before.tokenizer.vocab_size() as u32;
        let new = Checkpoint::load(&before.folder)
            .unwrap()
            .with_special_tokens(&["<|user|>", "<|end|>"])
            .unwrap();
        fs::create_dir(folder.path().join("run")).unwrap();
        new.write_model(&folder.path().join("run"), Precision::Float32).unwrap();
        let new = Checkpoint::load(&folder.path().join("run")).unwrap();
        assert_eq!(new.model.vocab_size, before.model.vocab_size + 2);
        let ids = new
            .tokenizer
            .encode_with("<|user|>To be<|end|>", &SpecialTokenPolicy::ALLOW)
            .unwrap();
        assert_eq!((ids[0], ids[ids.len() - 1]), (first, first + 1));
        // What the old tokens do is what they did.
        assert_eq!(
            new.tokenizer.encode(text).unwrap(),
            before.tokenizer.encode(text).unwrap()
        );
        let (old_rows, _) = split_rows(&new.parameters, first as i32, 2).unwrap();
        for (name, array) in before.parameters.iter() {
            assert!(array.eq_values(old_rows.get(name).unwrap()).unwrap(), "{name}");
        }
        succeed(&mut generate(
            folder.path(),
            &["--prompt", "To", "--max-new-tokens", "3"],
        ));
        let twice = new.with_special_tokens(&["<|end|>"]).err().unwrap().to_string();
        assert!(twice.contains("<|end|>") && twice.contains("twice"), "{twice}");
    }
}
