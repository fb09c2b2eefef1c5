//! Training on several machines: here, processes on 127.0.0.1, in MLX's ring, and by MPI where there is an mpirun.

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{folder, mlx_gpt, says, signal, stderr, succeed, train_tiny};
use serde_json::Value;

/// How long a test waits for anything before it fails.
const PATIENCE: Duration = Duration::from_secs(240);

/// Dropout, accumulation, and rows that two ranks share evenly and four do not.
const LEARN: [&str; 12] = [
    "--steps",
    "80",
    "--batch-size",
    "6",
    "--grad-accum",
    "2",
    "--save-every",
    "40",
    "--eval-every",
    "40",
    "--threads",
    "1",
];

/// A run that goes on until something ends it.
const ENDLESS: [&str; 12] = [
    "--steps",
    "10000000",
    "--save-every",
    "20",
    "--eval-every",
    "100000",
    "--keep-last",
    "2",
    "--threads",
    "1",
    "--out",
    "run",
];

/// Processes that are killed when the test ends, however it does.
struct Ranks(Vec<Child>);

impl Drop for Ranks {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Ranks {
    /// Waits for all to end.
    fn wait(&mut self) -> Vec<ExitStatus> {
        let started = Instant::now();
        loop {
            let ended: Vec<_> = self.0.iter_mut().map(|child| child.try_wait().unwrap()).collect();
            if ended.iter().all(Option::is_some) {
                return ended.into_iter().flatten().collect();
            }
            assert!(started.elapsed() < PATIENCE, "not all ranks have ended");
            sleep(Duration::from_millis(10));
        }
    }

    fn codes(&mut self) -> Vec<Option<i32>> {
        self.wait().iter().map(ExitStatus::code).collect()
    }
}

/// Addresses that the system chose a moment ago. Another program may take one; then the ranks say so, and are started again.
fn addresses(count: usize) -> Vec<String> {
    let free: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    free.iter().map(|free| free.local_addr().unwrap().to_string()).collect()
}

fn write_ring(folder: &Path, addresses: &[String]) {
    let ring: Vec<[&String; 1]> = addresses.iter().map(|address| [address]).collect();
    fs::write(folder.join("ring.json"), serde_json::to_string(&ring).unwrap()).unwrap();
}

/// Starts a rank of the ring in `ring.json`; what it says goes to `said-RANK`.
fn start_rank(folder: &Path, rank: usize, options: &[&str]) -> Child {
    let said = fs::File::create(folder.join(format!("said-{rank}"))).unwrap();
    let mut command = if options.contains(&"--resume") {
        let mut command = mlx_gpt(folder);
        command.arg("train").args(options);
        command
    } else {
        train_tiny(folder, options)
    };
    command
        .env("MLX_RANK", rank.to_string())
        .env("MLX_HOSTFILE", "ring.json");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
    command.spawn().unwrap()
}

fn said(folder: &Path, rank: usize) -> String {
    fs::read_to_string(folder.join(format!("said-{rank}"))).unwrap()
}

/// Starts that many ranks of a ring with these options, each with its own `more`.
fn start(folder: &Path, count: usize, options: &[&str], more: &dyn Fn(usize) -> Vec<&'static str>) -> Ranks {
    write_ring(folder, &addresses(count));
    let rank = |rank| start_rank(folder, rank, &[options, &more(rank)].concat());
    Ranks((0..count).map(rank).collect())
}

/// Runs them to their end; again, if a port was taken in between.
fn run_ring(folder: &Path, count: usize, options: &[&str]) -> Vec<Option<i32>> {
    for _ in 0..3 {
        let codes = start(folder, count, options, &|_| vec![]).codes();
        if !(0..count).any(|rank| said(folder, rank).contains("is used by another program")) {
            return codes;
        }
    }
    panic!("ports were taken three times");
}

fn succeed_in_ring(folder: &Path, count: usize, options: &[&str]) {
    let codes = run_ring(folder, count, options);
    let all: Vec<String> = (0..count).map(|rank| said(folder, rank)).collect();
    assert!(
        codes.iter().all(|code| *code == Some(0)),
        "{codes:?}\n{}",
        all.join("\n---\n")
    );
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "still waiting for: {what}");
        sleep(Duration::from_millis(10));
    }
}

