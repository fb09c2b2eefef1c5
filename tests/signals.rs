//! Signals as they come in the life of a run: two or more of them, a moment apart, through make, `timeout` and terminals
//! that close. Whatever comes, the run is saved, and resumed it ends as if nothing had come.
//!
//! `SIGNALS` says how many runs (10 unless told otherwise), `SEED` which moments; `make faults` is the long version.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::learned::learned;
use common::{
    SAVED_OFTEN, Start, TINY, folder, mlx_gpt, number, says, signal, spawn_tiny, succeed, train_tiny, wait_until,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Signals in their order, and exit codes that shells make of them.
const ORDERS: [&[(&str, i32)]; 4] = [
    &[("TERM", 143), ("HUP", 129)],
    &[("HUP", 129), ("TERM", 143)],
    &[("TERM", 143), ("TERM", 143), ("TERM", 143)],
    &[("INT", 130), ("TERM", 143)],
];

/// What stands between the signals and the program.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Direct,
    /// `make`, which sends on what its whole group gets.
    Make,
    /// `timeout` over make: two signals that are the first of each order.
    Timeout,
    /// A terminal with an interactive bash, which is closed.
    Terminal,
}

const WAYS: [Way; 4] = [Way::Direct, Way::Make, Way::Timeout, Way::Terminal];

/// As the program's own Makefile has it, but for cargo, which makes way for the program.
const MAKEFILE: &str = "train:\n\t$(PROGRAM) train $(ARGS)\n";

fn arguments() -> Vec<&'static str> {
    TINY.into_iter().chain(SAVED_OFTEN).collect()
}

/// Whether no process trains the run any more.
fn is_free(run: &Path) -> bool {
    File::open(run.join(".lock")).is_ok_and(|lock| lock.try_lock().is_ok())
}

fn wait_until_free(run: &Path) {
    let started = Instant::now();
    while run.exists() && !is_free(run) {
        assert!(started.elapsed() < Duration::from_secs(120), "it does not end");
        sleep(Duration::from_millis(20));
    }
}

fn make(folder: &Path) -> Command {
    fs::write(folder.join("Makefile"), MAKEFILE).unwrap();
    let mut command = Command::new("make");
    command
        .current_dir(folder)
        .arg("train")
        .arg(format!("PROGRAM={}", env!("CARGO_BIN_EXE_mlx-gpt")))
        .arg(format!("ARGS={}", arguments().join(" ")))
        .process_group(0);
    command
}

/// Sends signals to a process, or with a minus to its group.
fn send(to: &str, order: &[(&str, i32)], gap: Duration) {
    for (number, (name, _)) in order.iter().enumerate() {
        if number > 0 {
            sleep(gap);
        }
        // The shell's own `kill`: small systems have no other. What has ended by now needs none.
        let kill = format!("kill -s {name} -- {to} 2>&-");
        let _ = Command::new("sh").args(["-c", &kill]).status();
    }
}

fn quiet(command: &mut Command, folder: &Path) -> Child {
    let said = File::create(folder.join("said")).unwrap();
    command.stdout(Stdio::null()).stderr(said).spawn().unwrap()
}

/// An interactive bash in a terminal of its own, with the program in its foreground, and the process whose end closes the
/// terminal. `script` is called in two ways.
fn terminal(folder: &Path) -> Child {
    let util_linux = Command::new("script")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let mut command = Command::new("script");
    if util_linux {
        command.args(["-q", "-c", "bash --norc -i", "/dev/null"]);
    } else {
        command.args(["-q", "/dev/null", "bash", "--norc", "-i"]);
    }
    let mut child = command.current_dir(folder).stdin(Stdio::piped()).start_quietly();
    let line = format!("{} train {}\n", env!("CARGO_BIN_EXE_mlx-gpt"), arguments().join(" "));
    child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    child
}

/// Starts a run, and ends it in that way after `moment`; how what was started ended.
fn disturb(folder: &Path, way: Way, order: &[(&str, i32)], moment: Duration, gap: Duration) -> ExitStatus {
    match way {
        Way::Direct => {
            let mut child = quiet(&mut train_tiny(folder, &SAVED_OFTEN), folder);
            sleep(moment);
            send(&child.id().to_string(), order, gap);
            child.wait().unwrap()
        }
        Way::Make => {
            let mut child = quiet(&mut make(folder), folder);
            sleep(moment);
            send(&format!("-{}", child.id()), order, gap);
            child.wait().unwrap()
        }
        Way::Timeout => {
            let made = make(folder);
            let mut command = Command::new("timeout");
            command
                .arg(format!("--signal={}", order[0].0))
                .arg(format!("{:.3}", moment.as_secs_f64()))
                .arg(made.get_program())
                .args(made.get_args())
                .current_dir(folder);
            quiet(&mut command, folder).wait().unwrap()
        }
        Way::Terminal => {
            let mut child = terminal(folder);
            sleep(moment);
            child.kill().unwrap(); // and so closes the terminal
            child.wait().unwrap()
        }
    }
}

/// Steps of the newest checkpoint, and of the newest line of the metrics.
fn saved_and_logged(run: &Path) -> (Option<u64>, Option<u64>) {
    let entries = fs::read_dir(run).into_iter().flatten().flatten();
    let saved = entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok());
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let lines = metrics
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    (saved.max(), lines.filter_map(|line| line["step"].as_u64()).max())
}

