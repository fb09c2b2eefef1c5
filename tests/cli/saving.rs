//! Checkpoints on disks that are full, under signals and when the power goes; which of them stay.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::disk::Disk;
use crate::common::learned::{Learned, learned};
use crate::common::{
    fail, folder, mlx_gpt, says, signal, spawn_tiny, stderr, succeed, train_smallest, train_tiny, wait_until,
};
use mlx_gpt::checkpoint;

const OPTIONS: [&str; 8] = [
    "--out",
    "run",
    "--steps",
    "60",
    "--save-every",
    "5",
    "--eval-every",
    "30",
];

fn steps(run: &Path) -> Vec<String> {
    let mut steps: Vec<String> = fs::read_dir(run)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("step-"))
        .collect();
    steps.sort();
    steps
}

#[test]
fn the_last_the_best_and_every_nth_checkpoint_stay() {
    let folder = folder();
    let options = [
        "--steps",
        "12",
        "--save-every",
        "2",
        "--keep-last",
        "2",
        "--keep-every",
        "6",
    ];
    succeed(&mut train_tiny(
        folder.path(),
        &[&options[..], &["--out", "falling"]].concat(),
    ));
    let run = folder.path().join("falling");
    assert_eq!(steps(&run), ["step-000006", "step-000010", "step-000012"]);
    // A rate this high makes the second checkpoint worse than the first, which therefore stays.
    let options = [
        "--steps",
        "8",
        "--save-every",
        "2",
        "--keep-last",
        "1",
        "--lr",
        "10",
        "--grad-clip",
        "0",
    ];
    succeed(&mut train_tiny(
        folder.path(),
        &[&options[..], &["--out", "rising"]].concat(),
    ));
    let run = folder.path().join("rising");
    let best = fs::read_link(run.join("best")).unwrap();
    assert_ne!(best.to_str(), Some("step-000008"), "the run was meant to get worse");
    assert_eq!(steps(&run), [best.to_str().unwrap(), "step-000008"]);
}

#[test]
fn a_full_disk_is_a_warning_until_the_last_save() {
    let disk = Disk::mount();
    if !disk.mounted {
        return;
    }
    let run = disk.path().join("run");
    succeed(&mut train_tiny(disk.path(), &OPTIONS));
    let undisturbed = learned(&run);
    fs::remove_dir_all(&run).unwrap();

    // Full for a while: checkpoints, metrics and the curve are not written, and nothing else is different.
    let elsewhere = folder();
    let said = elsewhere.path().join("said");
    let out = run.to_str().unwrap();
    let options = [&["--out", out], &OPTIONS[2..]].concat();
    let mut child = spawn_tiny(elsewhere.path(), &options);
    wait_until("its folder", &mut child, || run.join("metrics.jsonl").exists());
    disk.fill(0);
    wait_until("a save that fails", &mut child, || says(&said, "could not be saved"));
    disk.empty();
    assert!(child.wait().unwrap().success());
    let warned = fs::read_to_string(&said).unwrap();
    assert!(
        warned.contains("training continues") && !warned.contains("error: "),
        "{warned}"
    );
    let Learned {
        files, lines: metrics, ..
    } = learned(&run);
    assert!(
        files
            .iter()
            .zip(&undisturbed.files)
            .all(|(ours, theirs)| ours.0 == "state.json" || ours == theirs)
    );
    assert_eq!(metrics, undisturbed.lines);
    fs::remove_dir_all(&run).unwrap();

    // Full to the end.
    let mut child = spawn_tiny(elsewhere.path(), &options);
    wait_until("its folder", &mut child, || run.join("metrics.jsonl").exists());
    disk.fill(0);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let warned = fs::read_to_string(&said).unwrap();
    let error = warned.lines().last().unwrap();
    assert!(
        error.starts_with("error: step 60 could not be saved")
            && error.contains("make space, then resume with --resume"),
        "{warned}"
    );
    disk.empty();
    succeed(mlx_gpt(disk.path()).args(["train", "--resume", "run"]));
    assert!(learned(&run).lines == undisturbed.lines);
}