fn losses(run: &Path) -> Vec<(u64, f64)> {
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter_map(|line| Some((line["step"].as_u64()?, line["loss"].as_f64()?)))
        .collect()
}

/// Losses of the first 10 steps are equal but for the order in which rows are summed: a sum of a few thousand numbers of 24
/// bits is off by 1e-6 of itself at most, ten times the loss's last digit. Each later step multiplies what differs, so that
/// 80 steps are given 2e-3, of what a wrong row or mask would make 1e-1.
fn assert_same_training(one: &Path, other: &Path) {
    let (one, other) = (losses(one), losses(other));
    assert!(other.len() >= 6, "{other:?}");
    for (a, b) in one.iter().zip(&other) {
        let allowed = if a.0 <= 10 { 1e-5 } else { 2e-3 };
        assert!(a.0 == b.0 && (a.1 - b.1).abs() <= allowed, "{a:?} {b:?}");
    }
}

fn weights(run: &Path) -> [Vec<u8>; 2] {
    ["model.safetensors", "optimizer.safetensors"].map(|name| fs::read(run.join("latest").join(name)).unwrap())
}

#[test]
fn ranks_learn_what_one_process_does_to_the_bit_again_and_resumed() {
    let folder = folder();
    let path = folder.path();
    succeed(&mut train_tiny(path, &[&LEARN[..], &["--out", "one"]].concat()));
    succeed_in_ring(path, 2, &[&LEARN[..], &["--out", "two"]].concat());
    assert_same_training(&path.join("one"), &path.join("two"));

    // Half of it, and the other half after a resume.
    let half = [
        &LEARN[2..],
        &["--steps", "40", "--schedule-steps", "80", "--out", "again"],
    ]
    .concat();
    succeed_in_ring(path, 2, &half);
    common::copy(&path.join("again"), &path.join("four"));
    succeed_in_ring(path, 2, &["--resume", "again", "--steps", "80"]);
    assert!(weights(&path.join("two")) == weights(&path.join("again")), "to the bit");

    succeed_in_ring(path, 4, &["--resume", "four", "--steps", "50"]);
    assert!(said(path, 0).contains("ranks 2 is now 4"), "{}", said(path, 0));
    assert_same_training(&path.join("one"), &path.join("four"));
}

/// Whether Open MPI starts processes here.
fn has_mpi() -> bool {
    let found = mpirun(Path::new(".")).args(["-n", "1", "true"]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!(
            "SKIPPED: nothing is tried with MPI, as there is no mpirun here; Debian has it in openmpi-bin and libopenmpi-dev"
        );
    }
    found
}

fn mpirun(folder: &Path) -> Command {
    let mut command = Command::new("mpirun");
    // More ranks than cores, and as root, as in a container.
    command
        .current_dir(folder)
        .args(["--allow-run-as-root", "--oversubscribe"]);
    command
}

#[test]
fn what_mpirun_starts_trains_together_without_an_option() {
    if !has_mpi() {
        return;
    }
    let folder = folder();
    let path = folder.path();
    let options = [&LEARN[2..], &["--steps", "20"]].concat();
    succeed(&mut train_tiny(path, &[&options[..], &["--out", "one"]].concat()));
    for run in ["two", "again"] {
        let rank = train_tiny(path, &[&options[..], &["--out", run]].concat());
        let output = mpirun(path)
            .args(["-n", "2"])
            .arg(rank.get_program())
            .args(rank.get_args())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stderr(&output).contains("2 ranks"), "{}", stderr(&output));
    }
    let (one, two) = (losses(&path.join("one")), losses(&path.join("two")));
    assert!(
        one.iter().zip(&two).all(|(a, b)| (a.1 - b.1).abs() < 1e-4),
        "{one:?} {two:?}"
    );
    assert!(weights(&path.join("two")) == weights(&path.join("again")), "to the bit");
}

