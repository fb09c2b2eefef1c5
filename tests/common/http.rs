//! The server as a program's test uses it, and a small client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{Start, folder, mlx_gpt, succeed, train_tiny};

/// A server that ends with the test.
pub struct Server {
    pub child: Child,
    pub url: String,
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The message of an error in OpenAI's shape.
    pub fn error(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    /// The events of a stream.
    pub fn events(&self) -> Vec<&str> {
        self.body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .collect()
    }
}

impl Server {
    /// Starts `serve` or `studio` in `folder`, on a free port, and waits for its address.
    pub fn start(folder: &Path, command: &str, options: &[&str]) -> Self {
        let mut program = mlx_gpt(folder);
        program.args([command, "--port", "0", "--device", "cpu"]).args(options);
        let mut child = program.start();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim_end().to_owned();
        let port = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        let port = port.and_then(|host| host.rsplit(':').next()?.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no address: {line:?}"));
        Self { child, url, port }
    }

    /// Sends bytes as they are.
    pub fn connect(&self, request: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let _ = stream.write_all(request); // the server may have refused it before its end
        stream
    }

    /// Sends a request and reads the whole answer. Headers of the caller come in the place of the usual ones.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        read(self.connect(&self.written(method, path, headers, body)))
    }

    pub fn written(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        let given = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        if !given("host") {
            head += &format!("Host: 127.0.0.1:{}\r\n", self.port);
        }
        if !given("content-length") && !given("transfer-encoding") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            head += &format!("{name}: {value}\r\n");
        }
        [head.as_bytes(), b"\r\n", body].concat()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, &[], body.to_string().as_bytes())
    }

    /// Posts as a page does, with its token.
    pub fn post_as_page(&self, path: &str, body: &Value) -> Answer {
        let token = self.token();
        let headers = [("x-studio-token", token.as_str())];
        self.request("POST", path, &headers, body.to_string().as_bytes())
    }

    /// The token that is in the page.
    pub fn token(&self) -> String {
        let page = self.get("/").body;
        let (_, after) = page
            .split_once("name=\"studio-token\" content=\"")
            .expect("a token in the page");
        after.split('"').next().unwrap().to_owned()
    }
}

/// Reads an answer to its end.
pub fn read(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes); // a connection that is reset has said what it had to
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    Answer {
        status,
        head: head.to_owned(),
        body: if chunked { unchunked(body) } else { body.to_owned() },
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole += &rest[..size];
        body = &rest[size + 2..];
        if size == 0 {
            break;
        }
    }
    whole
}

/// A folder with the run `runs/tiny`, of a few steps.
pub fn with_run() -> TempDir {
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
