//! A run that stopped, however it stopped, goes on as if it never had.

mod common;

use std::path::Path;
use std::process::Child;

use clap::ValueEnum;
use common::learned::{Learned, learned};
use common::{SAVED_OFTEN, Start, fail, folder, mlx_gpt, says, signal, stderr, succeed, train_tiny, wait_until};
use mlx_gpt::config::{OnNan, Optimizer, Precision, Schedule};

fn spawn(folder: &Path, options: &[&str]) -> Child {
    train_tiny(folder, options).start()
}

fn undisturbed() -> Learned {
    let folder = folder();
    succeed(&mut train_tiny(folder.path(), &SAVED_OFTEN));
    learned(&folder.path().join("run"))
}

#[test]
fn killed_after_twenty_steps_and_resumed() {
    let folder = folder();
    let run = folder.path().join("run");
    let mut child = spawn(folder.path(), &SAVED_OFTEN);
    wait_until("step 20 saved", &mut child, || run.join("step-000020").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        !run.join("step-000400").exists(),
        "the kill came too late to show anything"
    );
    // What a process that died while it was writing leaves, and half a line.
    std::fs::create_dir(run.join(".making-1-step-000030")).unwrap();
    let mut metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    metrics.push_str("{\"step\":30,\"lo");
    std::fs::write(run.join("metrics.jsonl"), metrics).unwrap();

    succeed(mlx_gpt(folder.path()).args(["train", "--resume", "run"]));
    assert!(!run.join(".making-1-step-000030").exists());
    assert!(
        learned(&run) == undisturbed(),
        "weights, moments, state and metrics are the same to the bit"
    );
}

#[test]
fn signals_save_and_say_how_to_go_on() {
    let expected = undisturbed();
    for (name, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let folder = folder();
        let run = folder.path().join("run");
        let mut child = spawn(folder.path(), &SAVED_OFTEN);
        wait_until("the first step", &mut child, || {
            says(&run.join("metrics.jsonl"), "\"loss\"")
        });
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).contains("--resume"), "{}", stderr(&output));
        let saved = std::fs::read_link(run.join("latest")).unwrap();
        assert_ne!(
            saved.to_str(),
            Some("step-000400"),
            "the signal came too late to show anything"
        );
        // Without a folder, --resume takes the one in --out.
        succeed(mlx_gpt(folder.path()).args(["train", "--out", "run", "--resume"]));
        assert!(
            learned(&run) == expected,
            "{name}: weights, moments and metrics are the same to the bit"
        );
    }
}

#[test]
fn a_longer_run_goes_on_and_another_run_is_refused() {
    let folder = folder();
    succeed(&mut train_tiny(folder.path(), &["--steps", "4", "--out", "run"]));
    let resume = |options: &[&str]| {
        let mut command = mlx_gpt(folder.path());
        command.args(["train", "--resume", "run"]).args(options);
        command
    };
    let said = stderr(&succeed(&mut resume(&["--steps", "6"])));
    assert!(
        said.contains("steps 4 is now 6") && said.contains("resuming after step 4"),
        "{said}"
    );
    assert!(
        std::fs::read_to_string(folder.path().join("run/config.toml"))
            .unwrap()
            .contains("steps = 6")
    );
    for options in [
        ["--embd", "32"],
        ["--seed", "8"],
        ["--batch-size", "2"],
        ["--dropout", "0"],
    ] {
        let said = fail(&mut resume(&options));
        assert!(
            said.contains(&options[0][2..]) && said.contains("cannot change on resume"),
            "{said}"
        );
    }

    std::fs::write(folder.path().join("other.txt"), "another text ".repeat(50)).unwrap();
    let said = fail(&mut resume(&["--corpus", "other.txt", "--steps", "8"]));
    assert!(said.contains("is not the text that the run was trained on"), "{said}");
}

/// Some conversations in `chat.jsonl`, of different lengths.
fn write_conversations(folder: &Path) {
    let line = |n: usize| format!("{{\"prompt\": \"{}?\", \"completion\": \"{n}.\"}}\n", "a".repeat(n % 7));
    let lines: String = (1..30).map(line).collect();
    std::fs::write(folder.join("chat.jsonl"), lines).unwrap();
}

