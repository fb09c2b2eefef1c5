//! The workbook as a learner has it: made, compiled and checked by `mlx-gpt lesson`. An unsolved day fails, a solved one passes, and a
//! wrong solution fails with the hint that names the mistake.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use tempfile::TempDir;

const DAYS: std::ops::RangeInclusive<u8> = 0..=14;

#[derive(Deserialize)]
struct Mistakes {
    mistake: Vec<Mistake>,
}

#[derive(Clone, Deserialize)]
struct Mistake {
    day: u8,
    find: String,
    replace: String,
    hint: String,
}

/// All workbooks are built in the checkout's target folder, to one program.
static BUILDS: Mutex<()> = Mutex::new(());

/// A workbook in a temporary folder.
struct Workbook {
    _alone: MutexGuard<'static, ()>,
    _parent: TempDir,
    folder: PathBuf,
}

impl Workbook {
    fn start() -> Self {
        let alone = BUILDS.lock().unwrap_or_else(PoisonError::into_inner);
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("mine");
        let workbook = Self {
            _alone: alone,
            _parent: parent,
            folder,
        };
        let output = lesson(&["start", &workbook.name()]);
        assert!(output.status.success(), "{}", text(&output));
        workbook
    }

    fn name(&self) -> String {
        self.folder.to_str().unwrap().to_owned()
    }

    fn file(&self, day: u8) -> PathBuf {
        self.folder.join(format!("src/day{day:02}.rs"))
    }

    fn lesson(&self, command: &str, day: u8) -> Output {
        lesson(&[command, &day.to_string(), "--mine", &self.name()])
    }

    fn solve(&self) {
        for day in DAYS {
            let output = self.lesson("solution", day);
            assert!(output.status.success(), "{}", text(&output));
        }
    }
}

/// The program of the checkout, which `cargo test` of the whole workspace builds; of this package alone it does not.
fn program() -> Command {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let program = checkout.join("target/debug/mlx-gpt");
    assert!(program.exists(), "build the program first: cargo build");
    Command::new(program)
}

fn lesson(arguments: &[&str]) -> Output {
    program().arg("lesson").args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn an_unsolved_day_fails_a_solved_one_passes_and_a_wrong_one_is_told_why() {
    let workbook = Workbook::start();
    for day in DAYS {
        let output = workbook.lesson("check", day);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "day {day}: {said}");
        assert!(
            said.contains("to do") && !said.lines().any(|line| line.starts_with("right")),
            "day {day}: {said}"
        );
    }
    let unwritten = own(&workbook, &["train", "--out", "own"]).output().unwrap();
    let said = text(&unwritten);
    assert_eq!(unwritten.status.code(), Some(1), "{said}");
    assert!(
        said.contains("`initialize` is not written yet (src/day07.rs:"),
        "{said}"
    );
    assert!(!workbook.folder.join("own").exists());
    workbook.solve();
    for day in DAYS {
        let output = workbook.lesson("check", day);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(0), "day {day}: {said}");
        let done = format!("\nDay {day} is done.\n");
        let rest = said.strip_suffix(&done).unwrap_or_else(|| panic!("day {day}: {said}"));
        assert!(rest.lines().all(|line| line.starts_with("right")), "day {day}: {said}");
    }
    trains_and_writes(&workbook);
    let solutions: Vec<String> = DAYS
        .map(|day| fs::read_to_string(workbook.file(day)).unwrap())
        .collect();

    let all: Mistakes = toml::from_str(include_str!("mistakes.toml")).unwrap();
    let mut mistakes = all.mistake;
    let named = mistakes.iter().filter(|mistake| !mistake.hint.is_empty()).count();
    assert!(
        mistakes.len() >= 40 && named >= 30,
        "{} mistakes, {named} named",
        mistakes.len()
    );
    for Mistake { day, find, .. } in &mistakes {
        let count = solutions[usize::from(*day)].matches(find.as_str()).count();
        assert_eq!(count, 1, "day {day}: {find:?} is in the solution {count} times");
    }
    // A sample, unless all are asked for.
    let seed = number("SEED", rand_seed());
    mistakes.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    mistakes.truncate(number("MISTAKES", 8) as usize);
    eprintln!("SEED={seed}, {} wrong solutions", mistakes.len());
    let unrecognised: Vec<String> = mistakes
        .iter()
        .filter_map(|mistake| {
            let solution = &solutions[usize::from(mistake.day)];
            wrongly_checked(&workbook, solution, mistake)
        })
        .collect();
    assert!(unrecognised.is_empty(), "{}", unrecognised.join("\n"));
}

