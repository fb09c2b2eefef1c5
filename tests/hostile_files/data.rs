//! Parsers of what models learn from and are measured by.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use mlx_gpt::config::SpecialTokens;
use mlx_gpt::data::batches::{IGNORE_INDEX, eval_batches};
use mlx_gpt::data::conversations::{ConversationRows, Conversations};
use mlx_gpt::data::corpus::{Corpus, Split};
use mlx_gpt::data::dataset::Dataset;
use mlx_gpt::data::preferences::PreferenceData;
use mlx_gpt::data::prepare::prepare;
use mlx_gpt::evaluate::hellaswag;
use mlx_gpt::tokenizer::chat::{CHAT_TOKENS, ChatTemplate, Message, Role};
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

#[test]
fn preference_pairs() {
    let _alone = alone();
    let tokenizer = CharTokenizer::from_text(" abcdefghij");
    let tokenizer: Tokenizer = tokenizer.with_special_tokens(&CHAT_TOKENS).unwrap().into();
    let template = ChatTemplate::own().unwrap();
    let read = |folder: &Path| {
        let data = PreferenceData::read(&folder.join("pairs.jsonl"))?;
        let pairs = data.pairs(&data.records, &tokenizer, Some(&template), 16)?;
        let all: Vec<usize> = (0..pairs.len()).collect();
        let batch = pairs.batch(&all, 16);
        batch.check(tokenizer.vocab_size())?;
        assert_eq!(batch.inputs.len(), 2 * 16 * data.records.len());
        for targets in batch.targets.chunks(16) {
            assert!(
                targets.iter().any(|&id| id != IGNORE_INDEX),
                "each answer has a token to learn"
            );
        }
        Ok(())
    };
    let lines = "{\"prompt\": \"abc\", \"chosen\": \"d\", \"rejected\": \"hij\"}\n\n{\"prompt\": \"a b\", \"chosen\": \"c\", \"rejected\": \"d\", \"x\": [1]}\n";
    let messages = r#"{"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "rejected": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]}"#;
    target(
        "pairs.jsonl",
        "pairs.jsonl",
        &[lines.as_bytes(), messages.as_bytes()],
        &read,
    )
    .run(&folder());
}

#[test]
fn conversations() {
    let _alone = alone();
    let tokenizer = CharTokenizer::from_text(" abcdefghij?.");
    let tokenizer: Tokenizer = tokenizer.with_special_tokens(&CHAT_TOKENS).unwrap().into();
    let template = ChatTemplate::own().unwrap();
    let read = |folder: &Path| {
        let conversations = Conversations::read(folder.join("chat.jsonl").to_str().unwrap())?;
        for split in [Split::Train, Split::Val, Split::All] {
            let rows = ConversationRows::new(&conversations, split, &template, &tokenizer, 24)?;
            let batches = rows.eval_batches(100, 4, 24);
            assert!(batches.iter().all(|batch| batch.check(tokenizer.vocab_size()).is_ok()));
            assert!(batches.iter().all(|batch| batch.target_count() > 0));
            assert!(
                rows.questions(3)
                    .iter()
                    .all(|(prompt, answer)| prompt.len() + answer.len() <= 25)
            );
        }
        Ok(())
    };
    let lines = "{\"messages\": [{\"role\": \"system\", \"content\": \"a\"}, {\"role\": \"user\", \"content\": \"b c?\"}, {\"role\": \"assistant\", \"content\": \"d.\"}]}\n\n{\"prompt\": \"a\", \"completion\": \"b\", \"x\": [1]}\n";
    let other = "{\"prompt\": [{\"role\": \"user\", \"content\": \"a\"}], \"completion\": [{\"role\": \"assistant\", \"content\": \"b\"}]}";
    target("chat.jsonl", "chat.jsonl", &[lines.as_bytes(), other.as_bytes()], &read).run(&folder());
}

#[test]
fn chat_templates() {
    let _alone = alone();
    let said = [Message::new(Role::User, "a"), Message::new(Role::Assistant, "b")];
    let read = |folder: &Path| {
        if let Some(template) = ChatTemplate::read(folder)? {
            let _ = template.render(&said, true); // it may refuse the messages, which is no fault of the file
        }
        Ok(())
    };
    let jinja = "{% for message in messages %}{% if loop.first %}{{ message.role.upper() }}{% endif %}{{ message['content'] | trim }}{{ eos_token }}{% endfor %}";
    target(
        "chat_template.jinja",
        "chat_template.jinja",
        &[jinja.as_bytes(), b"x"],
        &read,
    )
    .run(&folder());
    let config = format!("{{\"eos_token\": {{\"content\": \"e\"}}, \"chat_template\": \"{jinja}\"}}");
    let list = "{\"chat_template\": [{\"name\": \"default\", \"template\": \"{{ messages }}\"}]}";
    target(
        "tokenizer_config.json",
        "tokenizer_config.json",
        &[config.as_bytes(), list.as_bytes()],
        &read,
    )
    .run(&folder());
}

