//! Downloading a model, from a server of the test's own that speaks like Hugging Face's hub.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{contents, fail, folder, mlx_gpt, says, signal, stderr, succeed, trained, wait_until};
use mlx_gpt::disk::hash::sha256;
use serde_json::json;

const MODEL: &str = "someone/small-gpt2";

/// A hub with one model. While it is unreliable, it hangs up in the middle of a file that is larger than a kilobyte.
struct Hub {
    address: String,
    unreliable: Arc<AtomicBool>,
    /// First byte and file of each request for contents.
    requests: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Hub {
    fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hub = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            unreliable: Arc::default(),
            requests: Arc::default(),
        };
        let (unreliable, requests) = (Arc::clone(&hub.unreliable), Arc::clone(&hub.requests));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &files, &unreliable, &requests);
            }
        });
        hub
    }
}

fn answer(
    mut stream: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    unreliable: &AtomicBool,
    requests: &Mutex<Vec<(usize, String)>>,
) {
    let mut lines = BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    if path.starts_with("/api/models/") {
        let siblings: Vec<_> = files.keys().map(|name| json!({ "rfilename": name })).collect();
        let body = json!({ "sha": "0123abcd", "siblings": siblings }).to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all((head + &body).as_bytes());
        return;
    }
    let name = path.rsplit('/').next().unwrap();
    // Of large files the hub gives the hash.
    let etag = match files.get("model.sha256") {
        Some(hash) if name == "model.safetensors" => String::from_utf8(hash.clone()).unwrap(),
        _ => format!("{name}-etag"),
    };
    let whole = &files[name];
    let range = headers
        .iter()
        .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned))
        .unwrap();
    let (from, to) = range.split_once('-').unwrap();
    let (from, to) = (
        from.parse().unwrap(),
        to.parse().map_or(whole.len(), |to: usize| to + 1),
    );
    let probe = to - from == 1;
    if !probe {
        requests.lock().unwrap().push((from, name.to_owned()));
    }
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nx-repo-commit: 0123abcd\r\netag: \"{etag}\"\r\nContent-Range: bytes {from}-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        to - 1,
        whole.len(),
        to - from
    );
    let sent = if unreliable.load(Ordering::SeqCst) && !probe && whole.len() > 1024 {
        &whole[from..(from + 500).min(to)]
    } else {
        &whole[from..to]
    };
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent));
}

fn import(folder: &Path, hub: &Hub, out: &str) -> Command {
    let mut command = mlx_gpt(folder);
    command
        .args(["import", MODEL, "--out", out])
        .env("HF_ENDPOINT", &hub.address)
        .env("HF_HOME", folder.join("cache"))
        .env("NO_PROXY", "127.0.0.1");
    command
}

/// What a model's repository has, of a run of one step.
fn published(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = contents(&trained(folder, "1").join("latest")).into_iter();
    files
        .filter(|(name, _)| ["config.json", "model.safetensors", "tokenizer.json"].contains(&name.as_str()))
        .collect()
}

#[test]
fn a_download_goes_on_where_it_stopped() {
    let folder = folder();
    let mut files = published(folder.path());
    files.insert("pytorch_model.bin".into(), b"not wanted".to_vec());
    let hub = Hub::start(files);

    let said = fail(import(folder.path(), &hub, "model").env("HF_HUB_OFFLINE", "1"));
    assert!(said.contains("someone/small-gpt2 is not in the cache"), "{said}");
    assert!(hub.requests.lock().unwrap().is_empty());

    hub.unreliable.store(true, Ordering::SeqCst);
    let said = fail(&mut import(folder.path(), &hub, "model"));
    assert!(said.contains("someone/small-gpt2 cannot be downloaded"), "{said}");
    assert!(!folder.path().join("model").exists());
    let tried = std::mem::take(&mut *hub.requests.lock().unwrap());
    let (last, _) = tried.last().unwrap();
    assert!(
        *last >= 1500,
        "it went on several times, after 500 bytes more each time: {tried:?}"
    );

    hub.unreliable.store(false, Ordering::SeqCst);
    let said = stderr(&succeed(&mut import(folder.path(), &hub, "model")));
    assert!(said.contains("fetching model.safetensors"), "{said}");
    let asked = std::mem::take(&mut *hub.requests.lock().unwrap());
    assert!(asked.contains(&(last + 500, "model.safetensors".into())), "{asked:?}");
    assert!(asked.iter().all(|(_, name)| name != "pytorch_model.bin"), "{asked:?}");
    assert_eq!(
        fs::read(folder.path().join("model/model.safetensors")).unwrap(),
        fs::read(folder.path().join("run/latest/model.safetensors")).unwrap()
    );

    // What is in the cache is not asked for again, and needs no network.
    succeed(&mut import(folder.path(), &hub, "again"));
    assert!(hub.requests.lock().unwrap().is_empty());
    let offline = Hub {
        address: "http://127.0.0.1:9".into(),
        ..hub
    };
    succeed(&mut import(folder.path(), &offline, "offline"));
    succeed(import(folder.path(), &offline, "forbidden").env("HF_HUB_OFFLINE", "1"));
}

