//! `mlx-gpt studio`: what its pages ask for, and what is refused.

mod attacks;
mod bodies;
#[path = "../common/mod.rs"]
mod common;
mod inside;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use common::http::{Server, with_run};
use common::{folder, succeed};
use mlx_gpt::LanguageModel;
use mlx_gpt::course::LESSONS;
use serde_json::{Value, json};

fn asked(server: &Server, path: &str, body: Value) -> Value {
    let answer = server.post_as_page(path, &body);
    assert_eq!(answer.status, 200, "{path} {body}: {answer:?}");
    answer.json()
}

fn refused(server: &Server, path: &str, body: Value, status: u16) -> String {
    let answer = server.post_as_page(path, &body);
    assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
    answer.error()
}

fn wait_for<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "still waiting for: {what}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_pages_are_in_the_program_and_name_nothing_elsewhere() {
    let folder = folder();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let page = server.get("/");
    assert!(
        page.status == 200 && page.head.contains("content-security-policy"),
        "{page:?}"
    );
    assert!(!page.body.contains("{{"), "{}", page.body);
    let mut bytes = page.body.len();
    let named = page.body.match_indices("/assets/").map(|(at, _)| {
        let rest = &page.body[at + "/assets/".len()..];
        rest[..rest.find('"').unwrap()].to_owned()
    });
    let mut files: Vec<String> = named.collect();
    let mut next = 0;
    while next < files.len() {
        let answer = server.get(&format!("/assets/{}", files[next]));
        assert_eq!(answer.status, 200, "{}", files[next]);
        bytes += answer.body.len();
        for imported in answer
            .body
            .lines()
            .filter_map(|line| line.split(" from './").nth(1)?.split('\'').next())
        {
            if !files.iter().any(|file| file == imported) {
                files.push(imported.to_owned());
            }
        }
        let addresses = answer.body.match_indices("http").map(|(at, _)| &answer.body[at..]);
        let elsewhere = addresses.filter(|rest| rest.starts_with("http://") || rest.starts_with("https://"));
        // The name of SVG, and the home of a library in its first comment, are no addresses that anything is fetched from.
        let harmless = ["http://www.w3.org/", "https://github.com/leeoniya/uPlot (v"];
        assert!(
            elsewhere
                .clone()
                .all(|rest| harmless.iter().any(|name| rest.starts_with(name))),
            "{}",
            files[next]
        );
        next += 1;
    }
    assert_eq!(files.len(), 17, "{files:?}");
    assert!(bytes < 400_000, "{bytes}");
    // Without runs, the pages have nothing to show, and say so.
    assert_eq!(server.get("/api/runs").json(), json!({"runs": []}));
    assert_eq!(server.get("/api/models").json(), json!({"models": []}));
    assert_eq!(
        refused(&server, "/api/generate", json!({}), 404),
        "there is no model \"\"; /v1/models lists them"
    );
}

/// What is not the project's own is what `scripts/studio_vendor.sh` fetched.
#[test]
fn vendored_files_have_their_hashes() {
    let vendor = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/studio/pages/vendor");
    let sums = fs::read_to_string(vendor.join("SHA256SUMS")).unwrap();
    let mut named: Vec<String> = vec!["SHA256SUMS".into()];
    for line in sums.lines() {
        let (hash, name) = line.split_once("  ").unwrap();
        assert_eq!(
            mlx_gpt::disk::hash::sha256(fs::read(vendor.join(name)).unwrap()),
            hash,
            "{name}"
        );
        named.push(name.into());
    }
    named.sort();
    assert_eq!(common::names(&vendor), named);
}

