//! `mlx-gpt serve` as OpenAI's clients use it.

mod common;

use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use common::http::{Server, read, with_run};
use common::{fail, folder, generate, mlx_gpt, signal, stdout, succeed, train_tiny};
use serde_json::{Value, json};

fn complete(server: &Server, body: Value) -> Value {
    let answer = server.post("/v1/completions", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// What `generate --json` writes of that run.
fn generated(folder: &Path, options: &[&str]) -> Value {
    let mut command = generate(folder, &["--json"]);
    let arguments: Vec<_> = command.get_args().map(|arg| arg.to_owned()).collect();
    let arguments = arguments
        .iter()
        .map(|arg| if arg == "run" { "runs/tiny".into() } else { arg.clone() });
    let mut own = mlx_gpt(folder);
    own.args(arguments).args(options);
    command = own;
    serde_json::from_str(&stdout(&succeed(&mut command))).unwrap()
}

#[test]
fn completions_are_those_of_generate() {
    let folder = with_run();
    let server = Server::start(folder.path(), "serve", &[]);
    assert!(server.url.starts_with("http://127.0.0.1:"), "{}", server.url);
    assert_eq!(server.get("/").status, 200);

    let models = server.get("/v1/models").json();
    assert_eq!(models["object"], "list");
    assert_eq!(models["data"][0]["id"], "runs/tiny");
    assert_eq!(server.get("/v1/models/runs/tiny").json()["object"], "model");

    let greedy = generated(
        folder.path(),
        &["--prompt", "ROMEO:", "--temperature", "0", "--max-new-tokens", "40"],
    );
    let answer = complete(
        &server,
        json!({"prompt": "ROMEO:", "temperature": 0, "max_tokens": 40, "logprobs": 3}),
    );
    assert_eq!(answer["object"], "text_completion");
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], greedy["samples"][0]["text"]);
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(
        answer["usage"],
        json!({"prompt_tokens": 6, "completion_tokens": 40, "total_tokens": 46})
    );
    let logprobs = &choice["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 40);
    assert_eq!(logprobs["text_offset"][0], 6);
    for (ours, theirs) in logprobs["token_logprobs"]
        .as_array()
        .unwrap()
        .iter()
        .zip(greedy["samples"][0]["logprobs"].as_array().unwrap())
    {
        let difference = ours.as_f64().unwrap() - theirs.as_f64().unwrap();
        assert!(difference.abs() < 1e-5, "{ours} {theirs}");
    }
    // At temperature 0 the token is the first of the alternatives.
    let top = logprobs["top_logprobs"][0].as_object().unwrap();
    assert_eq!(top.len(), 3);
    assert_eq!(top.values().next().unwrap(), &logprobs["token_logprobs"][0]);

    // A seed's samples too, each with its own number.
    let sampled = generated(
        folder.path(),
        &[
            "--prompt",
            "ROMEO:",
            "--temperature",
            "0.8",
            "--max-new-tokens",
            "12",
            "--seed",
            "7",
            "--samples",
            "3",
        ],
    );
    let body = json!({"prompt": "ROMEO:", "temperature": 0.8, "max_tokens": 12, "seed": 7, "n": 3});
    let answer = complete(&server, body.clone());
    for index in 0..3 {
        assert_eq!(answer["choices"][index]["index"], index);
        assert_eq!(answer["choices"][index]["text"], sampled["samples"][index]["text"]);
    }
    assert_eq!(complete(&server, body)["choices"], answer["choices"]);

    // The named step, token ids, several prompts, nothing at all.
    let step = complete(
        &server,
        json!({"model": "runs/tiny/step-000010", "prompt": "A", "max_tokens": 1}),
    );
    assert_eq!(step["model"], "runs/tiny/step-000010");
    let ids = complete(&server, json!({"prompt": [1, 2, 3], "max_tokens": 2}));
    assert_eq!(ids["usage"]["prompt_tokens"], 3);
    let two = complete(
        &server,
        json!({"prompt": ["A", "B"], "max_tokens": 2, "temperature": 0}),
    );
    assert_eq!(two["choices"].as_array().unwrap().len(), 2);
    let none = complete(&server, json!({"prompt": "A", "max_tokens": 0}));
    assert_eq!(
        none["choices"][0],
        json!({"text": "", "index": 0, "logprobs": null, "finish_reason": "length"})
    );
}

#[test]
fn streams_and_stop_strings_give_the_same_text() {
    let folder = with_run();
    let server = Server::start(folder.path(), "serve", &["--checkpoint", "runs/tiny"]);
    let body = json!({"prompt": "JULIET:", "max_tokens": 60, "seed": 3});
    let whole = complete(&server, body.clone());
    let text = whole["choices"][0]["text"].as_str().unwrap();

    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    streamed["stream_options"] = json!({"include_usage": true});
    let answer = server.post("/v1/completions", &streamed);
    assert!(answer.head.contains("text/event-stream"), "{}", answer.head);
    let events = answer.events();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let pieces = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str());
    assert_eq!(pieces.collect::<String>(), text);
    let (usage, tokens) = chunks.split_last().unwrap();
    assert_eq!(tokens.last().unwrap()["choices"][0]["finish_reason"], "length");
    assert_eq!(usage["usage"], whole["usage"]);
    assert_eq!(tokens.len(), 60, "a chunk a token");

    // The text up to a stop string that it contains.
    let characters: Vec<char> = text.chars().collect();
    let stop: String = characters[20..23].iter().collect();
    let mut stopped = body;
    stopped["stop"] = json!([stop, "not in it"]);
    let answer = complete(&server, stopped);
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"].as_str().unwrap(), text.split(&stop).next().unwrap());
    assert_eq!(choice["finish_reason"], "stop");
}