/// Tokens of the tokenizer that token files are read with here.
const VOCABULARY: u32 = 300;

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
        _ => CharTokenizer::from_characters((0x400..0x400 + VOCABULARY).filter_map(char::from_u32).collect()).into(),
    };
    dataset.record()?;
    for split in [Split::Train, Split::Val, Split::All] {
        let tokens = dataset.tokens(&tokenizer, split)?.tokens;
        let mut all = Vec::new();
        tokens.read(0, tokens.len(), &mut all);
        assert_eq!(all.len(), tokens.len());
        let vocabulary = tokenizer.vocab_size();
        assert!(
            all.iter().all(|&id| (id as usize) < vocabulary),
            "ids beyond the vocabulary are found before anything is made of them"
        );
        if tokens.len() > 4 {
            for batch in eval_batches(&tokens, 2, 2, 4) {
                let ids = || batch.inputs.iter().chain(&batch.targets);
                let largest = ids().max().copied().unwrap_or(0) as usize;
                assert!(batch.check(largest + 1).is_ok() && batch.check(largest).is_err());
            }
        }
    }
    Ok(())
}

fn narrow(ids: std::ops::Range<u16>) -> Vec<u8> {
    ids.flat_map(u16::to_le_bytes).collect()
}

fn wide(ids: std::ops::Range<u32>) -> Vec<u8> {
    ids.flat_map(u32::to_le_bytes).collect()
}

/// nanoGPT's numbers of either width, llm.c's two formats.
#[test]
fn token_files_of_other_programs() {
    let _alone = alone();
    let folder = folder();
    let header = |magic: u32, version: u32, count: u32| {
        let numbers = [magic, version, count].into_iter().chain(std::iter::repeat_n(0, 253));
        numbers.flat_map(u32::to_le_bytes).collect::<Vec<u8>>()
    };
    let seeds = [
        narrow(0..40),
        vec![1, 0],
        wide(0..40),
        [header(20240520, 1, 40), narrow(0..40)].concat(),
        [header(20240801, 7, 40), wide(0..40)].concat(),
    ];
    fs::write(folder.path().join("val.bin"), narrow(0..40)).unwrap();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    target("train.bin", "train.bin", &seeds, &read_tokens).run(&folder);
}

#[test]
fn token_files_of_numpy() {
    let _alone = alone();
    let folder = folder();
    let words = format!(
        "{:<117}\n",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (40,), }"
    );
    let array = |version: u8, length: &[u8]| {
        [
            &b"\x93NUMPY"[..],
            &[version, 0],
            length,
            words.as_bytes(),
            &narrow(0..40),
        ]
        .concat()
    };
    let seeds = [array(1, &118u16.to_le_bytes()), array(2, &118u32.to_le_bytes())];
    fs::write(folder.path().join("a_val_0.npy"), &seeds[0]).unwrap();
    target("npy", "a_train_1.npy", &[&seeds[0], &seeds[1]], &read_tokens).run(&folder);
}

/// The characters that nanoGPT pickles beside its token files.
#[test]
fn pickled_characters() {
    let _alone = alone();
    let folder = folder();
    for file in ["train.bin", "val.bin"] {
        fs::write(folder.path().join(file), narrow(0..3)).unwrap();
    }
    let fixture = |protocol: u32| {
        let path = format!("tests/fixtures/meta-protocol-{protocol}.pkl");
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    };
    let small = b"\x80\x04\x95\x3d\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\nvocab_size\x94K\x03\x8c\x04itos\x94]\x94(\x8c\x01a\x94\x8c\x01b\x94\x8c\x01c\x94e\x8c\x04stoi\x94}\x94(h\x04K\x00h\x05K\x01h\x06K\x02uu.";
    let seeds = [fixture(2), fixture(4)];
    target("meta.pkl", "meta.pkl", &[small, &seeds[0], &seeds[1]], &read_tokens).run(&folder);
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
    prepare(
        &folder.path().join("text"),
        &place,
        &tokenizer,
        SpecialTokens::Text,
        40,
        |_| Ok(()),
    )
    .unwrap();
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
    let whole = prepare(&text, &place, &tokenizer, SpecialTokens::Text, 40, |_| {
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
        prepare(&text, &place, &tokenizer, SpecialTokens::Text, 40, |_| Ok(()))?;
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