/// A run with these options that is killed and resumed learns what one learns that is not.
fn assert_goes_on_after_a_kill(folder: &Path, options: &[&str]) {
    let run = folder.join("run");
    let mut child = spawn(folder, options);
    wait_until("step 20 saved", &mut child, || run.join("step-000020").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        !run.join("step-000400").exists(),
        "the kill came too late to show anything"
    );
    succeed(mlx_gpt(folder).args(["train", "--resume", "run"]));
    let whole = options
        .iter()
        .map(|&option| if option == "run" { "whole" } else { option });
    succeed(&mut train_tiny(folder, &whole.collect::<Vec<_>>()));
    assert!(learned(&run) == learned(&folder.join("whole")));
}

#[test]
fn a_killed_run_on_conversations_goes_on() {
    let folder = folder();
    write_conversations(folder.path());
    let options = [&SAVED_OFTEN[..], &["--chat", "chat.jsonl"]].concat();
    assert_goes_on_after_a_kill(folder.path(), &options);
    // Another file is no way to go on.
    std::fs::write(
        folder.path().join("chat.jsonl"),
        "{\"prompt\": \"a\", \"completion\": \"b\"}\n",
    )
    .unwrap();
    let said = fail(mlx_gpt(folder.path()).args(["train", "--resume", "run", "--steps", "500"]));
    assert!(said.contains("is not what the run was trained on"), "{said}");
}

/// What an option that is one of a few words may be.
fn names<T: ValueEnum>() -> Vec<&'static str> {
    let names = T::value_variants()
        .iter()
        .map(|variant| variant.to_possible_value().unwrap().get_name().to_owned());
    names.map(|name| &*name.leak()).collect()
}

