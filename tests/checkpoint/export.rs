//! What `export` refuses: one line, exit code 1, nothing left behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{fail, folder, mlx_gpt, random_checkpoint, saved};
use mlx_gpt::tokenizer::{Bpe, CharTokenizer, Pattern, Tokenizer, train_sentencepiece};

const TEXT: &str = "the cat sat on the mat, and the dog sat on the log; what's that? ";

fn bpe() -> Tokenizer {
    Bpe::train(TEXT, 270, Pattern::Gpt2, &[], |_| ()).unwrap().into()
}

fn export(folder: &Path, options: &[&str]) -> Command {
    let mut command = mlx_gpt(folder);
    command.args(["export", "--checkpoint", "model"]).args(options);
    command
}

#[test]
fn what_gguf_cannot_hold_is_refused() {
    let refused = |tokenizer: Tokenizer, options: &[&str], edit: (&str, &str), expected: &[&str]| {
        let folder = folder();
        let config = saved(random_checkpoint(folder.path(), tokenizer, 18, 3))
            .folder
            .join("config.json");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace(edit.0, edit.1)).unwrap();
        let said = fail(export(folder.path(), options).args(["--format", "gguf", "--out", "made/a.gguf"]));
        for expected in expected {
            assert!(said.contains(expected), "{said}");
        }
        assert!(!folder.path().join("made").exists(), "nothing is made");
    };
    let same = ("", "");
    let char = CharTokenizer::from_text(TEXT).into();
    refused(
        char,
        &[],
        same,
        &["checkpoint model", "character tokenizers", "--tokenizer gpt2"],
    );
    let library = train_sentencepiece(TEXT, 300, &[]).unwrap().into();
    refused(
        library,
        &[],
        same,
        &["Hugging Face's library", "byte-level BPE", "--tokenizer gpt2"],
    );
    let q8_0 = ["--dtype", "q8_0"];
    refused(bpe(), &q8_0, same, &["embd of 18", "multiple of 32", "--dtype float16"]);
    let other = ("\"model_type\": \"gpt2\"", "\"model_type\": \"mlx_gpt_other\"");
    refused(bpe(), &[], other, &["config.json", "type mlx_gpt_other", "only gpt2"]);
}

#[test]
fn a_place_that_is_taken_or_cannot_be_is_refused() {
    let folder = folder();
    saved(random_checkpoint(folder.path(), bpe(), 32, 2));
    fs::write(folder.path().join("mine.gguf"), "mine").unwrap();
    let said = fail(&mut export(folder.path(), &["--format", "gguf", "--out", "mine.gguf"]));
    assert!(
        said.contains("mine.gguf exists already; choose another --out"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(folder.path().join("mine.gguf")).unwrap(), "mine");
    let said = fail(&mut export(
        folder.path(),
        &["--format", "gguf", "--out", "mine.gguf/a.gguf"],
    ));
    assert!(said.contains("mine.gguf/a.gguf could not be written"), "{said}");
    let missing = ["export", "--checkpoint", "none", "--format", "gguf", "--out", "a.gguf"];
    let said = fail(mlx_gpt(folder.path()).args(missing));
    assert!(said.contains("none does not exist"), "{said}");
}
