//! `mlx-gpt studio`: what its pages ask for, and what is refused.

mod common;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use common::http::{Answer, Server, read};
use common::{folder, mlx_gpt, succeed, train_tiny};
use mlx_gpt::LanguageModel;
use mlx_gpt::checkpoint::Checkpoint;
use mlx_gpt::model::Gpt;
use mlx_rs::Array;
use serde_json::{Value, json};
use tempfile::TempDir;

fn with_run() -> TempDir {
    let folder = folder();
    let options = [
        "--out",
        "runs/tiny",
        "--steps",
        "20",
        "--save-every",
        "10",
        "--dropout",
        "0",
    ];
    succeed(&mut train_tiny(folder.path(), &options));
    folder
}

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
    let mut files = vec!["style.css".to_owned(), "icon.svg".to_owned(), "app.js".to_owned()];
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
        // The name of SVG is no address that anything is fetched from.
        assert!(
            elsewhere.clone().all(|rest| rest.starts_with("http://www.w3.org/")),
            "{}",
            files[next]
        );
        next += 1;
    }
    assert_eq!(files.len(), 11, "{files:?}");
    assert!(bytes < 400_000, "{bytes}");
    // Without runs, the pages have nothing to show, and say so.
    assert_eq!(server.get("/api/runs").json(), json!({"runs": []}));
    assert_eq!(server.get("/api/models").json(), json!({"models": []}));
    assert_eq!(
        refused(&server, "/api/generate", json!({}), 404),
        "there is no model \"\"; /v1/models lists them"
    );
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
fn the_inside_of_a_model_is_the_librarys() {
    let folder = with_run();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let text = "To be or not";
    let shown = asked(&server, "/api/inside", json!({"model": "runs/tiny", "text": text}));
    assert_eq!((&shown["layers"], &shown["heads"]), (&json!(2), &json!(2)));
    assert_eq!(shown["tokens"].as_array().unwrap().len(), 12);

    let path = mlx_gpt::checkpoint::runs::find_checkpoint(Some(&folder.path().join("runs/tiny"))).unwrap();
    let checkpoint = Checkpoint::load(&path).unwrap();
    let gpt = Gpt::new(&checkpoint.model, &checkpoint.parameters).unwrap();
    let ids = checkpoint.tokenizer.encode(text).unwrap();
    let ids = Array::from_slice(&ids, &[1, 12]);
    for (layer, weights) in gpt.attention_weights(&ids).unwrap().iter().enumerate() {
        let expected: Vec<f32> = weights.reshape(&[-1]).unwrap().to_vec_exact().unwrap();
        let shown = asked(&server, "/api/attention", json!({"text": text, "layer": layer}));
        let heads = shown["heads"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|head| head.as_array().unwrap());
        let shown: Vec<f32> = heads
            .flat_map(|row| row.as_array().unwrap())
            .map(|weight| weight.as_f64().unwrap() as f32)
            .collect();
        assert!(common::largest_difference(&shown, &expected) <= 1e-4, "layer {layer}");
    }
    // After the last layer the lens says what the model says.
    let logits: Vec<f32> = gpt
        .forward(&ids, None)
        .unwrap()
        .reshape(&[-1])
        .unwrap()
        .to_vec_exact()
        .unwrap();
    let lens = shown["lens"].as_array().unwrap();
    assert_eq!(lens.len(), 3, "before the first layer, and after each");
    for (position, row) in logits.chunks(65).enumerate() {
        let best = (0..65).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        let total: f32 = row.iter().map(|logit| (logit - row[best]).exp()).sum();
        let said = &lens[2][position][0];
        assert!((said[1].as_f64().unwrap() as f32 - 1.0 / total).abs() < 1e-4, "{said}");
    }

    // A patch with the text itself changes nothing; one at the last position before the first layer makes it the other text's
    // last token.
    let patch = |source: &str, position: u32, source_position: u32| {
        let body = json!({"text": text, "source": source, "position": position, "source_position": source_position});
        asked(&server, "/api/patch", body)
    };
    let same = patch(text, 5, 5);
    for layer in same["layers"].as_array().unwrap() {
        let difference = layer["before"].as_f64().unwrap() - same["before"]["probability"].as_f64().unwrap();
        assert!(difference.abs() < 1e-5, "{same}");
    }
    let other = patch("To be or noq", 11, 11);
    let [first, expected] = [&other["layers"][0]["instead"], &other["instead"]["probability"]];
    assert!(
        (first.as_f64().unwrap() - expected.as_f64().unwrap()).abs() < 1e-5,
        "{other}"
    );

    for (path, body, part) in [
        ("/api/inside", json!({"text": ""}), "no tokens"),
        ("/api/inside", json!({"text": "日"}), "日"),
        ("/api/inside", json!({"text": "a".repeat(17)}), "at most 16"),
        ("/api/attention", json!({"text": "a", "layer": 2}), "layer is 2"),
        (
            "/api/patch",
            json!({"text": "a", "source": "b", "position": 1}),
            "outside",
        ),
    ] {
        assert!(refused(&server, path, body, 400).contains(part), "{part}");
    }
}

