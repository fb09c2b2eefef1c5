//! Equality with tiktoken 0.14, whose answers `scripts/tokenizer_fixtures.py` stored.

use mlx_gpt::config::DEFAULT_CORPUS;
use mlx_gpt::data::corpus::{Corpus, Split};
use mlx_gpt::disk::hash::finish;
use mlx_gpt::tokenizer::{Pattern, SpecialTokenPolicy, SpecialTokenSet, Tokenizer, train_merges};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn fixture() -> Value {
    serde_json::from_str(include_str!("../fixtures/tokenizer.json")).unwrap()
}

fn tokenizers() -> [(&'static str, Tokenizer); 2] {
    [
        ("gpt2", Tokenizer::gpt2().unwrap()),
        ("cl100k", Tokenizer::cl100k().unwrap()),
    ]
}

fn ids(json: &Value) -> Vec<u32> {
    json.as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

fn digest(lists: impl Iterator<Item = Vec<u32>>) -> String {
    let mut hasher = Sha256::new();
    for id in lists.flatten() {
        hasher.update(id.to_le_bytes());
    }
    finish(hasher)
}

#[test]
fn the_first_merges_are_those_of_two_independent_trainers() {
    let corpus = Corpus::open(DEFAULT_CORPUS).unwrap();
    let stored: Vec<(u32, u32)> = serde_json::from_value(fixture()["merges"].clone()).unwrap();
    assert_eq!(
        train_merges(corpus.text(Split::All), Pattern::Gpt2, stored.len(), |_| ()),
        stored
    );
}

#[test]
fn texts_have_tiktokens_ids() {
    for (name, tokenizer) in tokenizers() {
        for case in fixture()[name]["texts"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), ids(&case["ids"]), "{name}: {text:?}");
        }
    }
}

#[test]
fn the_corpus_has_tiktokens_ids() {
    let corpus = Corpus::open(DEFAULT_CORPUS).unwrap();
    for (name, tokenizer) in tokenizers() {
        let ids = tokenizer.encode(corpus.text(Split::All)).unwrap();
        assert_eq!(digest([ids].into_iter()), fixture()[name]["hashes"]["corpus"], "{name}");
    }
}

#[test]
fn ten_thousand_random_strings_have_tiktokens_ids() {
    let mut random = Random(1337);
    let strings: Vec<String> = (0..10_000).map(|_| random.string()).collect();
    for (name, tokenizer) in tokenizers() {
        let ids = strings.iter().map(|text| {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(&tokenizer.decode(&ids).unwrap(), text);
            ids
        });
        assert_eq!(digest(ids), fixture()[name]["hashes"]["random strings"], "{name}");
    }
}

#[test]
fn special_tokens_are_treated_as_tiktoken_treats_them() {
    let specials = |json: &Value| match json {
        Value::Array(tokens) => {
            SpecialTokenSet::Only(tokens.iter().map(|token| token.as_str().unwrap().to_owned()).collect())
        }
        _ => SpecialTokenSet::All,
    };
    for (name, tokenizer) in tokenizers() {
        for case in fixture()[name]["specials"].as_array().unwrap() {
            let policy = SpecialTokenPolicy {
                allowed: specials(&case["allowed"]),
                disallowed: specials(&case["disallowed"]),
            };
            let text = case["text"].as_str().unwrap();
            match tokenizer.encode_with(text, &policy) {
                Ok(found) => assert_eq!(found, ids(&case["ids"]), "{name}: {policy:?}"),
                Err(error) => {
                    let token = case["raises"].as_str().unwrap();
                    assert!(error.to_string().contains(token), "{name}: {policy:?}: {error}");
                }
            }
        }
    }
}

/// The strings of `scripts/tokenizer_fixtures.py`, from the same seed.
struct Random(u64);

const SPACES: [&str; 12] = [
    " ", " ", " ", "\n", "\r", "\t", "\u{b}", "\u{85}", "\u{a0}", "\u{2003}", "\u{2028}", "\u{3000}",
];
const DIGITS: [&str; 10] = ["0", "1", "7", "9", "²", "½", "٣", "९", "Ⅷ", "𝟘"];
const APOSTROPHES: [&str; 6] = ["'", "'", "'", "’", "ʼ", "＇"];
const ENDINGS: [&str; 17] = [
    "s", "S", "ſ", "t", "T", "ll", "LL", "lL", "ve", "VE", "re", "Re", "m", "d", "D", "x", "",
];
const CLUSTERS: [&str; 12] = [
    "👩‍👩‍👧",
    "🇨🇭",
    "e\u{301}",
    "ﷺ",
    "क्षि",
    "한국",
    "\u{feff}",
    "\u{200b}",
    "ß",
    "ŉ",
    "İ",
    "K",
];

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }

    fn choice(&mut self, items: &[&'static str]) -> &'static str {
        items[self.below(items.len() as u64) as usize]
    }

    fn character(&mut self, start: u64, count: u64) -> char {
        char::from_u32((start + self.below(count)) as u32).unwrap_or('a')
    }

    fn string(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.below(24) {
            match self.below(10) {
                0 => text.push(self.character(0, 0x11_0000)),
                1 => text.push(self.character(0, 32)),
                2 => (0..1 + self.below(8)).for_each(|_| text.push_str(self.choice(&SPACES))),
                3 => (0..1 + self.below(5)).for_each(|_| text.push_str(self.choice(&DIGITS))),
                4 => {
                    text.push_str(self.choice(&APOSTROPHES));
                    text.push_str(self.choice(&ENDINGS));
                }
                5 | 6 => {
                    let base = [65, 97][self.below(2) as usize];
                    (0..1 + self.below(8)).for_each(|_| text.push(self.character(base, 26)));
                }
                7 => text.push(self.character(0, 0x3000)),
                8 => (0..1 + self.below(4)).for_each(|_| text.push(self.character(33, 15))),
                _ => text.push_str(self.choice(&CLUSTERS)),
            }
        }
        text
    }
}