#[test]
fn without_a_network_it_says_what_to_do() {
    let folder = folder();
    let said = fail(
        mlx_gpt(folder.path())
            .args(["import", "gpt2", "--out", "gpt2"])
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .env("HF_HOME", folder.path().join("cache")),
    );
    assert!(said.contains("openai-community/gpt2 cannot be downloaded"), "{said}");
    assert!(
        said.contains("fetch its config.json, model.safetensors and tokenizer.json elsewhere and import their folder"),
        "{said}"
    );
    assert!(!folder.path().join("gpt2").exists());
}

/// A server that takes connections, and says nothing.
#[test]
fn a_server_that_never_answers_is_not_waited_for() {
    let folder = folder();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let command = |seconds: &str| {
        let mut command = mlx_gpt(folder.path());
        command
            .args(["import", "gpt2", "--out", "gpt2"])
            .env("HF_ENDPOINT", format!("http://{}", listener.local_addr().unwrap()))
            .env("HF_HOME", folder.path().join("cache"))
            .env("HF_HUB_DOWNLOAD_TIMEOUT", seconds)
            .env("NO_PROXY", "127.0.0.1");
        command
    };
    let said = fail(&mut command("1"));
    assert!(said.contains("no data for 1 s"), "{said}");

    // Nor does Ctrl-C wait, and a word is said before.
    let said = folder.path().join("said");
    let mut child = command("600").stderr(fs::File::create(&said).unwrap()).spawn().unwrap();
    wait_until("a word", &mut child, || says(&said, "asking   Hugging Face's hub"));
    signal(&child, "-INT");
    let started = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(started.elapsed() < Duration::from_secs(60));
}

/// Bytes that are as many as they should be, and others.
#[test]
fn what_comes_damaged_is_not_imported_and_fetched_again() {
    let folder = folder();
    let mut files = published(folder.path());
    files.insert("model.sha256".into(), sha256(&files["model.safetensors"]).into_bytes());
    let whole = Hub::start(files.clone());
    *files.get_mut("model.safetensors").unwrap().last_mut().unwrap() ^= 1;
    let damaged = Hub::start(files);
    let said = fail(&mut import(folder.path(), &damaged, "model"));
    assert!(
        said.contains("model.safetensors was damaged in transit") && said.contains("run this again"),
        "{said}"
    );
    assert!(!folder.path().join("model").exists());
    succeed(&mut import(folder.path(), &whole, "model"));

    // Nor what is damaged in the cache: a process that fetched it may have been ended before it had compared it.
    let blobs = folder.path().join("cache/hub/models--someone--small-gpt2/blobs");
    let blob = blobs.join(sha256(fs::read(folder.path().join("model/model.safetensors")).unwrap()));
    let mut bytes = fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&blob, bytes).unwrap();
    let said = fail(&mut import(folder.path(), &whole, "again"));
    assert!(
        said.contains("model.safetensors was damaged in transit or in Hugging Face's cache"),
        "{said}"
    );
    assert!(!folder.path().join("again").exists());
    succeed(&mut import(folder.path(), &whole, "again"));
}
