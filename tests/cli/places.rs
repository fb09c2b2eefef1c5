//! Runs whose folders are renamed, moved, read, pruned, limited or put where their own text is: what was learned stays.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::disk::Disk;
use crate::common::learned::learned;
use crate::common::{
    Start, contents, fail, folder, mlx_gpt, names, says, signal, spawn_tiny, stderr, succeed, train_tiny, wait_until,
};
use mlx_gpt::checkpoint::{self, Checkpoint, runs};

fn resume(folder: &Path, run: &str) -> Command {
    let mut command = mlx_gpt(folder);
    command.args(["train", "--resume", run]);
    command
}

fn generate(folder: &Path, checkpoint: &str) -> Command {
    let mut command = mlx_gpt(folder);
    command.args([
        "generate",
        "--device",
        "cpu",
        "--max-new-tokens",
        "3",
        "--seed",
        "1",
        "--checkpoint",
        checkpoint,
    ]);
    command
}

/// The weights that a run's newest checkpoint has, whichever kind they are, and its moments.
fn weights(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = contents(&run.join("latest"));
    files.retain(|(name, _)| name.ends_with(".safetensors"));
    files
}

#[test]
fn a_run_renamed_while_it_trains_saves_into_its_own_folder() {
    let folder = folder();
    let [run, renamed] = ["run", "renamed"].map(|name| folder.path().join(name));
    let short = ["--steps", "6", "--save-every", "3", "--seed", "2"];
    succeed(&mut train_tiny(
        folder.path(),
        &[&short[..], &["--out", "alone"]].concat(),
    ));
    let mut child = spawn_tiny(
        folder.path(),
        &[
            "--steps",
            "100000",
            "--save-every",
            "5",
            "--eval-every",
            "5",
            "--keep-last",
            "2",
            "--out",
            "run",
        ],
    );
    wait_until("a save", &mut child, || run.join("latest").exists());
    fs::rename(&run, &renamed).unwrap();
    succeed(&mut train_tiny(
        folder.path(),
        &[&short[..], &["--out", "run"]].concat(),
    ));
    let before = fs::read_link(renamed.join("latest")).unwrap();
    wait_until("another save", &mut child, || {
        fs::read_link(renamed.join("latest")).is_ok_and(|latest| latest != before)
    });
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(says(&folder.path().join("said"), "run run was renamed to "));
    assert!(
        learned(&run) == learned(&folder.path().join("alone")),
        "another's folder is left alone"
    );
    assert_eq!(names(&run), names(&folder.path().join("alone")));

    let newest = fs::read_link(renamed.join("latest")).unwrap();
    let steps: u64 = newest.to_str().unwrap().strip_prefix("step-").unwrap().parse().unwrap();
    checkpoint::verify(&renamed.join(&newest)).unwrap();
    let said = stderr(&succeed(
        resume(folder.path(), "renamed").args(["--steps", &(steps + 1).to_string()]),
    ));
    assert!(said.contains(&format!("resuming after step {steps}")), "{said}");
}

#[test]
fn a_run_inside_of_its_own_corpus_is_no_part_of_it() {
    let folder = folder();
    let path = folder.path();
    fs::write(
        path.join("notes.txt"),
        "Now is the winter of our discontent.\n".repeat(60),
    )
    .unwrap();
    let begin = |out: &str| {
        train_tiny(
            path,
            &["--corpus", ".", "--steps", "4", "--save-every", "2", "--out", out],
        )
    };
    succeed(&mut begin("run"));
    let run = path.join("run");
    let whole = learned(&run);
    for step in ["step-000002", "step-000004"] {
        fs::remove_dir_all(run.join(step)).unwrap();
    }
    // As if it had died before its first checkpoint: it begins again on the same text.
    succeed(&mut resume(path, "run"));
    assert!(learned(&run) == whole);
    succeed(mlx_gpt(path).args(["eval", "--checkpoint", "run", "--device", "cpu"]));
    // Nor are other runs, tokenizers, tokens and lessons.
    succeed(mlx_gpt(path).args([
        "tokenizer",
        "train",
        "--corpus",
        ".",
        "--vocab-size",
        "260",
        "--out",
        "tok",
    ]));
    succeed(mlx_gpt(path).args([
        "data",
        "prepare",
        "--corpus",
        ".",
        "--tokenizer",
        "tok/tokenizer.json",
        "--out",
        "tokens",
    ]));
    let said = stderr(&succeed(&mut begin("runs/second")));
    assert!(
        said.contains("skipped ./run, ./tok, ./tokens, which mlx-gpt wrote")
            || said.contains("/run, ") && said.contains("/tokens, which mlx-gpt wrote"),
        "{said}"
    );
    assert!(weights(&path.join("runs/second")) == weights(&run));
    let said = fail(&mut train_tiny(
        path,
        &["--corpus", "run", "--steps", "4", "--out", "third"],
    ));
    assert!(said.contains("is a run, not a text"), "{said}");
}