#[test]
fn what_is_wrong_is_named_in_openais_shape() {
    let folder = with_run();
    let server = Server::start(folder.path(), "serve", &[]);
    for (body, status, param) in [
        (json!({"model": "gpt-4"}), 404, "model"),
        (json!({"model": "runs/../runs/tiny"}), 404, "model"),
        (json!({"model": 1}), 400, "model"),
        (json!({"temperature": -1}), 400, "temperature"),
        (json!({"temperature": "hot"}), 400, "temperature"),
        (json!({"top_p": 0}), 400, "top_p"),
        (json!({"min_p": 1}), 400, "min_p"),
        (json!({"top_k": -1}), 400, "top_k"),
        (json!({"max_tokens": 1e9}), 400, "max_tokens"),
        (json!({"n": 17}), 400, "n"),
        (json!({"n": 9, "prompt": ["a", "b"]}), 400, "n"),
        (json!({"logprobs": 21}), 400, "logprobs"),
        (json!({"stop": ""}), 400, "stop"),
        (json!({"stop": [1]}), 400, "stop"),
        (json!({"stream": "yes"}), 400, "stream"),
        (json!({"seed": 1.5}), 400, "seed"),
        (json!({"prompt": {}}), 400, "prompt"),
        (json!({"prompt": []}), 400, "prompt"),
        (json!({"prompt": [-1]}), 400, "prompt"),
        (json!({"echo": true}), 400, "echo"),
        (json!({"logit_bias": {"5": 1}}), 400, "logit_bias"),
    ] {
        let answer = server.post("/v1/completions", &body);
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert_eq!(answer.json()["error"]["param"], param, "{body}");
    }
    // What the tokenizer or the vocabulary does not have.
    let unknown = server.post("/v1/completions", &json!({"prompt": "日本"}));
    assert_eq!(unknown.status, 400, "{unknown:?}");
    let beyond = server.post("/v1/completions", &json!({"prompt": [1_000_000]}));
    assert!(beyond.status == 400 && beyond.error().contains("1000000"), "{beyond:?}");

    let chat = json!({"messages": [{"role": "user", "content": "Hello"}]});
    let answer = server.post("/v1/chat/completions", &chat);
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (400, &json!("no_chat_template"))
    );
    let answer = server.post("/v1/chat/completions", &json!({"model": "none", "messages": []}));
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (404, &json!("model_not_found"))
    );

    // A model that cannot be loaded is an answer, and the server goes on.
    let weights = folder.path().join("runs/tiny/step-000010/model.safetensors");
    std::fs::write(&weights, "no weights").unwrap();
    let broken = server.post("/v1/completions", &json!({"model": "runs/tiny/step-000010"}));
    assert!(
        broken.status == 500 && broken.error().contains("model.safetensors"),
        "{broken:?}"
    );
    complete(&server, json!({"prompt": "A", "max_tokens": 1}));
}

