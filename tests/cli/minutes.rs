//! What decides how long a run is, and which of its checkpoints is used: minutes, patience, the best one.

use std::path::Path;

use serde_json::Value;

use super::common::{fail, folder, generate, mlx_gpt, stderr, stdout, succeed, train_smallest, train_tiny};

fn state(step: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(step.join("state.json")).unwrap()).unwrap()
}

fn text(folder: &Path) {
    let text = "to be or not to be, that is the question\n".repeat(40);
    std::fs::write(folder.join("text.txt"), text).unwrap();
}

#[test]
fn minutes_refuse_what_they_decide() {
    let folder = folder();
    for (options, expected) in [
        (&["--steps", "5"][..], "--steps does not go with --minutes"),
        (&["--init-from", "x"], "--init-from does not go with --minutes"),
        (&["--task", "addition"], "--task does not go with --minutes"),
    ] {
        let said = fail(mlx_gpt(folder.path()).args(["train", "--minutes", "1"]).args(options));
        assert!(said.contains(expected), "{said}");
        let said = fail(mlx_gpt(folder.path()).args(["plan", "--minutes", "1"]).args(options));
        assert!(said.contains(expected), "{said}");
    }
    for (minutes, expected) in [
        ("0", "minutes is 0"),
        ("-1", "minutes is -1"),
        ("nan", "minutes is NaN"),
    ] {
        let said = fail(mlx_gpt(folder.path()).args(["train", "--minutes", minutes]));
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no run is left");
}

/// Of a size that is given, since measuring several takes a while.
#[test]
fn a_plan_trains_nothing_and_has_the_size_that_was_given() {
    let folder = folder();
    let plan = ["plan", "--minutes", "30", "--json", "--device", "cpu", "--threads", "1"];
    let size = "--layers 1 --heads 2 --embd 32 --context 16 --batch-size 4 --corpus text.txt";
    text(folder.path());
    let output = succeed(mlx_gpt(folder.path()).args(plan).args(size.split_whitespace()));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let chosen = &plan["chosen"];
    assert_eq!(plan["sizes"].as_array().unwrap().len(), 1, "{plan}");
    assert_eq!(
        (&chosen["embd"], &chosen["context"]),
        (&32.into(), &16.into()),
        "{plan}"
    );
    assert!(
        chosen["loss"].as_f64().unwrap() > 0.0 && chosen["band"].as_f64().unwrap() > 0.0,
        "{plan}"
    );
    // A text of 1640 characters that is seen thousands of times.
    assert!(
        chosen["dropout"].as_f64().unwrap() > 0.0 && chosen["steps"].as_u64().unwrap() > 60,
        "{plan}"
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing is written"
    );
}

/// With rates of 0, so that patience ends it at once, however long the minutes are.
#[test]
fn a_run_of_minutes_says_what_it_trains() {
    let folder = folder();
    text(folder.path());
    let options = "train --corpus text.txt --minutes 30 --lr 0 --min-lr 0 --muon-lr 0 --eval-every 1 --patience 1 --eval-batches 1 \
                   --layers 1 --heads 2 --embd 32 --context 16 --batch-size 2 --device cpu --threads 1 --out run";
    let said = stderr(&succeed(mlx_gpt(folder.path()).args(options.split_whitespace())));
    assert!(said.contains("30 minutes: 1 layers, 2 heads, 32 wide"), "{said}");
    assert!(
        said.contains("expected validation loss") && said.contains("transformers does not open"),
        "{said}"
    );
    let config = std::fs::read_to_string(folder.path().join("run/config.toml")).unwrap();
    let config: toml::Table = toml::from_str(&config).unwrap();
    assert_eq!(config["minutes"].as_float(), Some(30.0));
    assert_eq!(
        (config["arch"].as_str(), config["windows"].as_str()),
        (Some("modern"), Some("shuffled"))
    );
}

/// A run's config.toml has minutes and the steps that they came to. Of these steps, it takes as many as it has time for.
#[test]
fn a_run_of_minutes_takes_all_steps_of_its_plan() {
    let folder = folder();
    std::fs::write(
        folder.path().join("run.toml"),
        "minutes = 0.1\nsteps = 5000000\neval_every = 20\n",
    )
    .unwrap();
    succeed(train_smallest(folder.path()).args(["--config", "run.toml", "--out", "run"]));
    let state = state(&folder.path().join("run").join("latest"));
    assert_eq!(state["step"], state["pace"]["steps"]);
    assert!(state["step"].as_u64().unwrap() < 5_000_000);
    let listed = stdout(&succeed(mlx_gpt(folder.path()).args(["runs", "--json", "."])));
    assert!(listed.contains("\"complete\":true"), "{listed}");
    let said = stderr(&succeed(mlx_gpt(folder.path()).args(["train", "--resume", "run"])));
    assert!(said.contains("is complete"), "{said}");
}

#[test]
fn patience_ends_a_run_whose_loss_does_not_fall_and_can_be_taken_back() {
    let folder = folder();
    let still = [
        "--lr",
        "0",
        "--min-lr",
        "0",
        "--muon-lr",
        "0",
        "--eval-every",
        "2",
        "--steps",
        "30",
    ];
    let said = stderr(&succeed(train_smallest(folder.path()).args(still).args([
        "--patience",
        "2",
        "--out",
        "run",
    ])));
    assert!(
        said.contains("has not fallen for 2 evaluations, so the run ends after step 4"),
        "{said}"
    );
    let run = folder.path().join("run");
    assert_eq!(state(&run.join("latest"))["step"], 4);
    let said = stderr(&succeed(mlx_gpt(folder.path()).args(["train", "--resume", "run"])));
    assert!(said.contains("has not fallen for 2 evaluations"), "{said}");
    assert_eq!(state(&run.join("latest"))["step"], 4);
    succeed(mlx_gpt(folder.path()).args(["train", "--resume", "run", "--patience", "0", "--steps", "8"]));
    assert_eq!(state(&run.join("latest"))["step"], 8);
}

#[test]
fn the_best_checkpoint_is_used_where_it_is_better_and_says_so() {
    let folder = folder();
    let options = ["--steps", "4", "--save-every", "2", "--eval-every", "2", "--out", "run"];
    succeed(&mut train_tiny(folder.path(), &options));
    let run = folder.path().join("run");
    let used = |options: &[&str]| {
        let output = succeed(
            mlx_gpt(folder.path())
                .args(["eval", "--json", "--checkpoint"])
                .args(options),
        );
        let loss: Value = serde_json::from_slice(&output.stdout).unwrap();
        (loss["loss"].as_f64().unwrap(), stderr(&output))
    };
    let (latest, said) = used(&["run"]);
    assert!(!said.contains("the best of its run"), "{said}");
    let (first, _) = used(&["run/step-000002"]);
    assert_ne!(first, latest);

    // As if the validation loss had risen since step 2.
    let file = run.join("step-000004").join("state.json");
    for (lower, better) in [(0.01, false), (0.05, true)] {
        let mut changed = state(&run.join("step-000004"));
        let now = changed["evaluation"]["val"].as_f64().unwrap();
        changed["best"] = serde_json::json!({"step": 2, "val_loss": now - lower});
        std::fs::write(&file, changed.to_string()).unwrap();
        let (loss, said) = used(&["run"]);
        assert_eq!(loss, if better { first } else { latest }, "{lower}");
        assert_eq!(
            said.contains("run/step-000002 is used, the best of its run"),
            better,
            "{said}"
        );
    }
    let said = stderr(&succeed(&mut generate(folder.path(), &["--max-new-tokens", "2"])));
    assert!(said.contains("run/latest"), "{said}");
    let (loss, said) = used(&["run/latest"]);
    assert!(loss == latest && !said.contains("the best of its run"), "{said}");
    // A resume goes on from the newest one all the same.
    succeed(mlx_gpt(folder.path()).args(["train", "--resume", "run", "--steps", "6"]));
    assert_eq!(state(&run.join("latest"))["step"], 6);
}