#[test]
fn a_signal_in_a_save_waits_for_it() {
    let folder = folder();
    let run = folder.path().join("run");
    let mut child = spawn_tiny(
        folder.path(),
        &[&OPTIONS[..2], &["--steps", "100000", "--save-every", "5"]].concat(),
    );
    let saving = format!(".making-{}-step-", child.id());
    wait_until("a save", &mut child, || {
        fs::read_dir(&run).is_ok_and(|entries| {
            entries
                .flatten()
                .any(|entry| entry.file_name().to_str().unwrap().starts_with(&saving))
        })
    });
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    checkpoint::verify(&run.join("latest").canonicalize().unwrap()).unwrap();
    assert!(
        fs::read_dir(&run)
            .unwrap()
            .all(|entry| !entry.unwrap().file_name().to_str().unwrap().starts_with(".making"))
    );
}

/// For a power cut no test can make, the order of system calls: whatever gets its name by a rename was flushed before, its
/// folder too, and the folder that the name is in is flushed after, before anything else gets a name there.
#[test]
fn files_are_flushed_before_they_get_their_name() {
    let folder = folder();
    let trace = folder.path().join("trace");
    let mut train = train_smallest(folder.path());
    train.args(["--steps", "2", "--save-every", "1", "--out", "run"]);
    let calls = "trace=openat,rename,renameat,renameat2,fsync,fdatasync";
    let traced = Command::new("strace")
        .args(["-f", "-y", "-e", calls, "-o"])
        .arg(&trace)
        .arg(train.get_program())
        .args(train.get_args())
        .current_dir(folder.path())
        .output();
    let Ok(output) = traced else {
        eprintln!("SKIPPED: strace is not installed here, so that the order of system calls is not seen");
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));

    // Paths of files and folders written since they were last flushed, and names given that are not on disk yet.
    let mut written: Vec<String> = Vec::new();
    let mut named: Vec<String> = Vec::new();
    let mut renames = 0;
    for line in fs::read_to_string(&trace).unwrap().lines() {
        if line.contains("fsync(") || line.contains("fdatasync(") {
            let flushed = line.split(['<', '>']).nth(1).unwrap().to_owned();
            written.retain(|path| *path != flushed);
            named.retain(|path| Path::new(path).parent() != Some(Path::new(&flushed)));
        } else if line.contains("openat(") && line.contains("O_CREAT") && line.contains("run/") {
            let path = folder.path().join(line.split('"').nth(1).unwrap());
            written.push(path.canonicalize().unwrap_or(path).to_str().unwrap().to_owned());
        } else if line.contains("rename") && line.contains("run/") {
            let mut quoted = line.split('"');
            let (from, to) = (quoted.nth(1).unwrap(), quoted.nth(1).unwrap());
            let from = folder.path().join(from).to_str().unwrap().to_owned();
            if to.contains("/.making-") {
                // Inside an unfinished folder a name says nothing yet.
                let to = folder.path().join(to).to_str().unwrap().to_owned();
                written
                    .iter_mut()
                    .filter(|path| **path == from)
                    .for_each(|path| path.clone_from(&to));
                continue;
            }
            assert!(
                !written.iter().any(|path| path.starts_with(&from)),
                "{line}: not flushed: {written:?}"
            );
            assert!(named.is_empty(), "{line}: an earlier name is not on disk: {named:?}");
            named.push(folder.path().join(to).to_str().unwrap().to_owned());
            renames += 1;
        }
    }
    assert!(named.is_empty(), "{named:?}");
    // Two checkpoints, two links to each, config.toml, metrics.jsonl and three curves.
    assert!(renames >= 9, "{renames}");
}

#[test]
fn a_disk_without_space_for_a_checkpoint_is_not_written_to() {
    let disk = Disk::mount();
    if !disk.mounted {
        return;
    }
    // 2 layers of width 512 and two moments are 76 MB, the disk has 32.
    let said = fail(&mut train_tiny(
        disk.path(),
        &["--embd", "512", "--steps", "1", "--out", "run"],
    ));
    assert!(said.contains("it needs") && said.contains("the disk has"), "{said}");
    assert!(
        fs::read_dir(disk.path().join("run"))
            .unwrap()
            .all(|entry| !entry.unwrap().path().is_dir())
    );
}
