//! The workbook: the learner's own package, in which they write what the days teach.
//!
//! Its files are those of `src/course/`, so that they are the same functions; where a doc comment has the heading `# Exercise`,
//! the body is left out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::chapter::source_file;
use crate::disk::durable;
use crate::disk::hash::sha256;

/// The heading of the doc comment of a function that the learner writes.
const EXERCISE: &str = "/// # Exercise";
/// Where a learner's package is made unless another folder is given.
pub const WORKBOOK_FOLDER: &str = "my-gpt";

/// The checkout that this program was built from: the workbook depends on it.
const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");
/// The program's own manifest, whose profiles the workbook shares.
const MANIFEST: &str = include_str!("../../Cargo.toml");

/// A learner's package.
#[derive(Clone, Debug)]
pub struct Workbook {
    folder: PathBuf,
}

/// A day's file: with the solutions, or with what the learner is to write left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Functions without their bodies.
    Exercises,
    /// Complete functions.
    Solutions,
}

impl Workbook {
    /// Opens a learner's package. Where [`WORKBOOK_FOLDER`] is asked for and the current folder is a package, it is that one.
    ///
    /// # Errors
    /// There is none in that folder.
    pub fn open(folder: &Path) -> Result<Self> {
        let is_package = |folder: &Path| folder.join("src/day01.rs").is_file();
        let here = Path::new(".");
        let folder = match folder == Path::new(WORKBOOK_FOLDER) && !is_package(folder) && is_package(here) {
            true => here,
            false => folder,
        };
        ensure!(
            is_package(folder),
            "there is no workbook in {}; make one with: {} lesson start {0}",
            folder.display(),
            crate::terminal::console::program()
        );
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Makes a learner's package in a new folder, with a file for each of the days.
    ///
    /// # Errors
    /// The folder exists; the checkout that this program was built from is gone; a file that cannot be written.
    pub fn start(folder: &Path, days: impl Iterator<Item = u8>) -> Result<Self> {
        ensure!(
            !folder.exists(),
            "{} exists already; choose another folder, or go on with it",
            folder.display()
        );
        ensure!(
            Path::new(CHECKOUT).join("workbook/Cargo.toml").is_file(),
            "the checkout that this program was built from, {CHECKOUT}, is gone: run this in a new clone of mlx-gpt"
        );
        let days: Vec<u8> = days.collect();
        let _made = durable::make_parents(folder)?;
        durable::write_folder(folder, |root| {
            let write = |name: &str, text: &str| {
                let path = root.join(name);
                fs::create_dir_all(durable::parent(&path)).with_context(|| path.display().to_string())?;
                durable::write_file(&path, text.as_bytes())
            };
            write("Cargo.toml", &manifest(&std::path::absolute(folder)?))?;
            write("Cargo.lock", &read(&Path::new(CHECKOUT).join("Cargo.lock"))?)?;
            write(".cargo/config.toml", &cargo_config(folder)?)?;
            write(".gitignore", "/.cargo/config.toml\n/runs\n")?;
            write("README.md", include_str!("../../assets/workbook/README.md"))?;
            write("build.rs", include_str!("../../assets/workbook/build.rs"))?;
            write("src/main.rs", include_str!("../../assets/workbook/main.rs"))?;
            days.iter()
                .try_for_each(|&day| write(&file_name(day), &day_file(day, Part::Exercises)?))
        })
        .map_err(durable::not_written(folder))?;
        Self::open(folder)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it is the workbook that was built last.
    pub fn is_built(&self) -> bool {
        let sources = fs::read_to_string(Path::new(CHECKOUT).join("target/debug/my-gpt.d")).unwrap_or_default();
        std::path::absolute(self.day(1)).is_ok_and(|day| sources.contains(&*day.to_string_lossy()))
    }

    /// What was right when it was last checked.
    pub fn progress(&self) -> Progress {
        Progress::read(&self.folder)
    }

    /// The learner's file of a day.
    pub fn day(&self, day: u8) -> PathBuf {
        self.folder.join(file_name(day))
    }

    /// The day, of these, whose file the learner saved last, if any was begun.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn last_saved(&self, days: impl Iterator<Item = u8>) -> Result<Option<u8>> {
        let mut last = None;
        for day in days {
            if self.is_begun(day)? {
                let saved = fs::metadata(self.day(day))?.modified()?;
                last = last.max(Some((saved, day)));
            }
        }
        Ok(last.map(|(_, day)| day))
    }

    /// Whether the learner has changed a day's file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_begun(&self, day: u8) -> Result<bool> {
        Ok(read(&self.day(day))? != day_file(day, Part::Exercises)?)
    }

