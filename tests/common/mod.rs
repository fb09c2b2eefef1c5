//! What the tests share: the program as a user runs it, and the stored answers of PyTorch.

#![allow(dead_code, reason = "each test file uses a part of this")]

pub mod disk;
pub mod http;
pub mod learned;
pub mod place;
pub mod pytorch;
pub mod source;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use mlx_gpt::checkpoint::{Checkpoint, CheckpointState, Moments};
use mlx_gpt::config::{Architecture, BosEos, Components, ModelConfig};
use mlx_gpt::data::dataset::CorpusRecord;
use mlx_gpt::lessons::pytorch::PyTorch;
use mlx_gpt::model::Parameters;
use mlx_gpt::model::init::layout;
use mlx_gpt::tokenizer::Tokenizer;
use mlx_rs::random;
use tempfile::TempDir;

/// Options of a run in `run` that saves often.
pub const SAVED_OFTEN: [&str; 8] = [
    "--steps",
    "400",
    "--save-every",
    "20",
    "--eval-every",
    "100",
    "--out",
    "run",
];

/// Options of a model that trains in a moment, on the CPU device of any machine.
pub const TINY: [&str; 20] = [
    "--layers",
    "2",
    "--heads",
    "2",
    "--embd",
    "16",
    "--context",
    "16",
    "--batch-size",
    "4",
    "--eval-batches",
    "2",
    "--warmup",
    "5",
    "--dropout",
    "0.1",
    "--device",
    "cpu",
    "--threads",
    "2",
];

/// A model on `text.txt` that trains in a moment, as lines of a configuration.
pub const TINY_TOML: &str = r#"corpus = "text.txt"
layers = 1
heads = 2
embd = 32
context = 16
batch_size = 4
warmup = 1
optimizer = "adamw"
device = "cpu"
threads = 1
"#;

/// What `bench sweep` and `bench speedrun` train, up to the list of what they compare.
pub fn tiny_plan() -> String {
    format!("preset = \"nano\"\nseeds = [1]\n[base]\n{TINY_TOML}steps = 2\n")
}

/// A number that a longer or another version of a test is given by the environment.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// An empty folder for one test, not where MLX keeps its kernels.
pub fn folder() -> TempDir {
    tempfile::tempdir_in(place::temporary()).unwrap()
}

/// The program, to be started in `folder`.
pub fn mlx_gpt(folder: &Path) -> Command {
    hear_hangups();
    let mut command = Command::new(place::program());
    command.current_dir(folder);
    command
}

/// Gives what is started here SIGHUP's default, also where the tests ignore it, as under `nohup`: to be ignored is inherited, to
/// be handled is not.
fn hear_hangups() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::new(AtomicBool::new(false))).unwrap();
    });
}

/// `train` of a tiny model with more options, or with others in place of its own. `TEST_THREADS` is how many threads it has.
pub fn train_tiny(folder: &Path, options: &[&str]) -> Command {
    let mut command = mlx_gpt(folder);
    command.arg("train");
    let threads = std::env::var("TEST_THREADS");
    for pair in TINY.chunks(2).filter(|pair| !options.contains(&pair[0])) {
        match &threads {
            Ok(threads) if pair[0] == "--threads" => command.args([pair[0], threads]),
            _ => command.args(pair),
        };
    }
    command.args(options);
    command
}

/// `train` of the smallest model that there is, for what takes many steps.
pub fn train_smallest(folder: &Path) -> Command {
    let mut command = mlx_gpt(folder);
    command.args(["train", "--device", "cpu", "--threads", "1"]);
    for size in ["--layers", "--heads", "--batch-size", "--eval-batches"] {
        command.args([size, "1"]);
    }
    command.args(["--embd", "8", "--context", "8"]);
    command
}

/// `generate` from the run `folder/run` with more options.
pub fn generate(folder: &Path, options: &[&str]) -> Command {
    let mut command = mlx_gpt(folder);
    command
        .args(["generate", "--device", "cpu", "--checkpoint", "run"])
        .args(options);
    command
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must succeed.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", stderr(&output));
    output
}

/// Runs a command that must fail with one line, and gives that line.
pub fn fail(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{command:?}\n{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "one line that says what is wrong: {text}");
    assert_eq!(text.lines().last(), Some(errors[0]), "the error comes last: {text}");
    assert!(!text.contains("panicked"), "{text}");
    assert!(
        !errors[0].contains(".cargo") && !errors[0].contains("rustc"),
        "no places in sources: {text}"
    );
    errors[0].to_owned()
}