#[test]
fn a_host_file_starts_the_ranks_and_a_signal_to_any_stops_all_once() {
    let folder = folder();
    let path = folder.path();
    let local = r#"{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}"#;
    fs::write(path.join("hosts.json"), format!("[{local}, {local}]")).unwrap();
    let hosts = ["--hosts", "hosts.json"];
    let output = succeed(&mut train_tiny(
        path,
        &[&["--steps", "3", "--out", "short"], &hosts[..]].concat(),
    ));
    assert_eq!(
        stderr(&output).matches("saved    short/latest").count(),
        1,
        "{}",
        stderr(&output)
    );

    let file = fs::File::create(path.join("said")).unwrap();
    let mut launcher = train_tiny(path, &[&ENDLESS[..], &hosts].concat());
    let mut launcher = Ranks(vec![launcher.stdin(Stdio::null()).stderr(file).spawn().unwrap()]);
    wait_for("a checkpoint", || path.join("run/step-000020").exists());
    signal(&launcher.0[0], "-INT");
    assert_eq!(launcher.codes(), [Some(130)]);
    assert!(says(&path.join("said"), "stopped and saved after step"));

    for to in [0, 1] {
        let mut ranks = start(path, 2, &["--resume", "run"], &|_| vec![]);
        wait_for("training", || said(path, 0).contains("resuming after step"));
        sleep(Duration::from_millis(200));
        signal(&ranks.0[to], "-INT");
        assert_eq!(ranks.codes(), [Some(130); 2], "{}", said(path, 0));
        assert!(
            said(path, 0).contains("stopped and saved after step"),
            "{}",
            said(path, 0)
        );
    }
}

#[test]
fn a_rank_that_is_killed_or_hangs_ends_all_and_is_named() {
    let folder = folder();
    let path = folder.path();
    // Rank 0, which others are told by, another one, and one that does not end by itself.
    for (count, lost, how, named) in [
        (3, 1, "-KILL", "rank 1 ended without a word"),
        (2, 0, "-KILL", "rank 0 ended without a word"),
        (2, 1, "-STOP", "rank 1 has said nothing for 20 seconds"),
    ] {
        let _ = fs::remove_dir_all(path.join("run"));
        let mut ranks = start(path, count, &ENDLESS, &|_| vec![]);
        wait_for("a checkpoint", || path.join("run/step-000040/state.json").exists());
        signal(&ranks.0[lost], how);
        let mut stopped = (how == "-STOP").then(|| Ranks(vec![ranks.0.remove(lost)]));
        let codes = ranks.codes();
        drop(stopped.take());
        assert_eq!(
            codes.iter().filter(|code| **code == Some(1)).count(),
            count - 1,
            "{codes:?}"
        );
        for rank in (0..count).filter(|rank| *rank != lost) {
            let said = said(path, rank);
            // MLX's ring may have begun a line of its own.
            let errors = said.matches(&format!("error: {named}")).count();
            assert!(errors == 1, "rank {rank}: {said}");
        }
        // The last checkpoint is whole: its files are compared with their hashes.
        let steps = common::names(&path.join("run"))
            .iter()
            .filter(|name| name.starts_with("step-"))
            .count();
        assert!((1..=3).contains(&steps), "{:?}", common::names(&path.join("run")));
        let newest = path.join("run/latest").canonicalize().unwrap();
        mlx_gpt::checkpoint::verify(&newest).unwrap();
    }
}

