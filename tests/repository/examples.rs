//! Every program in `examples/` runs and shows what it says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::{folder, stdout, succeed, trained};

/// The program of an example, to be started in `folder`.
fn example(folder: &Path, name: &str) -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        // `cargo test` builds them all; `cargo test --test repository` does not.
        let beside = Path::new(env!("CARGO_BIN_EXE_mlx-gpt")).parent().unwrap().to_owned();
        let mut build = Command::new(env!("CARGO"));
        build
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["build", "--quiet", "--examples"]);
        if beside.ends_with("release") {
            build.arg("--release");
        }
        succeed(&mut build);
        beside.join("examples")
    });
    let mut command = Command::new(built.join(name));
    command.current_dir(folder);
    command
}

#[test]
fn generate_writes_after_its_prompt() {
    let folder = folder();
    trained(folder.path(), "2");
    let text = stdout(&succeed(example(folder.path(), "generate").args(["run", "ROMEO:"])));
    assert!(text.starts_with("ROMEO:") && text.chars().count() > 200, "{text}");
}

#[test]
fn tokenize_shows_two_tokenizers() {
    let text = stdout(&succeed(
        example(folder().path(), "tokenize").arg("hello hello hello world"),
    ));
    assert!(text.contains("GPT-2: 4 tokens for 23 bytes"), "{text}");
    assert!(text.contains("31373  hello"), "{text}");
    assert!(text.contains("learned from this text: "), "{text}");
}

#[test]
fn attention_names_what_each_head_looks_at() {
    let folder = folder();
    trained(folder.path(), "2");
    let text = stdout(&succeed(example(folder.path(), "attention").args(["run", "to be"])));
    assert_eq!(text.matches("layer ").count(), 4, "two layers of two heads: {text}");
    assert!(
        text.contains("\"t\" looks at \"t\", 100 %"),
        "the first token has only itself: {text}"
    );
}

#[test]
fn train_learns_from_a_text_and_writes() {
    let folder = folder();
    fs::write(folder.path().join("notes.txt"), "One day after the other. ".repeat(200)).unwrap();
    let text = stdout(&succeed(example(folder.path(), "train").args([
        "notes.txt",
        "run",
        "3",
    ])));
    assert!(
        text.starts_with("step 0: training ") && text.contains("\nstep 3: training "),
        "{text}"
    );
    assert!(text.lines().count() > 2, "and then it writes: {text}");
    assert!(folder.path().join("run/latest/model.safetensors").exists());
}

/// Each example has a test here.
#[test]
fn no_example_is_left_out() {
    let tests = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/repository/examples.rs")).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            tests.contains(&format!("example(folder.path(), \"{name}\")")) || tests.contains(&format!("\"{name}\")")),
            "{name}"
        );
    }
}