    /// Replaces a day's file. What the learner wrote is kept beside it, as `dayNN.rs.1` and so on; returns that path.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn replace(&self, day: u8, part: Part) -> Result<Option<PathBuf>> {
        let path = self.day(day);
        let (before, after) = (read(&path)?, day_file(day, part)?);
        if before == after {
            return Ok(None);
        }
        let kept = (1..)
            .map(|number| path.with_extension(format!("rs.{number}")))
            .find(|kept| !kept.exists())
            .filter(|_| self.is_begun(day).unwrap_or(true));
        if let Some(kept) = &kept {
            durable::write_file(kept, before.as_bytes())?;
        }
        durable::write_file(&path, after.as_bytes())?;
        Ok(kept)
    }
}

/// What was right when it was last checked: `progress.json` in a workbook.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// By day, the exercises that are right.
    days: BTreeMap<u8, Vec<String>>,
}

impl Progress {
    const FILE: &str = "progress.json";

    /// That of a workbook; none where it was never checked, or the file is damaged: the next checks find it out again.
    pub fn read(folder: &Path) -> Self {
        let text = fs::read(folder.join(Self::FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// How many exercises of a day are right.
    pub fn right(&self, day: u8) -> usize {
        self.days.get(&day).map_or(0, Vec::len)
    }

    /// Replaces what is right of a day, and writes it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn record(&mut self, folder: &Path, day: u8, right: Vec<String>) -> Result<()> {
        self.days.insert(day, right);
        durable::write_file(&folder.join(Self::FILE), &serde_json::to_vec_pretty(self)?)
    }
}

fn file_name(day: u8) -> String {
    format!("src/day{day:02}.rs")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// A day's file in the workbook.
///
/// # Errors
/// There is no such day.
pub fn day_file(day: u8, part: Part) -> Result<String> {
    let name = format!("course/day{day:02}.rs");
    let text = source_file(&name).with_context(|| format!("there is no {name}"))?;
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("// ANCHOR"));
    let solutions: String = lines.map(|line| format!("{line}\n")).collect();
    let file = match part {
        Part::Solutions => solutions,
        Part::Exercises => without_bodies(&solutions)?,
    };
    Ok(format!("{}\n", file.trim_end()))
}

/// Rust code with `todo!()` for the body of each exercise.
///
/// # Errors
/// A function without a body or an end.
pub fn without_bodies(code: &str) -> Result<String> {
    let mut lines = code.lines();
    let mut left = String::new();
    let mut is_exercise = false;
    while let Some(line) = lines.next() {
        writeln!(left, "{line}")?;
        is_exercise |= line == EXERCISE;
        if is_exercise && line.starts_with("pub fn ") {
            is_exercise = false;
            leave_out_body(line, &mut lines, &mut left)?;
        }
    }
    Ok(left)
}

/// The functions of earlier days that a day's file imports.
///
/// # Errors
/// There is no such day.
pub fn imports(day: u8) -> Result<Vec<(u8, String)>> {
    let file = day_file(day, Part::Exercises)?;
    let mut imports = Vec::new();
    for import in file.split("super::day").skip(1) {
        let Some((earlier, names)) = import.split_once(';').and_then(|(import, _)| import.split_once("::")) else {
            continue;
        };
        let earlier: u8 = earlier.parse()?;
        let names = names.split(|c: char| !c.is_alphanumeric() && c != '_');
        imports.extend(
            names
                .filter(|name| !name.is_empty())
                .map(|name| (earlier, name.to_owned())),
        );
    }
    Ok(imports)
}

/// The rest of a function whose first line was written, with `todo!()` for its body. As rustfmt writes them, a body begins after
/// a line that ends in ` {`, and ends with the line `}`.
fn leave_out_body<'a>(first: &str, lines: &mut impl Iterator<Item = &'a str>, file: &mut String) -> Result<()> {
    let mut line = first;
    while !line.ends_with(" {") {
        line = lines.next().context("a function without a body")?;
        writeln!(file, "{line}")?;
    }
    let end = lines.find(|line| *line == "}").context("a function without an end")?;
    writeln!(file, "    todo!()\n{end}")?;
    Ok(())
}

/// The names of a day's exercises, in order.
///
/// # Errors
/// There is no such day.
pub fn exercises(day: u8) -> Result<Vec<String>> {
    let file = day_file(day, Part::Exercises)?;
    let mut names = Vec::new();
    let mut is_exercise = false;
    for line in file.lines() {
        is_exercise |= line == EXERCISE;
        if let Some(rest) = line.strip_prefix("pub fn ").filter(|_| is_exercise) {
            names.extend(rest.split(['(', '<']).next().map(str::to_owned));
            is_exercise = false;
        }
    }
    Ok(names)
}

/// The learner's manifest. This program's crate is compiled anew for it, since Cargo tells packages of another workspace apart
/// by their paths, and without optimisation, which takes half a minute; its dependencies are those of `make train`.
fn manifest(folder: &Path) -> String {
    let from = |line: &str| MANIFEST.find(line).map_or("", |at| &MANIFEST[at..]);
    let mlx_rs = |target: &str| {
        let table = from(&format!("[target.'{target}'.dependencies]"));
        let lines = table.lines().take_while(|line| !line.starts_with("mlx-sys"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let profile = from("[profile.dev]").replacen("opt-level = 1", "opt-level = 0", 1);
    // Cargo tells packages apart by name and version, and all workbooks of a checkout are built in one folder.
    let place = sha256(folder.as_os_str().as_encoded_bytes());
    format!(
        "[package]\nname = \"my-gpt\"\nversion = \"0.1.0-at.{}\"\nedition = \"2024\"\npublish = false\n\n\
         [dependencies]\nmlx-gpt-workbook = {{ path = {:?} }}\n\n{}\n{}\n[workspace]\n\n{profile}",
        &place[..16],
        Path::new(CHECKOUT).join("workbook"),
        mlx_rs("cfg(target_os = \"macos\")"),
        mlx_rs("cfg(not(target_os = \"macos\"))"),
    )
}

/// Cargo's configuration: the target folder of the checkout, and where MLX is. Inside of the checkout Cargo reads that in the
/// checkout's own configuration, and would add up what both say.
fn cargo_config(folder: &Path) -> Result<String> {
    let target = Path::new(CHECKOUT).join("target");
    let config = Path::new(CHECKOUT).join(".cargo/config.toml");
    let is_inside = std::path::absolute(folder)?.starts_with(fs::canonicalize(CHECKOUT)?);
    let mlx = if config.exists() && !is_inside {
        read(&config)?
    } else {
        String::new()
    };
    Ok(format!(
        "# Specific to this machine. The workbook shares the build of mlx-gpt.\n[build]\ntarget-dir = {target:?}\n\n{mlx}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_left_out_and_everything_else_is_kept() {
        let exercises = day_file(4, Part::Exercises).unwrap();
        let solutions = day_file(4, Part::Solutions).unwrap();
        assert!(
            !exercises.contains("crate:") && !exercises.contains("ANCHOR"),
            "{exercises}"
        );
        assert!(
            exercises.contains("pub fn scores(queries: &Array, keys: &Array) -> Result<Array> {\n    todo!()\n}\n")
        );
        assert!(exercises.contains("use super::day03::{Weights, causal_mask};"));
        assert!(solutions.contains("let head_size = queries.dim(-1) as f32;") && !solutions.contains("todo!()"));
        assert_eq!(
            super::exercises(4).unwrap(),
            [
                "linear",
                "scores",
                "attention_weights",
                "queries_keys_values",
                "one_head"
            ]
        );
    }

    #[test]
    fn imports_are_those_of_earlier_days() {
        let imports = imports(5).unwrap();
        let has = |day, name: &str| imports.contains(&(day, name.to_owned()));
        assert!(
            has(3, "causal_mask") && has(4, "scores") && has(4, "queries_keys_values"),
            "{imports:?}"
        );
    }

    #[test]
    fn the_manifest_has_the_profiles_of_the_program() {
        let text = manifest(Path::new("/my-gpt"));
        let parsed: toml::Table = text.parse().unwrap();
        let profile = |manifest: &toml::Table| manifest["profile"]["dev"]["package"].clone();
        assert_eq!(profile(&parsed), profile(&MANIFEST.parse().unwrap()));
        assert!(text.contains("mlx-rs = \"=0.33.0\""), "{text}");
    }
}
