//! `bench speedrun`: curves that say what `train` and `eval` say, beside another program's.

use std::fs;

use crate::common::{TINY, fail, folder, mlx_gpt, stdout, succeed, train_tiny};
use mlx_gpt::data::dataset::Dataset;
use serde_json::{Value, json};

/// The tiny model's options as keys of a file.
fn base() -> String {
    let pairs = TINY.chunks(2).map(|pair| {
        let value = if pair[1].parse::<f64>().is_ok() {
            pair[1].to_owned()
        } else {
            format!("{:?}", pair[1])
        };
        format!("{} = {value}\n", pair[0].trim_start_matches("--").replace('-', "_"))
    });
    pairs.collect()
}

#[test]
fn curves_end_at_the_loss_that_eval_measures() {
    let folder = folder();
    let path = folder.path();
    let plan = format!(
        "preset = \"nano\"\nseeds = [1, 2]\n[base]\n{}[[recipe]]\nname = \"plain\"\nsteps = 6\n\
         [[recipe]]\nname = \"line\"\nschedule = \"linear\"\nsteps = 4\n[[recipe]]\nname = \"wild\"\nlr = 1e30\nsteps = 4\n",
        base()
    );
    fs::write(path.join("plan.toml"), plan).unwrap();
    let text = "the quick brown fox jumps over the lazy dog. ".repeat(40);
    fs::write(path.join("text.txt"), text).unwrap();
    // What scripts/bench/torch_recipe.py prints.
    fs::create_dir(path.join("out")).unwrap();
    let text = Dataset::open(path.join("text.txt").to_str().unwrap()).unwrap();
    let other = json!({
        "engine": "torch 9", "recipe": "plain", "seed": 1, "tokens_per_second": 7.0, "corpus": text.record().unwrap(),
        "curve": [{"step": 3, "seconds": 10.0, "val_loss": 9.0}, {"step": 6, "seconds": 20.0, "val_loss": 2.0}],
    });
    fs::write(path.join("out/curves.jsonl"), format!("{other}\n")).unwrap();

    let run = |more: &[&str]| {
        let mut command = mlx_gpt(path);
        command.args(["bench", "speedrun", "plan.toml", "--corpus", "text.txt", "--out", "out"]);
        command.args(["--target", "5", "--evaluations", "3"]).args(more);
        stdout(&succeed(&mut command))
    };
    // One seed after the other, as `make speedrun` does, in turn with PyTorch's.
    run(&["--seeds", "2"]);
    let json: Value = serde_json::from_str(&run(&["--json"])).unwrap();
    let curves = fs::read_to_string(path.join("out/curves.jsonl")).unwrap();
    let races: Vec<Value> = curves.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |recipe: &str, seed: u64| {
        let mut found = races[1..]
            .iter()
            .filter(|race| race["recipe"] == recipe && race["seed"] == seed);
        let race = found.next().unwrap();
        assert!(found.next().is_none(), "{recipe}, {seed}: once");
        race
    };
    assert_eq!(races.len(), 7);

    let steps = |race: &Value| -> Vec<u64> {
        let points = race["curve"].as_array().unwrap();
        assert!(points.is_sorted_by_key(|point| point["seconds"].as_f64().unwrap()));
        points.iter().map(|point| point["step"].as_u64().unwrap()).collect()
    };
    assert_eq!(steps(named("plain", 1)), [2, 4, 6]);
    assert_eq!(steps(named("line", 2)), [2, 4]);
    assert_eq!(
        named("wild", 1)["curve"].as_array().unwrap().last().unwrap()["val_loss"],
        Value::Null
    );

    let options = [
        "--corpus",
        "text.txt",
        "--seed",
        "2",
        "--steps",
        "4",
        "--schedule",
        "linear",
        "--out",
        "run",
    ];
    succeed(&mut train_tiny(path, &options));
    let eval = ["eval", "--device", "cpu", "--checkpoint", "run", "--json"];
    let eval: Value = serde_json::from_str(&stdout(&succeed(mlx_gpt(path).args(eval)))).unwrap();
    assert_eq!(
        named("line", 2)["curve"][1]["val_loss"],
        eval["loss"],
        "the same training and the same measure, to the bit"
    );

    let result = &json["result"];
    let standings = result["standings"].as_array().unwrap();
    assert_eq!(result["reference"], serde_json::json!(["torch 9", "plain"]));
    let names: Vec<&Value> = standings.iter().map(|standing| &standing["recipe"]).collect();
    assert_eq!(names, ["plain", "plain", "line", "wild"]);
    assert_eq!(standings[0]["ratio"], 1.0, "its own target at its own end");
    for standing in &standings[1..3] {
        // An untrained model is at ln 28 = 3.3: all are below 5 when they are first measured, after two steps.
        assert_eq!(
            (&standing["reached"], &standing["steps_to_target"]),
            (&2.into(), &2.0.into())
        );
        let ratio = standing["seconds_to_target"].as_f64().unwrap() / 20.0;
        // serde_json reads numbers to within a unit in the last place.
        assert!((standing["ratio"].as_f64().unwrap() / ratio - 1.0).abs() < 1e-14);
    }
    assert_eq!(standings[3]["val_loss"], Value::Null);

    let table = run(&[]);
    assert_eq!(
        fs::read_to_string(path.join("out/curves.jsonl")).unwrap(),
        curves,
        "nothing is done twice"
    );
    assert!(
        table.starts_with("Steps and seconds to a validation loss of 5.0000;"),
        "{table}"
    );
    assert!(table.lines().any(|line| line.contains("torch 9")), "{table}");
    let text = fs::read_to_string(path.join("plan.toml")).unwrap();
    fs::write(
        path.join("plan.toml"),
        text.replace("\"wild\"\nlr = 1e30", "\"wild\"\nlr = 1e-3"),
    )
    .unwrap();
    let table = run(&["--seeds", "1"]);
    let wild: Vec<&str> = table.lines().filter(|line| line.contains("wild")).collect();
    assert!(
        wild.len() == 1 && wild[0].contains("1/1"),
        "the recipe as it is now: {table}"
    );

    let picture = fs::read_to_string(path.join("out/curves.svg")).unwrap();
    for name in ["torch 9, plain", "mlx-gpt, line", "target 5.000"] {
        assert!(picture.contains(name), "{name}");
    }
}

