//! A fault in one of the calls by which a program changes files: `inject.c`, loaded before the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// What happens at call number N, from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The process is killed, with half of what it was to write.
    Kill,
    /// From then on nothing takes space any more.
    Full,
    /// It fails with EIO, once.
    Error,
    /// It and all after it do.
    Broken,
}

pub const FAULTS: [Fault; 4] = [Fault::Kill, Fault::Full, Fault::Error, Fault::Broken];

impl Fault {
    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Full => "full",
            Self::Error => "error",
            Self::Broken => "broken",
        }
    }
}

/// `inject.c`, compiled.
pub struct Injector {
    folder: TempDir,
}

impl Injector {
    /// None where it cannot be compiled or loaded, as on a Mac.
    pub fn compile() -> Option<Self> {
        let folder = crate::common::folder();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/inject.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(folder.path().join("inject.so"))
            .arg(source)
            .arg("-ldl")
            .output();
        let injector = Self { folder };
        if !compiled.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: tests/faults/inject.c cannot be compiled here; it is for Linux");
            return None;
        }
        Some(injector)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Has a command count its calls below `root`, and meet a fault at one.
    pub fn inject(&self, command: &mut Command, root: &Path, fault: Option<(Fault, usize)>) {
        let _ = fs::remove_file(self.log());
        command
            .env("LD_PRELOAD", self.folder.path().join("inject.so"))
            .env("FAULT_ROOT", root)
            .env("FAULT_LOG", self.log());
        if let Some((fault, number)) = fault {
            command.env("FAULT", format!("{} {number}", fault.word()));
        }
    }

    /// The calls of the last command, each with its path.
    pub fn calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}
