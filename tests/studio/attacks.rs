//! What is refused: other sites, paths, bodies without end; and what must not end the server.

use serde_json::json;

use super::common::http::{Answer, Server, read};
use super::common::{mlx_gpt, names, number, succeed};
use super::{refused, with_run};
/// A line of `attacks.txt`.
struct Attack<'a> {
    status: u16,
    what: &'a str,
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: String,
}

impl<'a> Attack<'a> {
    fn parse(row: &'a str) -> Self {
        let columns: Vec<&str> = row.splitn(5, '|').map(str::trim).collect();
        let [status, what, request, headers, body] = columns[..] else {
            panic!("five columns: {row}")
        };
        let (method, path) = request.split_once(' ').unwrap();
        let headers = headers.split("; ").filter_map(|header| header.split_once(':'));
        Self {
            status: status.parse().unwrap(),
            what,
            method,
            path,
            headers: headers.map(|(name, value)| (name, value.trim())).collect(),
            body: body.replace("\\r\\n", "\r\n"),
        }
    }
}

const NEW: &str = r#"{"name":"x","text":"","preset":"nano","steps":1}"#;

#[test]
fn attacks_are_refused_with_their_status() {
    let folder = with_run();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let before = names(&folder.path().join("runs"));
    let table = include_str!("attacks.txt").replace("TOKEN", &server.token());
    let table = table
        .replace("PORT", &server.port.to_string())
        .replace("| NEW", &format!("| {NEW}"));
    let rows = table
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    let attacks: Vec<Attack> = rows.map(Attack::parse).collect();
    assert!(attacks.len() >= 60);
    let mut wrong = Vec::new();
    for attack in attacks {
        let answer = server.request(attack.method, attack.path, &attack.headers, attack.body.as_bytes());
        if answer.status != attack.status {
            wrong.push(format!(
                "{}: {} instead of {}: {}",
                attack.what, answer.status, attack.status, answer.body
            ));
        }
        let head = answer.head.to_lowercase();
        assert!(!head.contains("access-control"), "{}: {answer:?}", attack.what);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Nothing was made, nothing was read, and the server is there.
    assert_eq!(names(&folder.path().join("runs")), before);
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
    let seed = number("SEED", 1);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..number("BODIES", 400) {
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
    succeed(mlx_gpt(folder.path()).args(["runs"]));
}