#[test]
fn a_plan_without_recipes_or_a_target() {
    let folder = folder();
    let path = folder.path();
    let fails = |plan: String, expected: &str| {
        fs::write(path.join("plan.toml"), plan).unwrap();
        let said = fail(mlx_gpt(path).args(["bench", "speedrun", "plan.toml"]));
        assert!(said.contains(expected), "{said}");
    };
    let head = format!("preset = \"nano\"\nseeds = [1]\n[base]\n{}", base());
    fails(head.clone(), "plan.toml");
    let recipe = "[[recipe]]\nname = \"a\"\nlr = 1e30\nsteps = 4\n";
    fails(format!("{head}{recipe}{recipe}"), "two recipes are called a");
    fails(
        format!("{head}{}", recipe.replace("\"a\"", r#""a\u001b[31m""#)),
        "must be a single printable line",
    );
    for target in ["nan", "inf", "-1", "1.7e308"] {
        let target = format!("--target={target}");
        let refused = mlx_gpt(path)
            .args(["bench", "speedrun", "plan.toml", &target])
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(2), "{target}");
    }
    let curve =
        r#"{"engine":"torch","recipe":"plain","seed":1,"tokens_per_second":1.0,"corpus":{"sha256":"","cut":1},"#;
    let curve = format!("{curve}\"curve\":[{{\"step\":1,\"seconds\":-1.0,\"val_loss\":2.0}}]}}\n");
    fs::create_dir(path.join("other")).unwrap();
    fs::write(path.join("other/curves.jsonl"), &curve).unwrap();
    fs::write(path.join("plan.toml"), format!("{head}{recipe}")).unwrap();
    let said = fail(mlx_gpt(path).args(["bench", "speedrun", "plan.toml", "--out", "other"]));
    assert!(
        said.contains("line 1 of other/curves.jsonl has implausible times or losses"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(path.join("other/curves.jsonl")).unwrap(), curve);
    fails(
        format!("{head}{recipe}"),
        "recipe a diverged, so it sets no target; give one with --target",
    );
}
