//! A parser under fire: each input is a real file after some changes, read by the program's own loader.

use std::cell::Cell;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use mlx_gpt::disk::hash::sha256;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tempfile::TempDir;

use super::memory;
use super::mutation::{Form, Mutation, mutated, mutations};

/// Inputs for each parser in a short run; `FUZZ_CASES` says how many in a long one.
const CASES: u32 = 200;

/// Memory that reading may take: so much whatever the file is, for buffers and tables, and so much for each of the bytes
/// that are read. A JSON value takes up to 72 bytes in memory for two in the file, and the library of tokenizers holds
/// each text several times.
pub const BASE: usize = 4 << 20;
const TIMES: usize = 256;
/// A file can hold regular expressions, which the regex crate refuses once a compiled one has 10 MiB.
pub const BASE_WITH_EXPRESSIONS: usize = 64 << 20;

/// For a test to hold from its beginning: one at a time, so that memory can be told apart.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A parser, and the file that it reads.
pub struct Target<'a> {
    /// Its folder in `tests/corpus`.
    pub name: &'a str,
    /// Which file of the folder is changed, and what it is made of.
    pub file: &'a str,
    pub form: Form,
    /// What the file may hold before it is changed.
    pub seeds: Vec<Vec<u8>>,
    /// Its hash is recorded: no change is accepted.
    pub hashed: bool,
    /// Memory that reading may take whatever the file is.
    pub base: usize,
    /// Of how many inputs one is tried: some readers write and wait for the disk.
    pub one_of: u32,
    pub read: &'a dyn Fn(&Path) -> Result<()>,
}

impl Target<'_> {
    /// Reads changed files until all cases are done. What was found earlier, in `tests/corpus`, comes first.
    pub fn run(&self, folder: &TempDir) {
        let folder = folder.path();
        for seed in &self.seeds {
            fs::write(folder.join(self.file), seed).unwrap();
            (self.read)(folder).unwrap_or_else(|error| panic!("{}: the file as it was: {error:#}", self.name));
        }
        for entry in fs::read_dir(self.corpus()).into_iter().flatten() {
            let path = entry.unwrap().path();
            let outcome = self.check(folder, &fs::read(&path).unwrap());
            outcome.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }

        let cases = variable("FUZZ_CASES")
            .map_or(CASES, |cases| cases as u32)
            .div_ceil(self.one_of);
        let seed = variable("FUZZ_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
        println!("{}: {cases} inputs, FUZZ_SEED={seed}", self.name);
        let config = Config {
            cases,
            failure_persistence: None,
            max_shrink_iters: 2000,
            ..Config::default()
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));

        let live = memory::live();
        let (refused, most) = (Cell::new(0), Cell::new(0));
        let outcome = runner.run(&(any::<Index>(), mutations()), |(seed, mutations)| {
            let peak = self
                .check(folder, &self.input(&seed, &mutations))
                .map_err(TestCaseError::fail)?;
            refused.set(refused.get() + u32::from(peak.refused));
            most.set(most.get().max(peak.bytes));
            Ok(())
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Abort(reason)) => panic!("{}: {reason}", self.name),
            Err(TestError::Fail(reason, (seed, mutations))) => {
                let input = self.input(&seed, &mutations);
                let kept = self.corpus().join(&sha256(&input)[..12]);
                fs::create_dir_all(self.corpus()).unwrap();
                fs::write(&kept, input).unwrap();
                panic!("{}: {reason}; kept as {}; {mutations:?}", self.name, kept.display());
            }
        }
        let left = memory::live().saturating_sub(live);
        println!(
            "{}: {} refused, {} taken; at most {} KB of memory, {} KB kept",
            self.name,
            refused.get(),
            cases - refused.get(),
            most.get() >> 10,
            left >> 10
        );
        // Caches may fill (the library keeps one for each tokenizer that a thread has used); what is lost at each input
        // shows after so many.
        assert!(
            left < self.base,
            "{}: {left} bytes are still held after {cases} inputs",
            self.name
        );
    }

    fn corpus(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/corpus")
            .join(self.name)
    }

    fn input(&self, seed: &Index, mutations: &[Mutation]) -> Vec<u8> {
        let seed = seed.get(&self.seeds).clone();
        mutations
            .iter()
            .fold(seed, |bytes, mutation| mutated(&bytes, mutation, self.form))
    }

    /// Reads one input: no panic, an error that says which file, no more memory than the file warrants.
    fn check(&self, folder: &Path, input: &[u8]) -> Result<Peak, String> {
        // A new file each time: some file systems wait for the disk where one is overwritten.
        let file = folder.join(self.file);
        fs::remove_file(&file)
            .and_then(|()| fs::write(&file, input))
            .map_err(|error| error.to_string())?;
        let (outcome, bytes) = memory::peak_of(|| panic::catch_unwind(AssertUnwindSafe(|| (self.read)(folder))));
        let outcome = outcome.map_err(|payload| {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            format!("panic: {}", text.unwrap_or_default())
        })?;
        let size = size_of(folder) as usize;
        if bytes > self.base + TIMES * size {
            return Err(format!("{bytes} bytes of memory for files of {size}"));
        }
        match &outcome {
            Err(error) => {
                let said = format!("{error:#}");
                if !said.contains(&*folder.to_string_lossy()) {
                    return Err(format!("the error does not say which file: {said}"));
                }
            }
            Ok(()) if self.hashed && self.seeds.iter().all(|seed| seed != input) => {
                return Err("a changed file was taken, though its hash is recorded".into());
            }
            Ok(()) => {}
        }
        Ok(Peak {
            bytes,
            refused: outcome.is_err(),
        })
    }
}

struct Peak {
    bytes: usize,
    refused: bool,
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is {value}; it must be a number")),
    )
}

fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata().unwrap() {
            metadata if metadata.is_dir() => size_of(&entry.path()),
            metadata => metadata.len(),
        })
        .sum()
}
