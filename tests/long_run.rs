//! A long run takes no more at its end than near its beginning.
//!
//! `LONG_STEPS` says how long it is (5,000 unless told otherwise); `make faults` takes 20,000.

mod common;

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use common::{Start, folder, number, train_smallest, wait_until};
use serde_json::Value;
use sysinfo::{Pid, ProcessesToUpdate, System};

const SAVE_EVERY: u64 = 500;

/// The program, which ends with the test however that ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bytes of resident memory and open files of a process.
fn taken(child: &Child) -> (u64, usize) {
    let pid = Pid::from_u32(child.id());
    let mut system = System::new();
    system.refresh_processes(ProcessesToUpdate::Some(&[pid]), true);
    let process = system.process(pid).unwrap();
    (process.memory(), process.open_files().unwrap())
}

/// The newest step in the metrics.
fn step(run: &Path) -> u64 {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let mut lines = text
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.find_map(|line| line["step"].as_u64()).unwrap_or(0)
}

/// What it takes from `from` steps on, between two saves: these open files for a moment.
fn taken_at(child: &mut Child, run: &Path, from: u64) -> (u64, usize) {
    let between = |step: u64| step >= from && (10..SAVE_EVERY - 10).contains(&(step % SAVE_EVERY));
    loop {
        wait_until("a step between saves", child, || {
            std::thread::sleep(Duration::from_millis(20));
            between(step(run))
        });
        let (before, taken, after) = (step(run), taken(child), step(run));
        if between(after) && before / SAVE_EVERY == after / SAVE_EVERY {
            return taken;
        }
    }
}

#[test]
fn memory_and_open_files_stay_what_they_were_at_step_500() {
    let steps: u64 = number("LONG_STEPS", 5000);
    let folder = folder();
    let run = folder.path().join("run");
    // It goes on after the steps that are looked at, so that it is still there.
    let more = (2 * steps).to_string();
    let child = train_smallest(folder.path())
        .args(["--eval-every", "500", "--save-every", "500"])
        .args(["--keep-last", "2", "--steps", &more, "--out", "run"])
        .start_quietly();
    let mut program = Program(child);
    let early = taken_at(&mut program.0, &run, 500);
    for on_the_way in (1000..steps).step_by(1000) {
        eprintln!("step {on_the_way}: {:?}", taken_at(&mut program.0, &run, on_the_way));
    }
    let late = taken_at(&mut program.0, &run, steps);
    eprintln!("step 500: {early:?}, step {steps}: {late:?} (bytes resident, files open)");
    assert!(
        late.0 as f64 <= 1.02 * early.0 as f64,
        "memory grew from {} to {} bytes",
        early.0,
        late.0
    );
    assert_eq!(late.1, early.1, "open files");
}
