//! Parsers of what models learn from and are judged by.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use mlx_gpt::data::batches::{Batch, spread};
use mlx_gpt::data::corpus::{Corpus, Split};
use mlx_gpt::data::dataset::Dataset;
use mlx_gpt::data::prepare::prepare;
use mlx_gpt::evaluate::hellaswag;
use mlx_gpt::tokenizer::{Bpe, CharTokenizer, Pattern, Tokenizer};

use super::common::folder;
use super::harness::{BASE, Target, alone};
use super::mutation::Form;

const TEXT: &str = "\u{feff}the cat sat\r\non the mat\n\nnaïve 字 😀 end\n";

fn target<'a>(name: &'a str, file: &'a str, seeds: &[&[u8]], read: &'a dyn Fn(&Path) -> Result<()>) -> Target<'a> {
    Target {
        name,
        file,
        form: Form::Plain,
        seeds: seeds.iter().map(|seed| seed.to_vec()).collect(),
        hashed: false,
        base: BASE,
        one_of: 1,
        read,
    }
}

#[test]
fn texts() {
    let _alone = alone();
    let read = |folder: &Path| {
        let corpus = Corpus::read(&folder.join("text.txt"))?;
        let (train, val) = (corpus.text(Split::Train), corpus.text(Split::Val));
        assert_eq!(train.len() + val.len(), corpus.text(Split::All).len());
        Ok(())
    };
    target(
        "text",
        "text.txt",
        &[TEXT.as_bytes(), b"a", "é\r\n".repeat(50).as_bytes()],
        &read,
    )
    .run(&folder());
}

#[test]
fn examples_with_endings() {
    let _alone = alone();
    let tokenizer: Tokenizer = CharTokenizer::from_text(" abcdefghij").into();
    let read = |folder: &Path| {
        for example in hellaswag::read(&folder.join("endings.jsonl"), &tokenizer, 16)? {
            assert!(example.label < example.endings.len());
            assert!((0..example.endings.len()).all(|ending| example.inputs(ending) <= 16));
        }
        Ok(())
    };
    let lines = "{\"ctx\": \"abcdefg\", \"endings\": [\"h\", \"hij\"], \"label\": 1}\n\n{\"ctx\": \"a b\", \"endings\": [\"c\", \"d\"], \"label\": \"0\", \"x\": [1]}\n";
    let one = lines.lines().next().unwrap();
    target(
        "endings.jsonl",
        "endings.jsonl",
        &[lines.as_bytes(), one.as_bytes()],
        &read,
    )
    .run(&folder());
}

/// What training and evaluation do with the tokens of a dataset.
fn read_tokens(folder: &Path) -> Result<()> {
    let dataset = Dataset::open(folder.to_str().unwrap())?;
    ensure!(
        !matches!(dataset, Dataset::Text(_)),
        "{} holds no tokens",
        folder.display()
    );
    let tokenizer = match dataset.own_tokenizer() {
        Some(name) if name != "gpt2" => dataset.tokenizer(&name)?,
        _ => CharTokenizer::from_text("abcdefgh").into(),
    };
    dataset.record()?;
    for split in [Split::Train, Split::Val, Split::All] {
        let tokens = dataset.part(&tokenizer, split)?.tokens;
        let mut all = Vec::new();
        tokens.read(0, tokens.len(), &mut all);
        assert_eq!(all.len(), tokens.len());
        if tokens.len() > 4 {
            for batch in spread(&tokens, 2, 2, 4) {
                let fits = |batch: &Batch| batch.inputs.iter().chain(&batch.targets).all(|&id| id < 300);
                assert_eq!(
                    batch.check(300).is_ok(),
                    fits(&batch),
                    "ids beyond the vocabulary are found"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn token_files_of_nano_gpt() {
    let _alone = alone();
    let folder = folder();
    let tokens: Vec<u8> = (0u16..40).flat_map(u16::to_le_bytes).collect();
    for file in ["train.bin", "val.bin"] {
        fs::write(folder.path().join(file), &tokens).unwrap();
    }
    target("train.bin", "train.bin", &[&tokens, &[1, 0]], &read_tokens).run(&folder);
}

/// A text and the tokens that were prepared from it.
fn prepared() -> (tempfile::TempDir, Tokenizer) {
    let folder = folder();
    fs::create_dir(folder.path().join("text")).unwrap();
    fs::write(folder.path().join("text/a.txt"), TEXT.repeat(3)).unwrap();
    fs::write(folder.path().join("text/b.txt"), "the mat sat\n").unwrap();
    let bpe = Bpe::train(&TEXT.repeat(4), 256 + 8, Pattern::Gpt2, &["<|endoftext|>"], |_| ()).unwrap();
    (folder, bpe.into())
}

#[test]
fn prepared_tokens() {
    let _alone = alone();
    let (folder, tokenizer) = prepared();
    let place = folder.path().join("tokens");
    prepare(&folder.path().join("text"), &place, &tokenizer, 40, |_| Ok(())).unwrap();
    for entry in fs::read_dir(&place).unwrap() {
        let path = entry.unwrap().path();
        fs::rename(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    for (file, hashed) in [
        ("manifest.json", false),
        ("tokenizer.json", false),
        ("train-00000.bin", true),
        ("val-00000.bin", true),
    ] {
        let original = fs::read(folder.path().join(file)).unwrap();
        let name = format!("prepared-{file}");
        let target = Target {
            hashed,
            ..target(&name, file, &[&original], &read_tokens)
        };
        target.run(&folder);
        fs::write(folder.path().join(file), original).unwrap();
    }
}

/// A journal says where an interrupted preparation goes on.
#[test]
fn journals() {
    let _alone = alone();
    let (folder, tokenizer) = prepared();
    let (text, place) = (folder.path().join("text"), folder.path().join("tokens"));
    // The journal as it is while the last shard is written.
    let mut journal = Vec::new();
    let whole = prepare(&text, &place, &tokenizer, 40, |_| {
        journal = fs::read(place.join("journal.json")).unwrap_or(std::mem::take(&mut journal));
        Ok(())
    });
    let whole = whole.unwrap();
    let shards: Vec<_> = whole
        .shards()
        .map(|shard| fs::read(place.join(&shard.file)).unwrap())
        .collect();
    let read = |folder: &Path| {
        let _ = fs::remove_dir_all(&place);
        fs::create_dir(&place)?;
        for (shard, bytes) in whole.shards().zip(&shards).take(shards.len() - 1) {
            fs::write(place.join(&shard.file), bytes)?;
        }
        fs::copy(folder.join("journal.json"), place.join("journal.json"))?;
        prepare(&text, &place, &tokenizer, 40, |_| Ok(()))?;
        // What comes of it is complete, or not taken.
        let _ = read_tokens(&place);
        Ok(())
    };
    let target = Target {
        one_of: 100,
        ..target("journal.json", "journal.json", &[&journal], &read)
    };
    target.run(&folder);
}
