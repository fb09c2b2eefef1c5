//! Every command that writes: what is killed, fails, is doubled and is repeated by these tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::tree::{self, Tree};
use crate::common::{folder, mlx_gpt, succeed, tiny_plan};

/// A command in a folder that holds what it reads.
pub struct Writer {
    /// In `docs/reliability.md`.
    pub name: &'static str,
    /// Words between spaces; `TRAIN` stands for the training of a tiny model.
    pub arguments: &'static str,
    /// The file or folder that it writes.
    pub out: &'static str,
    /// Where it was stopped it goes on, so that what it has written stays when it fails.
    pub goes_on: bool,
}

/// What `TRAIN` stands for in arguments.
const TRAIN: &str = "train --layers 1 --heads 2 --embd 64 --context 16 --batch-size 4 --eval-batches 2 --warmup 1 \
                     --device cpu --threads 2 --corpus text.txt";

pub const WRITERS: [Writer; 18] = [
    Writer {
        name: "train",
        arguments: "TRAIN --steps 4 --save-every 2 --out trained",
        out: "trained",
        goes_on: true,
    },
    Writer {
        name: "train --keep-last 1",
        arguments: "TRAIN --steps 4 --save-every 1 --keep-last 1 --out pruned",
        out: "pruned",
        goes_on: true,
    },
    Writer {
        name: "train --resume",
        arguments: "train --resume run --steps 4",
        out: "run",
        goes_on: true,
    },
    Writer {
        name: "train --lora-rank",
        arguments: "train --init-from run/step-000002 --lora-rank 2 --corpus text.txt --steps 3 --save-every 2 \
                    --batch-size 4 --eval-batches 2 --warmup 1 --device cpu --threads 2 --out tuned",
        out: "tuned",
        goes_on: true,
    },
    Writer {
        name: "export --format hf",
        arguments: "export --checkpoint words --format hf --out below/hf",
        out: "below/hf",
        goes_on: false,
    },
    Writer {
        name: "export --format gguf",
        arguments: "export --checkpoint words --format gguf --out below/words.gguf",
        out: "below/words.gguf",
        goes_on: false,
    },
    Writer {
        name: "export --format mlx",
        arguments: "export --checkpoint words --format mlx --out below/mlx",
        out: "below/mlx",
        goes_on: false,
    },
    Writer {
        name: "import",
        arguments: "import words --out models/words",
        out: "models/words",
        goes_on: false,
    },
    Writer {
        name: "data prepare",
        arguments: "data prepare --corpus ../long.txt --tokenizer tok.json --shard-size 1 --out tokens",
        out: "tokens",
        goes_on: true,
    },
    Writer {
        name: "tokenizer train",
        arguments: "tokenizer train --corpus text.txt --vocab-size 270 --out tokenizers/bpe",
        out: "tokenizers/bpe",
        goes_on: false,
    },
    Writer {
        name: "tokenizer train --kind unigram",
        arguments: "tokenizer train --kind unigram --corpus text.txt --vocab-size 400 --out unigram.json",
        out: "unigram.json",
        goes_on: false,
    },
    Writer {
        name: "tokenizer convert",
        arguments: "tokenizer convert --tokenizer tok.json --out tokenizers/converted.json",
        out: "tokenizers/converted.json",
        goes_on: false,
    },
    Writer {
        name: "tokenizer show --html",
        arguments: "tokenizer show --tokenizer tok.json --html pages/tokens.html winter",
        out: "pages/tokens.html",
        goes_on: false,
    },
    Writer {
        name: "board --display png",
        arguments: "board --checkpoint run --device cpu --display png:frame.png --frames 1 --seed 1 --max-new-tokens 9",
        out: "frame.png",
        goes_on: false,
    },
    Writer {
        name: "bench sweep",
        arguments: "bench sweep plan.toml --results sweep.jsonl",
        out: "sweep.jsonl",
        goes_on: true,
    },
    Writer {
        name: "bench speedrun",
        arguments: "bench speedrun race.toml --target 5 --evaluations 2 --out race",
        out: "race",
        goes_on: true,
    },
    Writer {
        name: "lesson",
        arguments: "lesson 2 --preset nano --device cpu --steps 2 --corpus text.txt --out lessons",
        out: "lessons",
        goes_on: true,
    },
    Writer {
        name: "lesson start",
        arguments: "lesson start workbook",
        out: "workbook",
        goes_on: false,
    },
];

/// A folder with what the commands read, made anew as often as need be, always in one place.
pub struct Workplace {
    home: TempDir,
    /// What it holds before any of the commands.
    pub before: Tree,
}

impl Workplace {
    pub fn new() -> Self {
        let home = folder();
        let plays = include_str!("../../assets/shakespeare.txt");
        // Two shards of text to train on.
        fs::write(
            home.path().join("long.txt"),
            [plays, &plays[..plays.len() / 4]].concat(),
        )
        .unwrap();
        let place = home.path().join("place");
        fs::create_dir(&place).unwrap();
        let text = "Now is the winter of our discontent\nMade glorious summer by this sun of York;\n".repeat(60);
        fs::write(place.join("text.txt"), text).unwrap();
        let plan = tiny_plan();
        fs::write(place.join("plan.toml"), format!("{plan}[grid]\nlr = [1e-3, 1e-2]\n")).unwrap();
        fs::write(place.join("race.toml"), format!("{plan}[[recipe]]\nname = \"plain\"\n")).unwrap();
        for arguments in [
            "tokenizer train --corpus text.txt --vocab-size 260 --out tok.json",
            "TRAIN --steps 2 --save-every 2 --out run",
            "TRAIN --steps 1 --tokenizer tok.json --out words",
        ] {
            succeed(&mut command(&place, arguments));
        }
        let before = tree::tree(&place);
        fs::rename(&place, home.path().join("template")).unwrap();
        Self { home, before }
    }

    /// The folder as it was at first.
    pub fn anew(&self) -> PathBuf {
        let place = self.place();
        let _ = fs::remove_dir_all(&place);
        tree::copy(&self.home.path().join("template"), &place);
        place
    }

    pub fn place(&self) -> PathBuf {
        self.home.path().join("place")
    }

    /// A command in it.
    pub fn command(&self, arguments: &str) -> Command {
        command(&self.place(), arguments)
    }

    /// What the command writes where nothing happens to it.
    pub fn undisturbed(&self, writer: &Writer) -> Tree {
        let place = self.anew();
        succeed(&mut self.command(writer.arguments));
        tree::tree(&place.join(writer.out))
    }
}

fn command(place: &Path, arguments: &str) -> Command {
    let mut command = mlx_gpt(place);
    command
        .args(arguments.replace("TRAIN", TRAIN).split_whitespace())
        .env("HF_HUB_OFFLINE", "1");
    command
}

/// What is of a file or folder `out`, and what is not, of a tree.
pub fn part<'a>(tree: &'a Tree, out: &str, of_it: bool) -> Vec<(&'a String, &'a Vec<u8>)> {
    let is = |name: &str| Path::new(name.trim_start_matches('/')).starts_with(out);
    tree.iter().filter(|(name, _)| is(name) == of_it).collect()
}