/// Each kind of run is trained whole, and cut back to its first checkpoint, as if it had died there, and resumed.
#[test]
fn every_kind_of_run_resumes_to_the_bit() {
    let folder = folder();
    succeed(&mut train_tiny(folder.path(), &["--steps", "2", "--out", "base"]));
    std::fs::write(folder.path().join("parts.toml"), "kv_heads = 1\n").unwrap();
    write_conversations(folder.path());
    let chat = [
        "--chat",
        "chat.jsonl",
        "--init-from",
        "base",
        "--steps",
        "2",
        "--out",
        "chat-base",
    ];
    succeed(&mut train_tiny(folder.path(), &chat));
    let mut kinds: Vec<(String, Vec<&str>)> = Vec::new();
    let mut add = |kind: &str, options: &[&'static str]| kinds.push((kind.to_owned(), options.to_vec()));
    for (kind, options) in [
        ("accumulation", &["--grad-accum", "3"][..]),
        ("one thread", &["--threads", "1"]),
        ("one thread, accumulation", &["--threads", "1", "--grad-accum", "2"]),
        ("no dropout", &["--dropout", "0"]),
        ("scaled losses, added up", &["--dtype", "float16", "--grad-accum", "2"]),
        ("from a checkpoint", &["--init-from", "base"]),
        (
            "frozen",
            &["--init-from", "base", "--freeze", "wte.*", "--freeze", "h.0.*"],
        ),
        ("shared keys", &["--optimizer", "muon", "--config", "parts.toml"]),
        ("adapters", &["--init-from", "base", "--lora-rank", "2"]),
        ("a task", &["--task", "addition", "--grad-accum", "2"]),
        ("conversations", &["--chat", "chat.jsonl", "--grad-accum", "2"]),
        (
            "conversations, finetuned",
            &["--chat", "chat.jsonl", "--init-from", "base"],
        ),
        (
            "conversations, adapters",
            &["--chat", "chat.jsonl", "--init-from", "chat-base", "--lora-rank", "2"],
        ),
        ("newer components", &["--arch", "modern"]),
        (
            "newer components, one thread",
            &["--arch", "modern", "--threads", "1", "--dtype", "float16"],
        ),
        (
            "newer components, accumulation, recomputed",
            &["--arch", "modern", "--grad-accum", "2", "--recompute"],
        ),
        (
            "newer components, the table frozen",
            &["--arch", "modern", "--freeze", "ngrams.*"],
        ),
    ] {
        add(kind, options);
    }
    // Whatever can be chosen, whether or not it is listed above.
    for name in names::<Optimizer>() {
        add(
            &format!("optimizer {name}"),
            &["--optimizer", name, "--dtype", "float16"],
        );
    }
    for name in names::<Schedule>() {
        // In the middle of its decay.
        add(
            &format!("schedule {name}"),
            &["--schedule", name, "--decay-share", "0.8", "--warmup", "1"],
        );
    }
    for name in names::<Precision>() {
        add(&format!("dtype {name}"), &["--dtype", name]);
    }
    for name in names::<OnNan>() {
        add(&format!("on-nan {name}"), &["--on-nan", name]);
    }
    for (kind, options) in &kinds {
        let options: Vec<&str> = [&["--steps", "6", "--save-every", "2", "--out", kind], &options[..]].concat();
        succeed(&mut train_tiny(folder.path(), &options));
        let run = folder.path().join(kind);
        let whole = learned(&run);
        for step in ["step-000004", "step-000006"] {
            std::fs::remove_dir_all(run.join(step)).unwrap();
        }
        let said = stderr(&succeed(mlx_gpt(folder.path()).args(["train", "--resume", kind])));
        assert!(said.contains("resuming after step 2"), "{kind}: {said}");
        assert!(learned(&run) == whole, "{kind}: the same to the bit");
    }
}

/// A run on a text makes its table decay: without that it learns another one.
#[test]
fn the_table_of_a_run_decays() {
    let folder = folder();
    let tables = ["0.0", "500.0"].map(|decay| {
        let keys = format!("arch = \"modern\"\nngram_rows = 1024\nngram_decay = {decay}\n");
        std::fs::write(folder.path().join("table.toml"), keys).unwrap();
        let options = ["--steps", "40", "--config", "table.toml", "--out", decay];
        succeed(&mut train_tiny(folder.path(), &options));
        let weights = folder.path().join(decay).join("latest/model.safetensors");
        let table = mlx_rs::Array::load_safetensors(&weights)
            .unwrap()
            .remove("ngrams.weight")
            .unwrap();
        table.square().unwrap().sum(None).unwrap().item_exact::<f32>()
    });
    assert!(tables[1] < 0.9 * tables[0], "{tables:?}");
}

/// The n-gram table decays after step 32: before a resume, or after it.
#[test]
fn a_run_whose_table_decays_resumes_to_the_bit() {
    let folder = folder();
    std::fs::write(
        folder.path().join("table.toml"),
        "arch = \"modern\"\nngram_rows = 1024\nngram_decay = 500.0\n",
    )
    .unwrap();
    let options = [
        "--steps",
        "70",
        "--save-every",
        "10",
        "--config",
        "table.toml",
        "--out",
        "run",
    ];
    for threads in ["1", "2"] {
        succeed(&mut train_tiny(
            folder.path(),
            &[&options[..], &["--threads", threads]].concat(),
        ));
        let run = folder.path().join("run");
        let whole = learned(&run);
        for kept in [30, 40] {
            for step in (kept + 10..=70).step_by(10) {
                std::fs::remove_dir_all(run.join(format!("step-{step:06}"))).unwrap();
            }
            let said = stderr(&succeed(mlx_gpt(folder.path()).args(["train", "--resume", "run"])));
            assert!(said.contains(&format!("resuming after step {kept}")), "{said}");
            assert!(
                learned(&run) == whole,
                "{threads} threads, after step {kept}: the same to the bit"
            );
        }
        std::fs::remove_dir_all(run).unwrap();
    }
}

#[test]
fn a_killed_run_with_a_table_goes_on() {
    let folder = folder();
    std::fs::write(
        folder.path().join("table.toml"),
        "arch = \"modern\"\nngram_rows = 1024\n",
    )
    .unwrap();
    let options = [&SAVED_OFTEN[..], &["--config", "table.toml"]].concat();
    assert_goes_on_after_a_kill(folder.path(), &options);
}

/// The numbers of the logged steps after `step`, by their keys.
fn logged(run: &Path, key: &str, step: u64) -> Vec<(u64, f64)> {
    let lines = learned(run).lines;
    let lines = lines
        .iter()
        .filter_map(|line| Some((line["step"].as_u64()?, line[key].as_f64()?)));
    lines.filter(|(at, _)| *at > step).collect()
}

/// A longer run keeps its schedule, and says so: its past is the same, and the steps beyond train at the lowest rate.
/// `--schedule-steps` plans the rates anew.
#[test]
fn a_longer_run_keeps_its_schedule_unless_told_otherwise() {
    let folder = folder();
    let options = ["--steps", "20", "--warmup", "5", "--lr", "0.004", "--min-lr", "0.0004"];
    let resume = |run: &str, options: &[&str]| {
        let mut command = mlx_gpt(folder.path());
        stderr(&succeed(command.args(["train", "--resume", run]).args(options)))
    };
    for out in ["kept", "planned", "shorter"] {
        succeed(&mut train_tiny(
            folder.path(),
            &[&options[..], &["--out", out]].concat(),
        ));
    }
    let said = resume("kept", &["--steps", "40"]);
    assert!(
        said.contains(
            "changed  steps 20 is now 40; the schedule still ends at step 20, \
             later steps use min-lr, 0.0004 (--schedule-steps 40 would end it with the run)"
        ),
        "{said}"
    );
    assert!(!said.contains("changed  schedule-steps"), "{said}");
    let kept = folder.path().join("kept");
    assert_eq!(logged(&kept, "lr", 20), [(30, 0.0004), (40, 0.0004)]);
    // It is remembered: another resume keeps it too, and is the run that was never stopped.
    assert!(
        std::fs::read_to_string(kept.join("config.toml"))
            .unwrap()
            .contains("schedule_steps = 20")
    );
    let whole = learned(&kept);
    std::fs::remove_dir_all(kept.join("step-000040")).unwrap();
    let said = resume("kept", &[]);
    assert!(said.contains("resuming after step 20"), "{said}");
    assert!(learned(&kept) == whole);
    let said = resume("kept", &["--steps", "50"]);
    assert!(said.contains("still ends at step 20"), "{said}");
    assert_eq!(logged(&kept, "lr", 40), [(50, 0.0004)]);

    let said = resume("planned", &["--steps", "40", "--schedule-steps", "40"]);
    assert!(
        said.contains("changed  steps 20 is now 40\n") && said.contains("schedule-steps 20 is now 40"),
        "{said}"
    );
    let planned = logged(&folder.path().join("planned"), "lr", 20);
    assert!(planned[0].1 > 0.001 && planned[1].1 < 0.0005, "{planned:?}");

    // Fewer steps than the schedule has: it is not squeezed into them.
    std::fs::remove_dir_all(folder.path().join("shorter/step-000020")).unwrap();
    let said = resume("shorter", &["--steps", "10"]);
    assert!(
        said.contains("the schedule still ends at step 20, so the learning rate does not reach min-lr"),
        "{said}"
    );
    assert!(logged(&folder.path().join("shorter"), "lr", 5)[0].1 > 0.002);
}

/// A new run with a schedule of its own length.
#[test]
fn a_schedule_may_end_before_the_run() {
    let folder = folder();
    let options = [
        "--steps",
        "30",
        "--schedule-steps",
        "10",
        "--min-lr",
        "0.0001",
        "--out",
        "run",
    ];
    succeed(&mut train_tiny(folder.path(), &options));
    assert_eq!(
        logged(&folder.path().join("run"), "lr", 10),
        [(20, 0.0001), (30, 0.0001)]
    );
    let said = fail(&mut train_tiny(
        folder.path(),
        &["--schedule-steps", "0", "--out", "other"],
    ));
    assert!(said.contains("schedule-steps is 0"), "{said}");
}

#[test]
fn a_run_needs_its_starting_point_no_more() {
    let folder = folder();
    succeed(&mut train_tiny(folder.path(), &["--steps", "1", "--out", "base"]));
    succeed(&mut train_tiny(
        folder.path(),
        &["--steps", "2", "--init-from", "base", "--out", "run"],
    ));
    std::fs::remove_dir_all(folder.path().join("base")).unwrap();
    succeed(mlx_gpt(folder.path()).args(["train", "--resume", "run", "--steps", "3"]));
}

#[test]
fn a_run_that_died_before_its_first_checkpoint_begins_again() {
    let folder = folder();
    let run = folder.path().join("run");
    let mut child = spawn(folder.path(), &SAVED_OFTEN);
    wait_until("the run's folder", &mut child, || run.join("config.toml").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = std::fs::remove_dir_all(run.join("step-000020")); // where the kill came late
    succeed(mlx_gpt(folder.path()).args(["train", "--resume", "run"]));
    assert!(learned(&run) == undisturbed());
}

#[test]
fn links_lost_in_a_crash_come_back_and_damage_is_found() {
    let folder = folder();
    let run = folder.path().join("run");
    succeed(&mut train_tiny(
        folder.path(),
        &["--steps", "4", "--save-every", "2", "--out", "run"],
    ));
    for link in ["latest", "best"] {
        std::fs::remove_file(run.join(link)).unwrap();
    }
    let said = stderr(&succeed(mlx_gpt(folder.path()).args(["train", "--resume", "run"])));
    assert!(said.contains("is complete at step 4"), "{said}");
    assert!(run.join("latest/model.safetensors").exists() && run.join("best/model.safetensors").exists());
    let said = fail(mlx_gpt(folder.path()).args(["train", "--resume", "run", "--steps", "3"]));
    assert!(said.contains("steps 3 are fewer than the 4"), "{said}");

    let optimizer = run.join("step-000004/optimizer.safetensors");
    let mut bytes = std::fs::read(&optimizer).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&optimizer, bytes).unwrap();
    let said = fail(mlx_gpt(folder.path()).args(["train", "--resume", "run", "--steps", "6"]));
    assert!(said.contains("optimizer.safetensors was changed or damaged"), "{said}");
}

#[test]
fn a_configuration_that_is_not_the_runs_is_refused() {
    let folder = folder();
    succeed(&mut train_tiny(folder.path(), &["--steps", "2", "--out", "run"]));
    let path = folder.path().join("run/config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        (
            "context = 16",
            "context = 64",
            "context 64 cannot change on resume: the run was trained with 16",
        ),
        ("layers = 2", "layers = 3", "layers 3 cannot change"),
        ("seed = 1337", "seed = 1338", "seed 1338 cannot change"),
        ("batch_size = 4", "batch_size = 3", "batch-size 3 cannot change"),
        ("dropout = 0.1", "dropout = 2.0", "dropout 2"),
        ("steps = 2", "steps = \"two\"", "is not the configuration of a run"),
    ] {
        assert!(config.contains(from), "{config}");
        std::fs::write(&path, config.replace(from, to)).unwrap();
        let said = fail(mlx_gpt(folder.path()).args(["train", "--resume", "run", "--steps", "4"]));
        assert!(said.contains(expected), "{to}: {said}");
    }
    std::fs::write(&path, config).unwrap();
    succeed(mlx_gpt(folder.path()).args(["train", "--resume", "run/latest", "--steps", "3"]));
    let said = fail(mlx_gpt(folder.path()).args(["train", "--resume", "run/step-000002"]));
    assert!(said.contains("older checkpoint"), "{said}");
}

#[test]
fn one_process_at_a_time() {
    let folder = folder();
    let run = folder.path().join("run");
    let mut child = spawn(folder.path(), &["--steps", "100000", "--out", "run"]);
    wait_until("the first step", &mut child, || {
        says(&run.join("metrics.jsonl"), "\"loss\"")
    });
    let said = fail(mlx_gpt(folder.path()).args(["train", "--resume", "run"]));
    assert!(
        said.contains(&format!("is being trained by another process (PID {});", child.id())),
        "{said}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}