/// Chat completions are those of `chat`, whole and streamed.
#[test]
fn a_chat_model_answers_messages() {
    let folder = folder();
    let lines = "{\"prompt\": \"ab?\", \"completion\": \"no.\"}\n{\"prompt\": \"c?\", \"completion\": \"yes.\"}\n"
        .repeat(2)
        + "{\"prompt\": \"ab\", \"completion\": \"no.\"}\n";
    std::fs::write(folder.path().join("chat.jsonl"), lines).unwrap();
    let options = [
        "--chat",
        "chat.jsonl",
        "--context",
        "32",
        "--dropout",
        "0",
        "--out",
        "runs/chat",
    ];
    let more = ["--embd", "32", "--batch-size", "8", "--steps", "150", "--lr", "0.01"];
    succeed(&mut train_tiny(folder.path(), &[&options[..], &more].concat()));
    let server = Server::start(folder.path(), "serve", &[]);
    let said = |content: &str| json!([{"role": "user", "content": content}]);
    let body = json!({"messages": said("c?"), "temperature": 0});
    let answer = server.post("/v1/chat/completions", &body);
    let whole = answer.json();
    assert_eq!(
        (answer.status, &whole["object"]),
        (200, &json!("chat.completion")),
        "{answer:?}"
    );
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"], json!({"role": "assistant", "content": "yes."}));
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(
        whole["usage"],
        json!({"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10})
    );

    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let answer = server.post("/v1/chat/completions", &streamed);
    let events = answer.events();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks = events[..events.len() - 1]
        .iter()
        .map(|event| serde_json::from_str::<Value>(event).unwrap());
    let deltas: Vec<Value> = chunks.map(|chunk| chunk["choices"][0]["delta"].clone()).collect();
    assert_eq!(deltas[0]["role"], "assistant");
    assert_eq!(
        deltas
            .iter()
            .filter_map(|delta| delta["content"].as_str())
            .collect::<String>(),
        "yes."
    );

    for (body, expected) in [
        (
            json!({"messages": [{"role": "tool", "content": "c?"}]}),
            "its role is \"tool\"",
        ),
        (json!({"messages": said("x")}), "character 'x'"),
        (json!({"messages": said("<|user|>")}), "special token <|user|>"),
        (json!({"messages": said(&"c?".repeat(30))}), "the last message takes"),
        (json!({"messages": []}), "messages must be one or more"),
        (json!({"messages": said("c?"), "tools": []}), "tools is not supported"),
    ] {
        let answer = server.post("/v1/chat/completions", &body);
        assert!(
            answer.status == 400 && answer.error().contains(expected),
            "{expected}: {answer:?}"
        );
    }
}

/// The number of tokens of the next completion is not known from outside; but a server that computes nothing uses no processor.
#[test]
fn a_client_that_goes_away_stops_its_generation() {
    let folder = with_run();
    let server = Server::start(folder.path(), "serve", &[]);
    // As many endless texts as the server takes, streamed and not: all places are taken.
    let endless =
        |stream: bool| json!({"prompt": "A", "max_tokens": 60_000, "n": 16, "stream": stream, "ignore_eos": true});
    let send =
        |body: &Value| server.connect(&server.written("POST", "/v1/completions", &[], body.to_string().as_bytes()));
    let mut clients: Vec<_> = [true, false, true, false].map(|stream| send(&endless(stream))).into();
    let mut byte = [0];
    clients[0].read_exact(&mut byte).unwrap();
    clients[2].read_exact(&mut byte).unwrap();
    // A short one waits for a place, which comes only if the others end.
    let short = json!({"prompt": "A", "max_tokens": 1});
    let refused = server.post("/v1/completions", &short);
    assert_eq!(
        (refused.status, &refused.json()["error"]["type"]),
        (429, &json!("rate_limit_error"))
    );
    drop(clients);
    let started = Instant::now();
    loop {
        let answer = server.post("/v1/completions", &short);
        match answer.status {
            200 => break,
            status => assert_eq!(status, 429, "{answer:?}"),
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "the generations go on without their clients"
        );
        thread::sleep(Duration::from_millis(20));
    }
    // All places are free again: four times sixteen tokens fit.
    let all = json!({"prompt": "A", "max_tokens": 1, "n": 16});
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let sent: Vec<_> = (0..4).map(|_| send(&all)).collect();
        let statuses: Vec<u16> = sent.into_iter().map(|stream| read(stream).status).collect();
        if statuses.iter().all(|&status| status == 200) {
            break;
        }
        assert!(Instant::now() < deadline, "{statuses:?}");
    }
}

/// A long text that began before does not hold up short ones: they get a token each round.
#[test]
fn requests_share_the_model_token_by_token() {
    let folder = with_run();
    let server = Server::start(folder.path(), "serve", &[]);
    let long = json!({"prompt": "A", "max_tokens": 60_000, "stream": true, "ignore_eos": true});
    let mut long = server.connect(&server.written("POST", "/v1/completions", &[], long.to_string().as_bytes()));
    let mut byte = [0];
    long.read_exact(&mut byte).unwrap();
    let answers = thread::scope(|scope| {
        let ask = |seed: u64| {
            let server = &server;
            scope.spawn(move || complete(server, json!({"prompt": "B", "max_tokens": 5, "seed": seed % 4})))
        };
        let asked: Vec<_> = (0..32).map(ask).collect();
        asked
            .into_iter()
            .map(|answer| answer.join().unwrap())
            .collect::<Vec<Value>>()
    });
    // The same seed is the same text, whatever else is generated meanwhile.
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(answer["choices"][0]["text"], answers[index % 4]["choices"][0]["text"]);
    }
    // The long one is still there.
    long.set_nonblocking(false).unwrap();
    long.read_exact(&mut byte).unwrap();
}