const LORA: [&str; 6] = ["--lora-rank", "2", "--save-every", "2", "--steps", "4"];

#[test]
fn what_adapters_stand_on_outlives_its_own_run() {
    let folder = folder();
    let path = folder.path();
    succeed(&mut train_tiny(
        path,
        &["--steps", "2", "--save-every", "1", "--out", "run"],
    ));
    let lora = [&LORA[..], &["--init-from", "run", "--out", "tuned"]].concat();
    succeed(&mut train_tiny(path, &lora));
    let tuned = path.join("tuned");
    let whole = weights(&tuned);
    let spoken = generate(path, "tuned").output().unwrap().stdout;

    succeed(resume(path, "run").args(["--steps", "5", "--keep-last", "1"]));
    assert!(
        !path.join("run/step-000002").exists(),
        "the checkpoint that it stands on was pruned"
    );
    fs::remove_dir_all(tuned.join("step-000004")).unwrap();
    succeed(&mut resume(path, "tuned"));
    assert!(weights(&tuned) == whole, "resumed to the bit");
    // One that begins again, too.
    for step in ["step-000002", "step-000004"] {
        fs::remove_dir_all(tuned.join(step)).unwrap();
    }
    fs::remove_dir_all(path.join("run")).unwrap();
    succeed(&mut resume(path, "tuned"));
    assert!(weights(&tuned) == whole);
    assert_eq!(generate(path, "tuned").output().unwrap().stdout, spoken);
}

/// Paths are no part of what is compared: a run is moved with what belongs to it, or what belongs to it is put beside it.
#[test]
fn adapters_move_with_what_they_stand_on() {
    let folder = folder();
    let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
    fs::create_dir(&from).unwrap();
    fs::write(
        from.join("notes.txt"),
        "Now is the winter of our discontent.\n".repeat(60),
    )
    .unwrap();
    succeed(mlx_gpt(&from).args([
        "tokenizer",
        "train",
        "--corpus",
        "notes.txt",
        "--vocab-size",
        "260",
        "--out",
        "tok.json",
    ]));
    let text = ["--corpus", "notes.txt", "--tokenizer", "tok.json"];
    succeed(&mut train_tiny(
        &from,
        &[&text[..], &["--steps", "2", "--out", "run"]].concat(),
    ));
    let lora = [
        &LORA[..],
        &["--corpus", "notes.txt", "--init-from", "run", "--out", "tuned"],
    ]
    .concat();
    succeed(&mut train_tiny(&from, &lora));
    let whole = weights(&from.join("tuned"));
    fs::rename(&from, &to).unwrap();
    fs::remove_dir_all(to.join("tuned/step-000004")).unwrap();
    succeed(&mut generate(&to, "tuned"));
    succeed(resume(&to, "tuned").args(["--corpus", "notes.txt", "--device", "cpu"]));
    assert!(weights(&to.join("tuned")) == whole, "resumed to the bit");
    succeed(resume(&to, "run").args(["--corpus", "notes.txt", "--tokenizer", "tok.json", "--steps", "3"]));
    let said = fail(resume(&to, "run").args(["--corpus", "notes.txt", "--tokenizer", "gpt2", "--steps", "4"]));
    assert!(said.contains("--tokenizer gpt2 cannot change on resume"), "{said}");
}