/// The learner's own program trains as the library does, to a checkpoint that the library reads; resumed, it goes on; and it writes
/// with weights in Hugging Face's format.
fn trains_and_writes(workbook: &Workbook) {
    let options = ["--device", "cpu", "--preset", "nano"];
    let train = |arguments: &[&str]| run(&mut own(workbook, &[&["train"], arguments].concat()));
    let refused = [&["train", "--out", "refused", "--grad-accum", "2"], &options[..]].concat();
    let said = text(&own(workbook, &refused).output().unwrap());
    assert!(said.contains("are trained with --grad-accum 1"), "{said}");
    assert!(!workbook.folder.join("refused").exists(), "{said}");
    train(&[&options[..], &["--out", "own", "--steps", "10"]].concat());
    train(&["--resume", "own", "--steps", "20", "--schedule-steps", "20"]);
    let library = [
        &options[..],
        &["--optimizer", "adamw", "--out", "library", "--steps", "20"],
    ]
    .concat();
    run(program().arg("train").args(library).current_dir(&workbook.folder));
    let [ours, theirs] = ["own", "library"].map(|name| last_loss(&workbook.folder.join(name)));
    // The same seed gives the same weights and batches; sums in another order, carried on by AdamW.
    assert!((ours - theirs).abs() < 0.02, "{ours} against the library's {theirs}");

    let export = ["export", "--checkpoint", "own", "--format", "hf", "--out", "hf"];
    run(program().args(export).current_dir(&workbook.folder));
    let said = run(&mut own(workbook, &["write", "hf", "ROMEO:"]));
    assert!(said.starts_with("ROMEO:") && said.chars().count() > 100, "{said}");
}

/// The learner's own program.
fn own(workbook: &Workbook, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--"]).args(arguments);
    command.current_dir(&workbook.folder);
    command
}

/// Its standard output; it has to succeed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The loss on the validation text at the last evaluation of a run.
fn last_loss(run: &Path) -> f64 {
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut losses = metrics.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["val_loss"].as_f64()
    });
    losses.next_back().unwrap()
}

/// What is wrong with the check of a wrong solution.
fn wrongly_checked(workbook: &Workbook, solution: &str, mistake: &Mistake) -> Option<String> {
    let Mistake {
        day,
        find,
        replace,
        hint,
    } = mistake;
    fs::write(workbook.file(*day), solution.replace(find, replace)).unwrap();
    let output = workbook.lesson("check", *day);
    let said = text(&output);
    fs::write(workbook.file(*day), solution).unwrap();
    let recognised = output.status.code() == Some(1) && said.contains("WRONG") && said.contains(hint);
    (!recognised).then(|| format!("day {day}, {replace:?}, without {hint:?}:\n{said}"))
}

fn rand_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    ChaCha8Rng::seed_from_u64(now.unwrap().as_nanos() as u64).next_u64() >> 32
}