/// A bigram model has nothing to look into, but its tokens can be played with.
#[test]
fn a_model_without_blocks_says_so() {
    let folder = folder();
    let sizes = ["--layers", "1", "--heads", "1", "--embd", "1", "--dropout", "0"];
    let options = [&["--out", "runs/table", "--steps", "2", "--arch", "bigram"][..], &sizes].concat();
    succeed(&mut train_tiny(folder.path(), &options));
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let error = refused(&server, "/api/inside", json!({"text": "a"}), 400);
    assert!(error.contains("bigram") && error.contains("without blocks"), "{error}");
    let answer = server.post_as_page("/api/generate", &json!({"prompt": "a", "max_tokens": 2}));
    assert_eq!(answer.events().len(), 3, "{answer:?}");
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
    let without = asked(&server, "/api/merges", json!({"text": "a", "tokenizer": "runs/tiny"}));
    assert!(without["failed"].is_string(), "{without}");
}

#[test]
fn the_course_shows_what_this_machine_has_computed() {
    let folder = folder();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let days = server.get("/api/course").json()["days"].clone();
    let days = days.as_array().unwrap();
    assert_eq!(days.len(), 11);
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
}

/// What is sent, and the status that refuses it.
struct Attack {
    what: &'static str,
    method: &'static str,
    path: &'static str,
    /// `TOKEN` stands for the page's token, `PORT` for the port; an empty value leaves the header out.
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    status: u16,
}