#[test]
fn ranks_wait_for_a_late_one_and_say_what_differs() {
    let folder = folder();
    let path = folder.path();
    let options = ["--steps", "2"];
    write_ring(path, &addresses(2));
    let first = start_rank(path, 0, &[&options[..], &["--out", "run"]].concat());
    wait_for("the message", || said(path, 0).contains("waiting for rank 1"));
    let mut ranks = Ranks(vec![
        first,
        start_rank(path, 1, &[&options[..], &["--out", "run"]].concat()),
    ]);
    assert_eq!(ranks.codes(), [Some(0); 2], "{}", said(path, 0));

    fs::write(
        path.join("other.txt"),
        "to be or not to be, that is the question\n".repeat(40),
    )
    .unwrap();
    fs::write(
        path.join("text.txt"),
        "whether 'tis nobler in the mind to suffer\n".repeat(40),
    )
    .unwrap();
    let corpus = |rank| vec!["--corpus", if rank == 0 { "text.txt" } else { "other.txt" }];
    let steps = |rank| vec!["--steps", if rank == 0 { "2" } else { "3" }];
    let none = |rank| vec!["--corpus", if rank == 0 { "text.txt" } else { "missing.txt" }];
    type Options = Box<dyn Fn(usize) -> Vec<&'static str>>;
    let differ: [(Options, &str); 3] = [
        (Box::new(corpus), "rank 1 has another text"),
        (Box::new(steps), "rank 1 has other options"),
        (Box::new(none), "corpus missing.txt"),
    ];
    for (number, (more, named)) in differ.into_iter().enumerate() {
        let out = ["--out", ["a", "b", "c"][number]];
        let mut ranks = start(path, 2, &out, &|rank| [more(rank), vec!["--lr", "1e-3"]].concat());
        assert_eq!(ranks.codes(), [Some(1); 2], "{}", said(path, 0));
        let error = said(path, 0);
        assert!(
            error.lines().last().unwrap().starts_with("error: ") && error.contains(named),
            "{error}"
        );
        assert!(!path.join(out[1]).join("latest").exists());
    }
}

#[test]
fn what_one_machine_alone_does_is_refused_by_several() {
    let folder = folder();
    for (options, named) in [
        (["--minutes", "1"], "--minutes and --hours are planned for one machine"),
        (["--patience", "2"], "patience 2 is for one machine"),
    ] {
        let codes = run_ring(folder.path(), 2, &[&options[..], &["--out", "run"]].concat());
        assert_eq!(codes, [Some(1); 2], "{}", said(folder.path(), 1));
        let error = said(folder.path(), 0);
        assert!(error.lines().last().unwrap().contains(named), "{error}");
        assert!(!folder.path().join("run").exists());
    }
}

#[test]
fn an_address_that_cannot_be_used_is_named_in_a_line() {
    let folder = folder();
    let path = folder.path();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let _listening = TcpListener::bind(&taken);
    let keep = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = keep.local_addr().unwrap().to_string();
    for (ring, named) in [
        (
            vec![busy.clone(), "127.0.0.1:1".into()],
            format!("address {busy} of rank 0 is used"),
        ),
        (
            vec!["192.0.2.1:4000".into(), "127.0.0.1:1".into()],
            "is no address of this machine".into(),
        ),
        (vec!["127.0.0.1".into()], "is no address:port".into()),
    ] {
        write_ring(path, &ring);
        let mut rank = Ranks(vec![start_rank(path, 0, &["--out", "run"])]);
        assert_eq!(rank.codes(), [Some(1)]);
        let error = said(path, 0);
        assert!(
            error.starts_with("error: ") && error.lines().count() == 1 && error.contains(&named),
            "{error}"
        );
    }
    // Of a backend that this machine lacks, MLX's own words.
    let error = common::fail(&mut train_tiny(path, &["--out", "run", "--distributed", "nccl"]));
    assert!(error.contains("MLX's backend nccl cannot connect: "), "{error}");

    let ssh = r#"[{"ssh": "127.0.0.1"}, {"ssh": "elsewhere", "ips": ["192.0.2.2"]}]"#;
    fs::write(path.join("hosts.json"), ssh).unwrap();
    let empty = path.join("empty");
    fs::create_dir(&empty).unwrap();
    let mut without_ssh = train_tiny(path, &["--out", "run", "--hosts", "hosts.json"]);
    let error = common::stderr(&without_ssh.env("PATH", &empty).output().unwrap());
    assert!(
        error
            .lines()
            .last()
            .unwrap()
            .contains("rank 1 is on elsewhere, and there is no ssh here"),
        "{error}"
    );
}

