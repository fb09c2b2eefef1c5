//! The folder that each row has a copy of.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::common::{TINY_TOML, folder, place, succeed, tiny_plan};

/// Files and links below a folder: names and contents.
pub type Tree = BTreeMap<String, Vec<u8>>;

/// Made once, for all rows.
const MADE_BY: [&str; 12] = [
    "tokenizer train --corpus text.txt --vocab-size 260 --out tok.json",
    "tokenizer train --corpus text.txt --vocab-size 260 --special <|endoftext|> --out ends.json",
    "tokenizer train --kind char --corpus text.txt --out chars.json",
    "train --config tiny.toml --steps 2 --save-every 1 --out run",
    "train --config tiny.toml --tokenizer tok.json --out words",
    "train --config tiny.toml --init-from run --lora-rank 2 --out tuned",
    "train --config chat.toml --chat chat.jsonl --out chat",
    "import run --out model",
    "export --checkpoint words --format hf --out hf",
    "export --checkpoint words --format mlx --out quantized",
    "lesson 2 --out course --corpus text.txt --steps 2 --device cpu",
    "data prepare --corpus text.txt --tokenizer tok.json --out tokens",
];

pub struct Template {
    home: TempDir,
    made: Tree,
}

impl Template {
    pub fn new() -> Self {
        let home = folder();
        fs::create_dir(home.path().join("bin")).unwrap();
        symlink(place::program(), home.path().join("bin/mlx-gpt")).unwrap();
        let folder = home.path().join("template");
        fs::create_dir(&folder).unwrap();
        let verse = |words: &str| format!("Now is the {words}\nMade glorious summer by this sun of York;\n").repeat(60);
        let plan = tiny_plan();
        for (name, contents) in [
            ("text.txt", verse("winter of our discontent")),
            ("other.txt", verse("summer of our discontent")),
            ("tiny.toml", format!("{TINY_TOML}eval_batches = 1\nsteps = 1\n")),
            (
                "chat.toml",
                TINY_TOML.replace("corpus = \"text.txt\"\n", "") + "eval_batches = 1\nsteps = 1\n",
            ),
            (
                "chat.jsonl",
                "{\"prompt\": \"Hi\", \"completion\": \"Hello.\"}\n{\"prompt\": \"Who?\", \"completion\": \"I.\"}\n"
                    .into(),
            ),
            ("plan.toml", format!("{plan}[grid]\nlr = [1e-3, 1e-2]\n")),
            ("race.toml", format!("{plan}[[recipe]]\nname = \"plain\"\n")),
            (
                "ends.jsonl",
                "{\"ctx\": \"Now is\", \"endings\": [\"the winter\", \"the sun\"], \"label\": 0}\n".into(),
            ),
        ] {
            fs::write(folder.join(name), contents).unwrap();
        }
        fs::write(folder.join("bytes.tiktoken"), bytes()).unwrap();
        fs::write(folder.join("pairs.jsonl"), pairs()).unwrap();
        for arguments in MADE_BY {
            let mut command = Command::new(place::program());
            command.args(arguments.split(' ')).current_dir(&folder);
            succeed(command.env("HF_HUB_OFFLINE", "1"));
        }
        fs::create_dir(folder.join("files")).unwrap();
        for part in ["train", "val"] {
            fs::copy(
                folder.join(format!("tokens/{part}-00000.bin")),
                folder.join(format!("files/{part}.bin")),
            )
            .unwrap();
        }
        let made = tree(&folder);
        Self { home, made }
    }

    /// A copy of the folder; it goes with what it is given as.
    pub fn copy(&self, name: &str) -> Place {
        let copy = Place(self.home.path().join(name));
        let copied = Command::new("cp")
            .arg("-RPp")
            .args([&self.home.path().join("template"), &copy.0])
            .status();
        assert!(copied.unwrap().success());
        copy
    }

    /// `PATH` with the program.
    pub fn path(&self) -> String {
        let path = std::env::var("PATH").unwrap();
        format!("{}:{path}", self.home.path().join("bin").display())
    }

    /// Runs of the copies know its paths, and nothing writes there.
    pub fn assert_unchanged(&self) {
        let now = tree(&self.home.path().join("template"));
        let changed: Vec<_> = self
            .made
            .iter()
            .filter(|(name, made)| now.get(*name) != Some(*made))
            .collect();
        assert!(
            changed.is_empty(),
            "{:?}",
            changed.iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
    }
}

/// Preference pairs with enough prompts for some to be held out.
fn pairs() -> String {
    let words = [
        "Now is",
        "the winter",
        "of our",
        "discontent",
        "Made",
        "glorious",
        "summer",
        "by this",
    ];
    let prompts = words.iter().flat_map(|a| words.iter().map(move |b| format!("{a} {b}")));
    prompts
        .map(|prompt| format!("{{\"prompt\": \"{prompt}\", \"chosen\": \" sun\", \"rejected\": \" York\"}}\n"))
        .collect()
}

/// A `.tiktoken` file of the 256 bytes: each in base64, and its rank.
fn bytes() -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: usize| DIGITS[bits & 63] as char;
    (0..256)
        .map(|byte| format!("{}{}== {byte}\n", digit(byte >> 2), digit(byte << 4)))
        .collect()
}

pub struct Place(PathBuf);

impl Place {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is below a folder; locks, which say who writes there, left out.
pub fn tree(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    add(folder, "", &mut tree);
    tree
}

fn add(folder: &Path, prefix: &str, tree: &mut Tree) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            add(&entry.path(), &format!("{name}/"), tree);
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path()).map(|target| target.to_string_lossy().into_owned().into_bytes());
            tree.extend(target.ok().map(|target| (name, target)));
        } else if kind.is_file() && !name.ends_with(".lock") {
            // What a training that goes on is writing may be gone by now.
            tree.extend(fs::read(entry.path()).ok().map(|contents| (name, contents)));
        }
    }
}
