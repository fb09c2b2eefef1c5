//! Processes killed at random instants on a small disk that is sometimes full: each next start goes on, and in the end the
//! weights are those of a run that nothing happened to.
//!
//! `KILLS` says how many (8 unless told otherwise), `SEED` which; `make faults` is the long version.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::disk::Disk;
use crate::common::learned::{Learned, learned};
use crate::common::{folder, mlx_gpt, number, stderr, succeed};
use mlx_gpt::checkpoint;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const STEPS: u64 = 40;

/// What a kill waits for.
#[derive(Clone, Copy)]
enum Moment {
    Any,
    /// The unfinished folder of its nth checkpoint is there.
    Saving(usize),
}

#[derive(Default, Debug)]
struct Count {
    kills: usize,
    /// Kills that left a checkpoint unfinished.
    during_a_save: usize,
    /// Starts on a disk that was nearly full.
    full: usize,
    /// Of these, those that ended by themselves with an error.
    failed: usize,
    /// Starts that said that they went on from a checkpoint.
    resumed: usize,
    /// Runs that came to their end.
    runs: usize,
}

impl Count {
    /// That many kills, half of them in a save.
    fn reached(&self, kills: usize) -> bool {
        self.kills >= kills && 2 * self.during_a_save >= self.kills
    }
}

const CONFIG: &str = r#"
corpus = "corpus.txt"
layers = 1
heads = 2
embd = 192
context = 16
dropout = 0.1
batch_size = 4
steps = 40
warmup = 5
eval_every = 20
eval_batches = 2
save_every = 5
keep_last = 2
device = "cpu"
threads = 2
"#;

/// The next start of the run in `place`, whatever is left of it.
fn start(place: &Path, home: &Path) -> Command {
    let mut command = mlx_gpt(home);
    let run = place.join("run");
    if run.join("config.toml").exists() {
        command.args(["train", "--resume"]).arg(run);
    } else {
        command.args(["train", "--config", "config.toml", "--out"]).arg(run);
    }
    command.stderr(Stdio::piped()).stdout(Stdio::null());
    command
}

/// Whether a checkpoint that process `writer` (or any) has not finished is there.
fn unfinished(run: &Path, writer: Option<u32>) -> bool {
    let begins = writer.map_or(".making-".into(), |writer| format!(".making-{writer}-step-"));
    fs::read_dir(run).is_ok_and(|entries| {
        let mut names = entries.flatten().map(|entry| entry.file_name().into_string().unwrap());
        names.any(|name| name.starts_with(&begins))
    })
}

/// How a start ended.
struct Ended {
    output: Output,
    /// By the kill, not by itself.
    killed: bool,
    /// And the kill left a checkpoint unfinished.
    during_a_save: bool,
}

/// Starts it, waits for `moment`, and then for `delay`, and kills it.
fn kill_at(command: &mut Command, run: &Path, moment: Moment, delay: Duration) -> Ended {
    let mut child = command.spawn().unwrap();
    let writer = Some(child.id());
    if let Moment::Saving(number) = moment {
        // Folders come and go; the last wait is for one that comes.
        for wait in 1..2 * number {
            while child.try_wait().unwrap().is_none() && unfinished(run, writer) != (wait % 2 == 1) {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }
    let reached = Instant::now();
    while child.try_wait().unwrap().is_none() && reached.elapsed() < delay {
        std::thread::sleep(Duration::from_micros(200));
    }
    let killed = child.try_wait().unwrap().is_none();
    let _ = child.kill();
    Ended {
        output: child.wait_with_output().unwrap(),
        killed,
        during_a_save: killed && unfinished(run, writer),
    }
}

/// Every checkpoint in the run is complete, and `latest` points at one of them or is not there.
fn check(run: &Path) {
    let Ok(entries) = fs::read_dir(run) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().unwrap().starts_with("step-") {
            checkpoint::verify(&entry.path()).unwrap();
        }
    }
    for link in ["latest", "best"] {
        let link = run.join(link);
        assert!(
            link.symlink_metadata().is_err() || link.join("state.json").exists(),
            "{link:?} is broken"
        );
    }
}

fn newest(run: &Path) -> Option<u64> {
    let steps = fs::read_dir(run).ok()?.flatten();
    steps
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok())
        .max()
}

#[test]
fn killed_again_and_again_on_a_small_disk() {
    kill_again_and_again(CONFIG, number("KILLS", 8) as usize);
}

/// Its problems are made anew from seed and step.
#[test]
fn killed_again_and_again_while_it_learns_a_task() {
    let task = CONFIG.replace("corpus = \"corpus.txt\"", "task = \"addition\"");
    kill_again_and_again(&task, number("KILLS", 8) as usize / 2);
}

fn kill_again_and_again(config: &str, kills: usize) {
    let seed = number("SEED", 1);
    eprintln!("{kills} kills, SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let disk = Disk::mount();
    let home = folder();
    fs::write(
        home.path().join("corpus.txt"),
        "Now is the winter of our discontent\nMade glorious summer by this sun of York;\n".repeat(60),
    )
    .unwrap();

    fs::write(home.path().join("config.toml"), config).unwrap();

    let began = Instant::now();
    succeed(&mut start(home.path(), home.path()));
    let undisturbed = began.elapsed();
    let expected = learned(&home.path().join("run"));

    let run = disk.path().join("run");
    let mut count = Count::default();
    while !count.reached(kills) {
        let full = disk.mounted && rng.random_bool(0.25);
        if full {
            // From nothing at all to a little more than a checkpoint.
            disk.fill(rng.random_range(0..6_000_000));
            count.full += 1;
        }
        let saving = 2 * count.during_a_save <= count.kills + 1 && !full;
        let (moment, delay) = if saving {
            (
                Moment::Saving(rng.random_range(1..5)),
                Duration::from_micros(rng.random_range(0..10_000)),
            )
        } else {
            (Moment::Any, undisturbed.mul_f64(rng.random_range(0.0..0.8)))
        };
        let before = newest(&run);
        let ended = kill_at(&mut start(disk.path(), home.path()), &run, moment, delay);
        let said = stderr(&ended.output);
        if ended.killed {
            count.kills += 1;
            count.during_a_save += usize::from(ended.during_a_save);
        } else if !ended.output.status.success() {
            assert!(full, "it failed on a disk with space: {said}");
            assert!(said.lines().last().unwrap().starts_with("error: "), "{said}");
            count.failed += 1;
        }
        if let Some(resumed) = said.lines().find_map(|line| line.strip_prefix("resuming after step ")) {
            assert_eq!(resumed.parse().ok(), before, "it goes on from the newest checkpoint");
            count.resumed += 1;
        }
        check(&run);
        disk.empty();
        if newest(&run) == Some(STEPS) || count.reached(kills) {
            succeed(&mut start(disk.path(), home.path()));
            check(&run);
            assert!(!unfinished(&run, None), "what died processes left is cleaned up");
            let Learned {
                files, lines: metrics, ..
            } = learned(&run);
            assert_eq!(metrics, expected.lines, "metrics are the same but for times and memory");
            for ((name, ours), (_, theirs)) in files.iter().zip(&expected.files) {
                // Where a save failed, another checkpoint may be the best so far.
                assert!(name == "state.json" || ours == theirs, "{name} is the same to the bit");
            }
            fs::remove_dir_all(&run).unwrap();
            count.runs += 1;
        }
    }
    eprintln!("{count:?} in {:.0} s", began.elapsed().as_secs_f64());
    assert!(count.resumed > 0 && count.runs > 0);
}