#[test]
fn a_folder_that_is_no_checkpoint_blocks_nothing() {
    let folder = folder();
    let path = folder.path();
    succeed(&mut train_tiny(
        path,
        &["--steps", "4", "--save-every", "2", "--out", "run"],
    ));
    let run = path.join("run");
    let whole = learned(&run);
    fs::create_dir(run.join("step-999999")).unwrap();
    succeed(&mut generate(path, "run"));
    fs::remove_dir_all(run.join("step-000004")).unwrap();
    fs::create_dir(run.join("step-000004")).unwrap();
    succeed(&mut resume(path, "run"));
    assert!(learned(&run) == whole);
    // One with something in it is not written over, and is named.
    fs::create_dir(run.join("step-000006")).unwrap();
    fs::write(run.join("step-000006/notes.txt"), "mine").unwrap();
    let said = fail(resume(path, "run").args(["--steps", "6"]));
    assert!(said.contains("step-000006") && said.contains("move it away"), "{said}");
    fs::rename(run.join("step-000006"), path.join("away")).unwrap();
    succeed(resume(path, "run").args(["--steps", "6"]));
}

#[test]
fn a_run_that_cannot_be_written_says_what_helps() {
    let disk = Disk::mount();
    if !disk.mounted {
        return;
    }
    succeed(&mut train_tiny(disk.path(), &["--steps", "2", "--out", "run"]));
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        succeed(Command::new("mount").args(["-o", &options]).arg(disk.path()));
    };
    remount("ro");
    let said = fail(resume(disk.path(), "run").args(["--steps", "4"]));
    assert!(
        said.contains("make its file system writable") && !said.contains("--out"),
        "{said}"
    );
    remount("rw");
    succeed(resume(disk.path(), "run").args(["--steps", "4"]));
}

/// What `ulimit -f` forbids is an error like a full disk, not the end of the process.
#[test]
fn a_limit_on_the_size_of_files_is_an_error_like_any_other() {
    let folder = folder();
    let options = ["--steps", "4", "--save-every", "2", "--embd", "64", "--out"];
    succeed(&mut train_tiny(folder.path(), &[&options[..], &["whole"]].concat()));
    let limited = |limit: &str| {
        let program = train_tiny(folder.path(), &[&options[..], &["run"]].concat());
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -f {limit}; exec \"$0\" \"$@\"")])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(folder.path());
        command
    };
    let said = fail(&mut limited("64"));
    assert!(
        said.contains("step 4 could not be saved") && said.contains("raise the limit on the size of files (ulimit -f)"),
        "{said}"
    );
    succeed(&mut resume(folder.path(), "run"));
    assert!(learned(&folder.path().join("run")) == learned(&folder.path().join("whole")));
}

/// A run that prunes its checkpoints is read all the same.
#[test]
fn a_run_is_read_while_it_prunes() {
    let folder = folder();
    let run = folder.path().join("run");
    let mut child = spawn_tiny(
        folder.path(),
        &[
            "--steps",
            "100000",
            "--save-every",
            "1",
            "--eval-every",
            "100000",
            "--keep-last",
            "1",
            "--out",
            "run",
        ],
    );
    wait_until("two saves", &mut child, || run.join("step-000002").exists());
    for number in 0..300 {
        let read = match number % 3 {
            0 => run.clone(),
            1 => run.join("latest"),
            _ => run.join("best"),
        };
        runs::read_checkpoint(Some(&read), Checkpoint::load).unwrap();
    }
    let said = succeed(mlx_gpt(folder.path()).args(["runs", "."]));
    assert!(!String::from_utf8_lossy(&said.stdout).contains("damaged"));
    signal(&child, "-TERM");
    child.wait().unwrap();
}

/// What a killed export left goes with the next command that writes beside it.
#[test]
fn what_a_killed_export_left_goes_with_the_next() {
    let folder = folder();
    let path = folder.path();
    succeed(&mut train_tiny(
        path,
        &["--steps", "1", "--embd", "256", "--out", "run"],
    ));
    let export = |out: &str| {
        let mut command = mlx_gpt(path);
        command.args(["export", "--checkpoint", "run", "--format", "hf", "--out", out]);
        command
    };
    let unfinished = || names(path).into_iter().any(|name| name.starts_with(".making-"));
    let killed = (0..50).any(|_| {
        let mut child = export("killed").start_quietly();
        while child.try_wait().unwrap().is_none() && !unfinished() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let left = unfinished();
        let _ = fs::remove_dir_all(path.join("killed"));
        left
    });
    assert!(killed, "it was always quicker");
    succeed(mlx_gpt(path).args(["tokenizer", "train", "--vocab-size", "300", "--out", "tok.json"]));
    assert_eq!(names(path), ["run", "tok.json"]);
}
