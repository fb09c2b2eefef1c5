//! Bodies that no page sends: whatever comes, the answer is a refusal or an answer, and the server lives. BODIES=100000 for more of
//! them, SEED=n for others.

use std::env;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::common::http::Server;
use super::with_run;

/// Endpoints with a body that they take. That of a new run has a preset that there is not, so that none begins.
fn bodies() -> Vec<(&'static str, Value)> {
    let patch = json!({"model": "runs/tiny", "text": "abc", "source": "abd", "position": 1, "source_position": 1});
    let sampling = json!({
        "model": "runs/tiny", "prompt": "a", "max_tokens": 1, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.1, "seed": 1,
    });
    let completion = json!({
        "model": "runs/tiny", "prompt": ["a", [1, 2]], "max_tokens": 1, "n": 2, "stop": ["b", "c"], "logprobs": 2, "stream": true,
        "stream_options": {"include_usage": true}, "echo": false, "logit_bias": {}, "seed": 3,
    });
    let chat =
        json!({"model": "runs/tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1, "stream": false});
    vec![
        ("/v1/completions", completion),
        ("/v1/chat/completions", chat),
        ("/api/generate", sampling),
        ("/api/inside", json!({"model": "runs/tiny", "text": "abc"})),
        (
            "/api/attention",
            json!({"model": "runs/tiny", "text": "abc", "layer": 1}),
        ),
        ("/api/vectors", json!({"model": "runs/tiny", "text": "abc"})),
        ("/api/patch", patch),
        (
            "/api/tokens",
            json!({"text": "a b", "tokenizers": ["gpt2", "runs/tiny"]}),
        ),
        ("/api/merges", json!({"text": "tokens", "tokenizer": "gpt2"})),
        (
            "/api/runs",
            json!({"name": "x", "text": "a", "preset": "none", "steps": 1}),
        ),
        ("/api/needs", json!({"text": "a", "preset": "nano", "steps": 1})),
        ("/api/runs/stop", json!({"run": "runs/tiny"})),
    ]
}

/// Something else than was there.
fn odd(rng: &mut ChaCha8Rng) -> Value {
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let values = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("\0"),
        json!("../../etc/passwd"),
        json!("é\u{202e}日😀"),
        json!("a".repeat(5000)),
        json!([]),
        json!({}),
        json!(["a", 1, null]),
        deep,
    ];
    values.choose(rng).unwrap().clone()
}

fn mutated(body: &Value, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut body = body.clone();
    if let (0..3, Some(object)) = (rng.random_range(0..5), body.as_object_mut()) {
        for _ in 0..rng.random_range(1..3) {
            let names: Vec<String> = object.keys().cloned().collect();
            let name = names.choose(rng).cloned().unwrap_or_default();
            match rng.random_range(0..4) {
                0 => drop(object.remove(&name)),
                1 => drop(object.insert(format!("{name}x"), odd(rng))),
                _ => drop(object.insert(name, odd(rng))),
            }
        }
        return body.to_string().into_bytes();
    }
    let mut bytes = body.to_string().into_bytes();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..4) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes[at] = rng.random(),
            2 => bytes.insert(at, *b"{}[]\",:0\\".choose(rng).unwrap()),
            _ => drop(bytes.remove(at)),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

#[test]
fn no_body_ends_the_server_or_is_its_fault() {
    let number = |name: &str, otherwise| env::var(name).map_or(otherwise, |value| value.parse().unwrap());
    let (count, seed) = (number("BODIES", 300), number("SEED", 1));
    println!("SEED={seed} BODIES={count}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let folder = with_run();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let token = server.token();
    let headers = [("x-studio-token", token.as_str())];
    let bodies = bodies();
    let mut answered = 0;
    for case in 0..count {
        let (path, body) = bodies.choose(&mut rng).unwrap();
        let sent = mutated(body, &mut rng);
        let answer = server.request("POST", path, &headers, &sent);
        let said = || format!("case {case}: {path} {}: {answer:?}", String::from_utf8_lossy(&sent));
        assert!((200..500).contains(&answer.status), "{}", said());
        answered += u64::from(answer.status == 200);
    }
    // Some are taken, or this tests the refusals alone.
    assert!(answered > count / 100, "{answered} of {count}");
    assert_eq!(server.get("/api/models").status, 200);
}