/// Every command that takes a checkpoint takes that of `run`, which ends after `steps` steps.
pub fn assert_usable(folder: &Path, run: &str, steps: &str) {
    let on = ["--device", "cpu", "--checkpoint", run];
    succeed(mlx_gpt(folder).args(["generate", "--max-new-tokens", "40"]).args(on));
    succeed(mlx_gpt(folder).arg("eval").args(on));
    succeed(mlx_gpt(folder).args(["train", "--resume", run, "--steps", steps]));
    let continued = ["train", "--device", "cpu", "--init-from", run, "--out", "continued"];
    let briefly = ["--steps", "2", "--batch-size", "2", "--eval-batches", "1"];
    succeed(mlx_gpt(folder).args(continued).args(briefly));
    std::fs::remove_dir_all(folder.join("continued")).unwrap();
}

/// A tiny run of `steps` steps in `folder/run`.
pub fn trained(folder: &Path, steps: &str) -> PathBuf {
    succeed(&mut train_tiny(folder, &["--out", "run", "--steps", steps]));
    folder.join("run")
}

/// Starts a command, to be written to, read from, stopped or waited for.
pub trait Start {
    /// With pipes for all that it reads and writes.
    fn start(&mut self) -> Child;

    /// With nobody who reads what it writes.
    fn start_quietly(&mut self) -> Child;
}

impl Start for Command {
    fn start(&mut self) -> Child {
        let pipes = self.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        pipes.spawn().unwrap()
    }

    fn start_quietly(&mut self) -> Child {
        self.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

/// Starts a tiny run whose stderr goes to `folder/said`.
pub fn spawn_tiny(folder: &Path, options: &[&str]) -> Child {
    let said = std::fs::File::create(folder.join("said")).unwrap();
    train_tiny(folder, options).stderr(said).spawn().unwrap()
}

/// Waits for something that the program does; it must not end before.
pub fn wait_until(what: &str, child: &mut Child, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before: {what}");
        if started.elapsed() > Duration::from_secs(300) {
            // It would outlive the test.
            child.kill().unwrap();
            panic!("still waiting for: {what}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends a signal of that name, such as `-INT`.
pub fn signal(child: &Child, name: &str) {
    // The shell's own `kill`: small systems have no other.
    let status = Command::new("sh")
        .args(["-c", "kill $0 $1", name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Whether a file has that text in it.
pub fn says(file: &Path, text: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|contents| contents.contains(text))
}

/// The names of what is in a folder, hidden or not, in order.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Copies a file, or a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for name in names(from) {
            copy(&from.join(&name), &to.join(&name));
        }
    } else {
        std::fs::copy(from, to).unwrap();
    }
}

/// Every file of a folder and its contents.
pub fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// A model of two layers whose every parameter, biases too, is drawn at random.
pub fn random_checkpoint(folder: &Path, tokenizer: Tokenizer, embd: usize, heads: usize) -> Checkpoint {
    let model = ModelConfig {
        architecture: Architecture::Gpt2,
        components: Components::GPT2,
        layers: 2,
        heads,
        embd,
        context: 16,
        vocab_size: tokenizer.vocab_size(),
        dropout: 0.0,
        lora: None,
        quantization: None,
        bos_eos: BosEos::default(),
    };
    let mut state = random::RandomState::with_seed(1).unwrap();
    let parameters = layout(&model)
        .into_iter()
        .map(|spec| {
            let key = state.next_key().unwrap();
            (spec.name, random::normal::<f32>(&spec.shape, None, None, &key).unwrap())
        })
        .collect();
    Checkpoint {
        folder: folder.join("model"),
        parameters: Parameters::from_entries(parameters),
        model,
        tokenizer,
        chat_template: None,
        base: None,
    }
}

/// The checkpoint in its folder, `model`.
pub fn saved(checkpoint: Checkpoint) -> Checkpoint {
    let corpus = CorpusRecord {
        sha256: String::new(),
        split_offset: 0,
    };
    let moments = Moments {
        m: checkpoint.parameters.clone(),
        v: checkpoint.parameters.clone(),
        apart: None,
        pair_logprobs: None,
    };
    checkpoint
        .save(&moments, &CheckpointState::new(1, corpus, None), "")
        .unwrap();
    checkpoint
}

/// The model of `tests/fixtures` and PyTorch's answers, as day 7 reads them.
pub struct Fixture(PyTorch);

impl Fixture {
    pub fn load() -> Self {
        place::device().select().unwrap();
        Self(PyTorch::read().unwrap())
    }

    pub fn numbers(&self, name: &str) -> Vec<f32> {
        self.answer(name).unwrap().to_vec_exact().unwrap()
    }
}

impl std::ops::Deref for Fixture {
    type Target = PyTorch;

    fn deref(&self) -> &PyTorch {
        &self.0
    }
}

/// The largest difference of two lists of one length.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The bytes that a fixture writes in base64.
pub fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text
        .trim_end_matches('=')
        .chars()
        .map(|c| DIGITS.find(c).unwrap() as u32);
    let bits: Vec<u32> = digits
        .flat_map(|digit| (0..6).rev().map(move |bit| digit >> bit & 1))
        .collect();
    let bytes = bits.chunks_exact(8);
    bytes
        .map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | *bit as u8))
        .collect()
}