const fn attack(
    what: &'static str,
    request: [&'static str; 2],
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    status: u16,
) -> Attack {
    let [method, path] = request;
    Attack {
        what,
        method,
        path,
        headers,
        body,
        status,
    }
}

const TOKEN: &[(&str, &str)] = &[("x-studio-token", "TOKEN")];
const NEW: &str = r#"{"name":"x","text":"","preset":"nano","steps":1}"#;

const ATTACKS: &[Attack] = &[
    // DNS rebinding and other sites.
    attack(
        "another name as Host",
        ["GET", "/"],
        &[("Host", "evil.example")],
        "",
        403,
    ),
    attack(
        "another name with the port",
        ["GET", "/"],
        &[("Host", "evil.example:PORT")],
        "",
        403,
    ),
    attack(
        "this machine, another port",
        ["GET", "/"],
        &[("Host", "127.0.0.1:1")],
        "",
        403,
    ),
    attack(
        "a Host that begins with ours",
        ["GET", "/"],
        &[("Host", "127.0.0.1:PORT.evil.example")],
        "",
        403,
    ),
    attack(
        "a Host with a user",
        ["GET", "/"],
        &[("Host", "evil@127.0.0.1:PORT")],
        "",
        403,
    ),
    attack("no Host", ["GET", "/"], &[("Host", "")], "", 400),
    attack(
        "rebinding to the endpoints",
        ["POST", "/v1/completions"],
        &[("Host", "evil.example")],
        "{}",
        403,
    ),
    attack(
        "rebinding to the runs",
        ["GET", "/api/runs"],
        &[("Host", "evil.example")],
        "",
        403,
    ),
    attack(
        "another site's page",
        ["POST", "/v1/completions"],
        &[("Origin", "http://evil.example")],
        "{}",
        403,
    ),
    attack(
        "a sandboxed page",
        ["POST", "/v1/completions"],
        &[("Origin", "null")],
        "{}",
        403,
    ),
    attack(
        "our address by TLS",
        ["POST", "/v1/completions"],
        &[("Origin", "https://127.0.0.1:PORT")],
        "{}",
        403,
    ),
    attack(
        "another port's page",
        ["POST", "/v1/completions"],
        &[("Origin", "http://127.0.0.1:1")],
        "{}",
        403,
    ),
    attack(
        "localhost's page at 127.0.0.1",
        ["GET", "/api/runs"],
        &[("Origin", "http://localhost:PORT")],
        "",
        403,
    ),
    attack(
        "an Origin with a path",
        ["GET", "/api/runs"],
        &[("Origin", "http://127.0.0.1:PORT/x")],
        "",
        403,
    ),
    attack(
        "a preflight",
        ["OPTIONS", "/v1/completions"],
        &[("Origin", "http://evil.example")],
        "",
        403,
    ),
    attack("a preflight of nobody", ["OPTIONS", "/v1/completions"], &[], "", 405),
    // State without the page's token.
    attack("a run without a token", ["POST", "/api/runs"], &[], NEW, 403),
    attack(
        "a run with another token",
        ["POST", "/api/runs"],
        &[("x-studio-token", "0123456789abcdef0123456789abcdef")],
        NEW,
        403,
    ),
    attack(
        "a run with an empty token",
        ["POST", "/api/runs"],
        &[("x-studio-token", " ")],
        NEW,
        403,
    ),
    attack(
        "a run with the token in the address",
        ["POST", "/api/runs?token=TOKEN"],
        &[],
        NEW,
        403,
    ),
    attack(
        "a run with the token in a cookie",
        ["POST", "/api/runs"],
        &[("Cookie", "studio-token=TOKEN")],
        NEW,
        403,
    ),
    attack(
        "a run with two tokens",
        ["POST", "/api/runs"],
        &[("x-studio-token", "TOKEN"), ("X-Studio-Token", "TOKEN")],
        NEW,
        400,
    ),
    attack(
        "the token from another site",
        ["POST", "/api/runs"],
        &[("x-studio-token", "TOKEN"), ("Origin", "http://evil.example")],
        NEW,
        403,
    ),
    attack(
        "a stop without a token",
        ["POST", "/api/runs/stop"],
        &[],
        r#"{"run":"runs/tiny"}"#,
        403,
    ),
    attack(
        "a resume without a token",
        ["POST", "/api/runs/resume"],
        &[],
        r#"{"run":"runs/tiny"}"#,
        403,
    ),
    attack("a stop by GET", ["GET", "/api/runs/stop?run=runs/tiny"], TOKEN, "", 405),
    attack("a text without a token", ["POST", "/api/generate"], &[], "{}", 403),
    attack("DELETE", ["DELETE", "/api/runs"], TOKEN, "", 405),
    attack("PUT without a token", ["PUT", "/api/runs"], &[], "", 403),
    // Paths.
    attack("a path up", ["GET", "/assets/../Cargo.toml"], &[], "", 404),
    attack(
        "an encoded path up",
        ["GET", "/assets/..%2f..%2fetc%2fpasswd"],
        &[],
        "",
        404,
    ),
    attack("an absolute path", ["GET", "/assets/%2fetc%2fpasswd"], &[], "", 404),
    attack("a path with a zero", ["GET", "/assets/app.js%00.png"], &[], "", 404),
    attack(
        "metrics of a path up",
        ["GET", "/api/metrics?run=runs/../../etc"],
        &[],
        "",
        404,
    ),
    attack(
        "metrics of an encoded path up",
        ["GET", "/api/metrics?run=runs%2f..%2f.."],
        &[],
        "",
        404,
    ),
    attack(
        "metrics of another folder",
        ["GET", "/api/metrics?run=/etc/passwd"],
        &[],
        "",
        404,
    ),
    attack(
        "metrics of the folder of runs",
        ["GET", "/api/metrics?run=runs/"],
        &[],
        "",
        404,
    ),
    attack("metrics of nothing", ["GET", "/api/metrics"], &[], "", 404),
    attack(
        "samples of a path up",
        ["GET", "/api/samples?run=lessons/../runs/tiny"],
        &[],
        "",
        404,
    ),
    attack(
        "a log of a path up",
        ["GET", "/api/log?run=runs/../../etc/passwd"],
        &[],
        "",
        400,
    ),
    attack(
        "a log of another folder",
        ["GET", "/api/log?run=/var/log/syslog"],
        &[],
        "",
        400,
    ),
    attack(
        "a picture of a path up",
        ["GET", "/api/course/4/..%2f..%2f..%2fruns%2ftiny%2floss.svg"],
        &[],
        "",
        404,
    ),
    attack("a day that there is not", ["GET", "/api/course/99"], &[], "", 404),
    attack("a day that is a path", ["GET", "/api/course/..%2f4"], &[], "", 404),
    attack(
        "a run named as a path",
        ["POST", "/api/runs"],
        TOKEN,
        r#"{"name":"../x","text":"","preset":"nano","steps":1}"#,
        400,
    ),
    attack(
        "a run named as an option",
        ["POST", "/api/runs"],
        TOKEN,
        r#"{"name":"--resume","text":"","preset":"nano","steps":1}"#,
        400,
    ),
    attack(
        "a hidden run",
        ["POST", "/api/runs"],
        TOKEN,
        r#"{"name":".texts","text":"","preset":"nano","steps":1}"#,
        400,
    ),
    attack(
        "a preset that is an option",
        ["POST", "/api/runs"],
        TOKEN,
        r#"{"name":"x","text":"","preset":"--out","steps":1}"#,
        400,
    ),
    attack(
        "endless steps",
        ["POST", "/api/runs"],
        TOKEN,
        r#"{"name":"x","text":"","preset":"nano","steps":1e12}"#,
        400,
    ),
    attack(
        "a stop of another process",
        ["POST", "/api/runs/stop"],
        TOKEN,
        r#"{"run":"1"}"#,
        404,
    ),
    attack(
        "a model outside",
        ["POST", "/v1/completions"],
        &[],
        r#"{"model":"/etc"}"#,
        404,
    ),
    attack(
        "a model up a path",
        ["POST", "/v1/completions"],
        &[],
        r#"{"model":"runs/tiny/../tiny"}"#,
        404,
    ),
    attack(
        "a tokenizer outside",
        ["POST", "/api/tokens"],
        TOKEN,
        r#"{"text":"a","tokenizers":["/etc/passwd"]}"#,
        404,
    ),
    // Bodies.
    attack("no JSON", ["POST", "/v1/completions"], &[], "{", 400),
    attack("no object", ["POST", "/v1/completions"], &[], "[1]", 400),
    attack("no body", ["POST", "/v1/completions"], &[], "", 400),
    attack(
        "no UTF-8",
        ["POST", "/v1/completions"],
        &[],
        "{\"prompt\": \"\\ud800\"}",
        400,
    ),
    attack(
        "a length that is a lie",
        ["POST", "/v1/completions"],
        &[("Content-Length", "99999999999")],
        "{}",
        413,
    ),
    attack(
        "a negative length",
        ["POST", "/v1/completions"],
        &[("Content-Length", "-1")],
        "{}",
        400,
    ),
    attack(
        "two lengths",
        ["POST", "/v1/completions"],
        &[("Content-Length", "2"), ("content-length", "3")],
        "{}",
        400,
    ),
    attack(
        "a length and chunks",
        ["POST", "/v1/completions"],
        &[("Content-Length", "2"), ("Transfer-Encoding", "chunked"), ("X", "y")],
        "zz\r\n",
        413,
    ),
    attack(
        "a broken chunk",
        ["POST", "/v1/completions"],
        &[("Transfer-Encoding", "chunked")],
        "zz\r\n{}\r\n",
        413,
    ),
    attack(
        "an endless list of tokenizers",
        ["POST", "/api/tokens"],
        TOKEN,
        r#"{"text":"a","tokenizers":["gpt2","gpt2","gpt2","gpt2","gpt2"]}"#,
        400,
    ),
    attack("unknown paths", ["GET", "/admin"], &[], "", 404),
    attack("TRACE", ["TRACE", "/"], &[], "", 405),
];

#[test]
fn attacks_are_refused_with_their_status() {
    assert!(ATTACKS.len() >= 60);
    let folder = with_run();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let before = common::names(&folder.path().join("runs"));
    let (token, port) = (server.token(), server.port.to_string());
    let with = |text: &str| text.replace("TOKEN", &token).replace("PORT", &port);
    let mut wrong = Vec::new();
    for attack in ATTACKS {
        let headers: Vec<(&str, String)> = attack
            .headers
            .iter()
            .map(|(name, value)| (*name, with(value)))
            .collect();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = server.request(attack.method, &with(attack.path), &headers, attack.body.as_bytes());
        if answer.status != attack.status {
            wrong.push(format!(
                "{}: {} instead of {}: {}",
                attack.what, answer.status, attack.status, answer.body
            ));
        }
        assert!(
            !answer.head.to_lowercase().contains("access-control"),
            "{}: {answer:?}",
            attack.what
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Nothing was made, nothing was read, and the server is there.
    assert_eq!(common::names(&folder.path().join("runs")), before);
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn bodies_and_prompts_are_bounded() {
    let folder = with_run();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let sized = |bytes: usize| json!({"prompt": "a".repeat(bytes), "max_tokens": 1});
    assert_eq!(server.post("/v1/completions", &sized(1 << 18)).status, 200);
    let long = server.post("/v1/completions", &sized((1 << 18) + 1));
    assert_eq!((long.status, &long.json()["error"]["param"]), (400, &json!("prompt")));
    assert_eq!(server.post("/v1/completions", &sized(1 << 21)).status, 413);
    let ids = json!({"prompt": vec![1; (1 << 16) + 1]});
    assert_eq!(server.post("/v1/completions", &ids).status, 400);
    refused(
        &server,
        "/api/tokens",
        json!({"text": "a".repeat((1 << 14) + 1), "tokenizers": ["gpt2"]}),
        400,
    );
    refused(
        &server,
        "/api/merges",
        json!({"text": "a".repeat(513), "tokenizer": "gpt2"}),
        400,
    );
    let text = json!({"name": "x", "text": "a".repeat((16 << 20) + 1), "preset": "nano", "steps": 1});
    refused(&server, "/api/runs", text, 400);
    // Deeply nested JSON ends a reader that descends by itself.
    let nested = format!("{{\"prompt\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(
        server.request("POST", "/v1/completions", &[], nested.as_bytes()).status,
        400
    );
}

#[test]
fn other_machines_need_the_token_of_the_address() {
    let folder = with_run();
    let server = Server::start(folder.path(), "studio", &["--no-open", "--host", "0.0.0.0"]);
    let (_, token) = server.url.split_once("/?token=").expect("a token in the address");
    assert_eq!(token.len(), 32);
    let get = |path: &str, headers: &[(&str, &str)]| -> Answer { server.request("GET", path, headers, b"") };
    for path in ["/", "/v1/models", "/api/runs", "/assets/app.js", "/nope"] {
        assert_eq!(get(path, &[]).status, 401, "{path}");
    }
    let page = get(&format!("/?token={token}"), &[("Host", "my-mac.local")]);
    assert_eq!(page.status, 200);
    let cookie = page
        .head
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(get("/assets/app.js", &[("Cookie", cookie)]).status, 200);
    let bearer = format!("Bearer {token}");
    assert_eq!(get("/v1/models", &[("Authorization", &bearer)]).status, 200);
    let completion = server.request(
        "POST",
        "/v1/completions",
        &[("Authorization", &bearer)],
        b"{\"max_tokens\":1}",
    );
    assert_eq!(completion.status, 200);
    // The cookie alone changes nothing.
    let stop = server.request(
        "POST",
        "/api/runs/stop",
        &[("Cookie", cookie)],
        b"{\"run\":\"runs/tiny\"}",
    );
    assert_eq!(stop.status, 403);
}

/// Bodies made of pieces of valid ones, in any order and cut anywhere: no endpoint ends the server or fails by itself.
#[test]
fn no_body_ends_the_server() {
    let folder = with_run();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let token = server.token();
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"prompt\"",
        "\"model\"",
        "\"runs/tiny\"",
        "\"text\"",
        "\"a\"",
        "\"n\"",
        "1",
        "-1",
        "1e999",
        "0.5",
        "null",
        "true",
        "\"max_tokens\"",
        "\"temperature\"",
        "\"stop\"",
        "\"layer\"",
        "\"position\"",
        "\"\\u0000\"",
        "\"é😀\"",
        "\"tokenizers\"",
        "\"gpt2\"",
        "\"run\"",
        " ",
        "\\",
        "\u{7f}",
    ];
    let paths = [
        "/v1/completions",
        "/v1/chat/completions",
        "/api/generate",
        "/api/inside",
        "/api/attention",
        "/api/patch",
        "/api/merges",
        "/api/runs/stop",
    ];
    let seed = common::number("SEED", 1);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..common::number("BODIES", 400) {
        let path = paths[random(paths.len())];
        let body = match random(2) {
            // Any pieces.
            0 => (0..random(12))
                .map(|_| pieces[random(pieces.len())])
                .collect::<String>(),
            // Names with any value.
            _ => {
                let pairs = (0..random(5)).map(|_| {
                    let names = [
                        "prompt",
                        "model",
                        "text",
                        "n",
                        "max_tokens",
                        "temperature",
                        "stop",
                        "layer",
                        "position",
                        "source",
                    ];
                    let values = [
                        "1",
                        "-1",
                        "0.5",
                        "null",
                        "true",
                        "\"a\"",
                        "\"runs/tiny\"",
                        "[]",
                        "{}",
                        "[\"a\"]",
                        "1e308",
                        "\"é\"",
                    ];
                    format!("\"{}\":{}", names[random(names.len())], values[random(values.len())])
                });
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
            }
        };
        let answer = server.request("POST", path, &[("x-studio-token", &token)], body.as_bytes());
        assert!((200..500).contains(&answer.status), "{path} {body}: {answer:?}");
    }
    assert_eq!(server.get("/").status, 200);
}

/// A program that pretends to be a browser with many half-finished requests.
#[test]
fn unfinished_requests_hold_up_nobody() {
    let folder = with_run();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let half = |_| server.connect(b"POST /v1/completions HTTP/1.1\r\nHost: ");
    let waiting: Vec<_> = (0..100).map(half).collect();
    let slow = server.connect(&server.written("POST", "/v1/completions", &[("Content-Length", "10")], b"{"));
    assert_eq!(server.post("/v1/completions", &json!({"max_tokens": 1})).status, 200);
    drop(waiting);
    drop(slow);
    let garbage = read(server.connect(b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n"));
    assert_eq!(garbage.status, 400, "{garbage:?}");
    assert_eq!(server.get("/").status, 200);
    let _: &Path = folder.path();
    succeed(mlx_gpt(folder.path()).args(["runs"]));
}