#[test]
fn signals_however_they_come_are_one_request_to_save() {
    let (count, seed) = (number("SIGNALS", 10) as usize, number("SEED", 1));
    eprintln!("SIGNALS={count} SEED={seed}");
    let has = |program: &str| {
        Command::new("sh")
            .args(["-c", &format!("command -v {program} >&2")])
            .output()
    };
    let has = |program: &str| has(program).is_ok_and(|output| output.status.success());
    let ways: Vec<Way> = WAYS
        .into_iter()
        .filter(|way| match way {
            Way::Direct => true,
            Way::Make => has("make"),
            Way::Timeout => has("make") && has("timeout"),
            Way::Terminal => has("script") && has("bash"),
        })
        .collect();
    for way in WAYS.iter().filter(|way| !ways.contains(way)) {
        eprintln!("SKIPPED: {way:?}: a program for it is not installed here");
    }

    let whole = folder();
    let started = Instant::now();
    succeed(&mut train_tiny(whole.path(), &SAVED_OFTEN));
    let duration = started.elapsed();
    let expected = learned(&whole.path().join("run"));

    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut resumed, mut begun, mut finished) = (0, 0, 0);
    for number in 0..count {
        let way = ways[number % ways.len()];
        let order = ORDERS[(number / ways.len() + number) % ORDERS.len()];
        let moment = duration.mul_f64(rng.random_range(0.02..0.9));
        let gap = Duration::from_millis(rng.random_range(0..1500));
        let what = format!("number {number}: {way:?} {order:?} after {moment:?}, {gap:?} apart");
        let folder = folder();
        let run = folder.path().join("run");
        let status = disturb(folder.path(), way, order, moment, gap);
        wait_until_free(&run);

        let said = fs::read_to_string(folder.path().join("said")).unwrap_or_default();
        let (saved, logged) = saved_and_logged(&run);
        assert!(saved >= logged, "{what}: saved {saved:?} of {logged:?}: {said}");
        if way == Way::Direct && saved != Some(400) {
            // Two that come at the same instant have no order.
            let codes: Vec<i32> = order.iter().map(|(_, code)| *code).collect();
            let code = status.code().unwrap();
            assert!(
                code == codes[0] || (gap < Duration::from_millis(100) && codes.contains(&code)),
                "{what}: {code}: {said}"
            );
        }
        if run.join("config.toml").exists() {
            succeed(mlx_gpt(folder.path()).args(["train", "--resume", "run"]));
        } else {
            succeed(&mut train_tiny(folder.path(), &SAVED_OFTEN));
        }
        assert!(learned(&run) == expected, "{what}: the same to the bit: {said}");
        match saved {
            None => begun += 1,
            Some(400) => finished += 1,
            Some(_) => resumed += 1,
        }
    }
    eprintln!("of {count} runs {resumed} were stopped on their way, {begun} before, {finished} were finished already");
    assert!(2 * resumed > count, "most of the moments were meant to be on the way");
}

/// A person who presses Ctrl-C again means it; what that costs is said before. Nothing else ends a run at once.
#[test]
fn only_a_late_second_ctrl_c_stops_at_once() {
    let folder = folder();
    let run = folder.path().join("run");
    let said = folder.path().join("said");
    // A batch that takes most of a second a step, so that there is time before the save.
    let slow = [
        "--steps",
        "100000",
        "--save-every",
        "100000",
        "--eval-every",
        "100000",
        "--out",
        "run",
        "--batch-size",
        "512",
        "--context",
        "64",
        "--embd",
        "64",
    ];
    let begin = || {
        let _ = fs::remove_dir_all(&run);
        let mut child = spawn_tiny(folder.path(), &slow);
        wait_until("a step", &mut child, || says(&run.join("metrics.jsonl"), "\"loss\""));
        child
    };
    let mut child = begin();
    signal(&child, "-INT");
    wait_until("a message", &mut child, || says(&said, "saving and stopping"));
    assert!(
        says(
            &said,
            "a Ctrl-C more than two seconds from now would stop at once and lose the last"
        ),
        "{}",
        fs::read_to_string(&said).unwrap()
    );
    assert!(child.wait().unwrap().code() == Some(130) && run.join("latest").exists());

    // The program is stopped and made to go on, so that two seconds are over before it has saved.
    let mut child = begin();
    signal(&child, "-TERM");
    wait_until("a message", &mut child, || says(&said, "saving and stopping"));
    signal(&child, "-INT");
    sleep(Duration::from_millis(100));
    signal(&child, "-STOP");
    sleep(Duration::from_millis(2100));
    signal(&child, "-HUP");
    signal(&child, "-TERM");
    signal(&child, "-INT");
    signal(&child, "-CONT");
    assert_eq!(child.wait().unwrap().code(), Some(143), "the first one's");
    assert!(!run.join("latest").exists(), "at once");
}

/// `nohup` has a run go on when its terminal closes.
#[test]
fn a_run_under_nohup_goes_on() {
    let folder = folder();
    let run = folder.path().join("run");
    let program = train_tiny(folder.path(), &SAVED_OFTEN);
    let mut child = Command::new("nohup")
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(folder.path())
        .start_quietly();
    wait_until("a step", &mut child, || says(&run.join("metrics.jsonl"), "\"loss\""));
    signal(&child, "-HUP");
    assert!(child.wait().unwrap().success());
    assert!(run.join("step-000400").exists());
}