#[test]
fn what_a_learner_wrote_is_kept() {
    let workbook = Workbook::start();
    fs::write(workbook.file(4), "// mine\n").unwrap();
    let output = workbook.lesson("reset", 4);
    assert!(text(&output).contains("day04.rs.1"), "{}", text(&output));
    assert_eq!(
        fs::read_to_string(workbook.folder.join("src/day04.rs.1")).unwrap(),
        "// mine\n"
    );
    assert!(fs::read_to_string(workbook.file(4)).unwrap().contains("todo!()"));
    let output = lesson(&["start", &workbook.name()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("exists already"), "{}", text(&output));
    let output = lesson(&["check", "4", "--mine", "/nowhere"]);
    assert!(text(&output).contains("lesson start /nowhere"), "{}", text(&output));
}

/// All of a checkout's workbooks are built in one folder.
#[test]
fn two_workbooks_are_told_apart() {
    let workbook = Workbook::start();
    for day in 1..=3 {
        workbook.lesson("solution", day);
    }
    let other = workbook.folder.with_file_name("other");
    let other = other.to_str().unwrap();
    assert!(lesson(&["start", other]).status.success());
    for _ in 0..2 {
        assert_eq!(workbook.lesson("check", 3).status.code(), Some(0));
        let said = text(&lesson(&["check", "3", "--mine", other]));
        assert!(said.contains("to do  one_hot") && !said.contains("right  "), "{said}");
    }
}

/// `q` leaves the terminal as it was, so that the shell goes on as before.
#[test]
fn watching_leaves_the_terminal_as_it_was() {
    let workbook = Workbook::start();
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            "stty -a; echo begun; \"$0\" lesson watch 4 --mine \"$1\"; stty -a; echo ended",
        ])
        .arg(program().get_program())
        .arg(&workbook.folder);
    let mut session = rexpect::session::spawn_command(shell, Some(600_000)).unwrap();
    let before = session.exp_string("begun").unwrap();
    session.exp_string("[q] quit").unwrap();
    session.send("q").unwrap();
    session.flush().unwrap();
    let after = session.exp_string("ended").unwrap();
    let modes = |text: &str| -> Vec<String> {
        let words = text.split_whitespace().map(|word| word.trim_end_matches(';'));
        let known = ["icanon", "isig", "echo", "icrnl"];
        let set = words.filter(|word| known.contains(&word.trim_start_matches('-')));
        set.map(str::to_owned).collect()
    };
    assert_eq!(modes(&after), modes(&before), "{after}");
    assert_eq!(modes(&after).len(), 4, "{after}");
}

#[test]
fn what_does_not_compile_is_said_by_rust() {
    let workbook = Workbook::start();
    fs::write(workbook.file(4), "fn broken(\n").unwrap();
    let output = workbook.lesson("check", 4);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("src/day04.rs") && said.contains("cannot be built yet"),
        "{said}"
    );
}

/// A function that ends the whole program, and one that only waits for another.
#[test]
fn what_is_not_wrong_is_not_called_wrong() {
    let workbook = Workbook::start();
    workbook.solve();
    let day06 = fs::read_to_string(workbook.file(6)).unwrap();
    let (before, gelu) = day06.split_once("pub fn gelu(").unwrap();
    let (_, after) = gelu.split_once("\n}\n").unwrap();
    let unwritten = format!("{before}pub fn gelu(x: &Array) -> Result<Array> {{\n    todo!()\n}}\n{after}");
    fs::write(workbook.file(6), unwritten).unwrap();
    let said = text(&workbook.lesson("check", 6));
    assert!(said.contains("to do  gelu\n"), "{said}");
    let waits = "waits  mlp\n       `gelu` is not written yet (src/day06.rs:";
    assert!(said.contains(waits), "{said}");
    let training = own(&workbook, &["train", "--out", "own"]).output().unwrap();
    assert_eq!(training.status.code(), Some(1));
    let said = text(&training);
    assert!(
        said.contains("error: `gelu` is not written yet (src/day06.rs:"),
        "{said}"
    );
    assert!(said.contains("cargo run -- check 6\n"), "{said}");

    let day01 = fs::read_to_string(workbook.file(1)).unwrap();
    let (before, merge) = day01.split_once("pub fn merge(").unwrap();
    let (signature, _) = merge.split_once(" {\n").unwrap();
    let (_, after) = merge.split_once("\n}\n").unwrap();
    let endless = format!("{before}pub fn merge({signature} {{\n    std::process::abort()\n}}\n{after}");
    fs::write(workbook.file(1), endless).unwrap();
    let output = workbook.lesson("check", 1);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(said.contains("a function of day 1 ended the check"), "{said}");
}