#[test]
fn float16_and_muon_keep_all_ranks_the_same() {
    let folder = folder();
    let path = folder.path();
    // Parameters are compared at each save.
    let options = [
        "--steps",
        "6",
        "--save-every",
        "3",
        "--dtype",
        "float16",
        "--optimizer",
        "muon",
        "--out",
        "run",
    ];
    succeed_in_ring(path, 3, &options);
    let few = run_ring(path, 3, &["--batch-size", "2", "--out", "few"]);
    assert_eq!(few, [Some(1); 3]);
    assert!(
        said(path, 0).contains("a batch of 2 row(s) cannot be shared among 3 ranks"),
        "{}",
        said(path, 0)
    );
}

#[test]
fn ranks_that_train_apart_resume_to_the_bit_and_with_another_number() {
    let folder = folder();
    let path = folder.path();
    let options = [
        "--sync-every",
        "5",
        "--save-every",
        "10",
        "--eval-every",
        "10",
        "--schedule-steps",
        "20",
        "--optimizer",
        "muon",
    ];
    let apart = |run: &Path| fs::read(run.join("latest/apart.safetensors")).unwrap();
    succeed_in_ring(path, 2, &[&options[..], &["--steps", "20", "--out", "whole"]].concat());
    succeed_in_ring(path, 2, &[&options[..], &["--steps", "10", "--out", "half"]].concat());
    common::copy(&path.join("half"), &path.join("four"));
    succeed_in_ring(path, 2, &["--resume", "half", "--steps", "20"]);
    let (whole, half) = (path.join("whole"), path.join("half"));
    assert!(
        weights(&whole) == weights(&half) && apart(&whole) == apart(&half),
        "to the bit"
    );
    let (first, last) = (losses(&whole)[0].1, losses(&whole).last().unwrap().1);
    assert!(last < first - 0.1, "they learn together: {first} {last}");

    succeed_in_ring(path, 4, &["--resume", "four", "--steps", "20"]);
    assert!(said(path, 0).contains("ranks 2 is now 4"), "{}", said(path, 0));

    let alone = common::fail(&mut train_tiny(path, &[&options[..], &["--out", "alone"]].concat()));
    assert!(alone.contains("sync-every 5 is for several machines"), "{alone}");
    assert!(!path.join("alone").join("config.toml").exists());
    let apart = common::fail(&mut train_tiny(
        path,
        &["--sync-every", "4", "--save-every", "8", "--eval-every", "10"],
    ));
    assert!(
        apart.contains("eval-every 10 is no multiple of sync-every 4") && apart.ends_with("choose 12"),
        "{apart}"
    );
    let uneven = [&options[..], &["--batch-size", "7", "--out", "uneven"]].concat();
    assert_eq!(run_ring(path, 2, &uneven), [Some(1); 2]);
    assert!(
        said(path, 0).contains("choose a --batch-size of 8"),
        "{}",
        said(path, 0)
    );
}

#[test]
fn messages_and_steps_are_measured_and_predicted() {
    let folder = folder();
    let options = ["--json", "--steps", "2", "--batch-size", "2", "--device", "cpu"];
    let output = succeed(mlx_gpt(folder.path()).args(["bench", "distributed"]).args(options));
    let found: Value = serde_json::from_str(&common::stdout(&output)).unwrap();
    assert_eq!((found["ranks"].as_u64(), found["rows"].as_u64()), (Some(2), Some(2)));
    assert_eq!(found["messages"].as_array().unwrap().len(), 5);
    let predictions = found["predictions"].as_array().unwrap();
    let ranks: Vec<u64> = predictions.iter().map(|of| of["ranks"].as_u64().unwrap()).collect();
    assert_eq!(ranks, [1, 2, 4, 8, 16, 32, 64]);
    assert!(predictions[1]["same_batch"].is_f64() && predictions[2]["same_batch"].is_null());
    let grown = |index: usize| predictions[index]["grown_batch"].as_f64().unwrap();
    assert!(grown(0) <= grown(1) && grown(1) <= grown(6), "{found}");
}