#[test]
fn more_models_than_memory_holds_take_turns() {
    let folder = folder();
    let options = ["--out", "runs/tiny", "--steps", "6", "--save-every", "1"];
    succeed(&mut train_tiny(folder.path(), &options));
    let server = Server::start(folder.path(), "serve", &[]);
    for _ in 0..2 {
        for step in 1..=6 {
            let model = format!("runs/tiny/step-{step:06}");
            let answer = complete(&server, json!({"model": model, "prompt": "A", "max_tokens": 2}));
            assert_eq!(answer["model"], model);
        }
    }
}

#[test]
fn a_signal_ends_it_and_a_missing_model_is_said_before() {
    let folder = folder();
    let error = fail(mlx_gpt(folder.path()).args(["serve", "--device", "cpu"]));
    assert!(error.contains("mlx-gpt train"), "{error}");
    let error = fail(mlx_gpt(folder.path()).args(["serve", "--device", "cpu", "--checkpoint", "nowhere"]));
    assert!(error.contains("nowhere"), "{error}");

    let mut server = Server::start(folder.path(), "studio", &["--no-open"]);
    let port = server.port.to_string();
    let error = fail(mlx_gpt(folder.path()).args(["studio", "--no-open", "--device", "cpu", "--port", &port]));
    assert!(error.contains(&port), "{error}");
    signal(&server.child, "-INT");
    assert_eq!(server.child.wait().unwrap().code(), Some(130));
}