#[test]
fn what_a_training_needs_is_said_before_it_begins() {
    let folder = folder();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let nano = asked(
        &server,
        "/api/needs",
        json!({"text": "", "preset": "nano", "steps": 10}),
    );
    let config = mlx_gpt::config::Preset::Nano.model_config(65);
    assert_eq!(nano["parameters"], mlx_gpt::model::init::parameter_count(&config));
    assert!(
        nano["memory"].as_f64().unwrap() > 12e6,
        "weights, gradients and moments: {nano}"
    );
    let text = "to be or not to be, that is the question: ".repeat(200);
    let minutes = asked(&server, "/api/needs", json!({"text": text, "minutes": 10}));
    for key in ["parameters", "memory", "steps", "loss", "band"] {
        assert!(minutes[key].as_f64().unwrap() > 0.0, "{key}: {minutes}");
    }
    let error = refused(&server, "/api/needs", json!({"text": "short", "minutes": 1}), 400);
    assert!(error.contains("short"), "{error}");
    let error = refused(&server, "/api/needs", json!({"text": "", "minutes": 0}), 400);
    assert!(error.contains("minutes"), "{error}");
    assert_eq!(common::names(folder.path()), Vec::<String>::new());
}

#[test]
fn a_run_is_started_watched_stopped_and_resumed() {
    let folder = folder();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let text = "the quick brown fox jumps over the lazy dog. ".repeat(200);
    let new = json!({"name": "mine", "text": text, "preset": "nano", "steps": 100_000});
    assert_eq!(asked(&server, "/api/runs", new.clone()), json!({"run": "runs/mine"}));
    let metrics = |from: u64, file: u64| server.get(&format!("/api/metrics?run=runs%2Fmine&from={from}&file={file}"));
    let first = wait_for("the first lines", || {
        let answer = metrics(0, 0);
        let lines = (answer.status == 200).then(|| answer.json());
        lines.filter(|lines| lines["lines"].as_str().unwrap().contains("\"lr\""))
    });
    let (next, file) = (first["next"].as_u64().unwrap(), first["file"].as_u64().unwrap());
    // Only what is new comes, and it is what is in the file.
    let more = wait_for("more lines", || {
        let more = metrics(next, file).json();
        (more["lines"] != "").then_some(more)
    });
    assert_eq!(more["start"], false);
    let logged = fs::read_to_string(folder.path().join("runs/mine/metrics.jsonl")).unwrap();
    assert!(logged[next as usize..].starts_with(more["lines"].as_str().unwrap()));
    let run = server.get("/api/runs").json()["runs"][0].clone();
    assert_eq!(
        (&run["id"], &run["training"], &run["steps"]),
        (&json!("runs/mine"), &json!(true), &json!(100_000))
    );
    assert!(refused(&server, "/api/runs", new, 409).contains("runs/mine"));
    assert!(refused(&server, "/api/runs/resume", json!({"run": "runs/mine"}), 409).contains("trained already"));

    // It outlives the server; another one stops it.
    drop(server);
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let training = |server: &Server| server.get("/api/runs").json()["runs"][0]["training"] == true;
    assert!(training(&server));
    asked(&server, "/api/runs/stop", json!({"run": "runs/mine"}));
    wait_for("the end of the training", || (!training(&server)).then_some(()));
    let saved = server.get("/api/runs").json()["runs"][0]["saved"].as_u64().unwrap();
    assert!(saved > 0);
    assert!(refused(&server, "/api/runs/stop", json!({"run": "runs/mine"}), 409).contains("not being trained"));
    let samples = server.get("/api/samples?run=runs/mine").json();
    assert_eq!(samples["samples"].as_array().unwrap().last().unwrap()["step"], saved);
    let log = server.get("/api/log?run=runs/mine").json()["log"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(log.contains("saved"), "{log}");

    asked(&server, "/api/runs/resume", json!({"run": "runs/mine"}));
    wait_for("the training to go on", || training(&server).then_some(()));
    asked(&server, "/api/runs/stop", json!({"run": "runs/mine"}));
    wait_for("its end", || (!training(&server)).then_some(()));
}

#[test]
fn tokens_come_with_their_alternatives_and_go_on_from_a_branch() {
    let folder = with_run();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let play = |prompt: Value, tokens: u32| -> Vec<Value> {
        let body = json!({"prompt": prompt, "max_tokens": tokens, "temperature": 0});
        let answer = server.post_as_page("/api/generate", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
            .events()
            .iter()
            .map(|event| serde_json::from_str(event).unwrap())
            .collect()
    };
    let events = play(json!("ROMEO:"), 5);
    assert_eq!(events.len(), 6);
    assert_eq!(events[0]["vocabulary"], 65);
    let prompt: Vec<u64> = events[0]["prompt"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["id"].as_u64().unwrap())
        .collect();
    assert_eq!(prompt.len(), 6);
    for event in &events[1..] {
        let alternatives = event["alternatives"].as_array().unwrap();
        assert_eq!(alternatives.len(), 65, "all of a small vocabulary");
        // They are probabilities, the likeliest first, and greedily that one is taken.
        let logprobs: Vec<f64> = alternatives.iter().map(|token| token[2].as_f64().unwrap()).collect();
        assert!((logprobs.iter().map(|logprob| logprob.exp()).sum::<f64>() - 1.0).abs() < 1e-4);
        assert!(logprobs.is_sorted_by(|a, b| a >= b));
        assert_eq!(
            (&event["id"], &event["logprob"]),
            (&alternatives[0][0], &alternatives[0][2])
        );
    }
    assert_eq!(events[5]["finished"], "length");
    // A branch: the second most likely token in the place of the third, and on from there.
    let other = events[3]["alternatives"][1][0].as_u64().unwrap();
    let kept = events[1..3].iter().map(|event| event["id"].as_u64().unwrap());
    let ids: Vec<u64> = prompt.into_iter().chain(kept).chain([other]).collect();
    let branch = play(json!(ids), 1);
    // The model says after those tokens what the library says.
    let model = LanguageModel::load(folder.path().join("runs/tiny")).unwrap();
    let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
    let text = model.tokenizer().decode(&ids).unwrap();
    let options = mlx_gpt::CompletionOptions {
        max_new_tokens: 1,
        sampling: mlx_gpt::generate::sampler::Sampling::GREEDY,
        ..Default::default()
    };
    let completion = model.complete(&text, &options).unwrap();
    assert_eq!(branch[1]["id"], completion.ids[0]);
}

#[test]
fn tokens_and_merges_are_those_of_the_tokenizers() {
    let folder = with_run();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let text = "Hello wörld 😀";
    let shown = asked(
        &server,
        "/api/tokens",
        json!({"text": text, "tokenizers": ["gpt2", "cl100k", "runs/tiny"]}),
    );
    for (index, tokenizer) in [mlx_gpt::Tokenizer::gpt2(), mlx_gpt::Tokenizer::cl100k()]
        .into_iter()
        .enumerate()
    {
        let ids: Vec<u64> = tokenizer
            .unwrap()
            .encode(text)
            .unwrap()
            .into_iter()
            .map(u64::from)
            .collect();
        let tokens = shown[index]["tokens"].as_array().unwrap();
        let seen: Vec<u64> = tokens.iter().map(|token| token["id"].as_u64().unwrap()).collect();
        assert_eq!(seen, ids);
    }
    assert_eq!(shown[0]["tokens"][0]["bytes"], "48 65 6c 6c 6f");
    assert!(shown[2]["failed"].as_str().unwrap().contains("ö"), "{}", shown[2]);

    let merged = asked(
        &server,
        "/api/merges",
        json!({"text": "tokenization is fun", "tokenizer": "gpt2"}),
    );
    let chunks = merged["chunks"].as_array().unwrap();
    assert_eq!(chunks.len(), 3);
    let steps = chunks[0].as_array().unwrap();
    assert_eq!(steps[0].as_array().unwrap().len(), 12, "a byte each");
    for (before, after) in steps.iter().zip(&steps[1..]) {
        assert_eq!(
            before.as_array().unwrap().len(),
            after.as_array().unwrap().len() + 1,
            "one merge a step"
        );
    }
    let last: Vec<u64> = steps
        .last()
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token[0].as_u64().unwrap())
        .collect();
    let ids = mlx_gpt::Tokenizer::gpt2().unwrap().encode("tokenization").unwrap();
    assert_eq!(last, ids.into_iter().map(u64::from).collect::<Vec<_>>());
    // Whatever is merged, it ends where the tokenizer does.
    for (name, tokenizer) in [
        ("gpt2", mlx_gpt::Tokenizer::gpt2()),
        ("cl100k", mlx_gpt::Tokenizer::cl100k()),
    ] {
        let tokenizer = tokenizer.unwrap();
        for text in [
            "",
            "a",
            " the  theatre\n\n",
            "don't 12345678",
            "größer 日本語 😀",
            "aaaaaaaaaaaaaaaa",
            "SolidGoldMagikarp",
        ] {
            let merged = asked(&server, "/api/merges", json!({"text": text, "tokenizer": name}));
            let chunks = merged["chunks"].as_array().unwrap().iter();
            let ends = chunks.flat_map(|steps| steps.as_array().unwrap().last().unwrap().as_array().unwrap());
            let ends: Vec<u32> = ends.map(|token| token[0].as_u64().unwrap() as u32).collect();
            assert_eq!(ends, tokenizer.encode(text).unwrap(), "{name} {text:?}");
        }
    }
    let without = asked(&server, "/api/merges", json!({"text": "a", "tokenizer": "runs/tiny"}));
    assert!(without["failed"].is_string(), "{without}");
}

#[test]
fn the_course_shows_what_this_machine_has_computed() {
    let folder = folder();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let days = server.get("/api/course").json()["days"].clone();
    let days = days.as_array().unwrap();
    assert_eq!(days.len(), LESSONS.len());
    assert_eq!(days[3]["type"][0], "mlx-gpt lesson 3");
    assert_eq!(days[3]["computed"], 0);
    let sections = server.get("/api/course/4").json()["sections"].clone();
    let named = |name: &str| {
        let sections = sections.as_array().unwrap();
        sections.iter().find(|section| section["name"] == name).unwrap().clone()
    };
    assert_eq!(named("scores.txt")["figure"], Value::Null);
    let (picture, _) = sections
        .as_array()
        .unwrap()
        .iter()
        .find_map(|section| Some((section["name"].as_str()?, section.get("picture")?)))
        .unwrap();
    assert_eq!(server.get(&format!("/api/course/4/{picture}")).status, 404);

    let figures = folder.path().join("lessons/figures/day-04");
    fs::create_dir_all(&figures).unwrap();
    fs::write(figures.join("scores.txt"), "1 2 3").unwrap();
    fs::write(figures.join(picture), "<svg/>").unwrap();
    let sections = server.get("/api/course/4").json()["sections"].clone();
    let scores = sections
        .as_array()
        .unwrap()
        .iter()
        .find(|section| section["name"] == "scores.txt")
        .unwrap();
    assert_eq!(scores["figure"], "1 2 3");
    let shown = server.get(&format!("/api/course/4/{picture}"));
    assert_eq!((shown.status, shown.body.as_str()), (200, "<svg/>"));

    // With a workbook, what is to be written there is left out, and what is right of it is counted.
    assert!(!server.get("/api/course/4").body.contains("todo!()"));
    assert_eq!(days[4]["right"], Value::Null);
    succeed(common::mlx_gpt(folder.path()).args(["lesson", "start"]));
    assert!(server.get("/api/course/4").body.contains("todo!()"));
    fs::write(
        folder.path().join("my-gpt/progress.json"),
        r#"{"days": {"4": ["scale", "scores"]}}"#,
    )
    .unwrap();
    let day = server.get("/api/course").json()["days"][4].clone();
    assert_eq!(day["right"], 2);
    assert!(day["exercises"].as_u64().unwrap() >= 2, "{day}");
}
