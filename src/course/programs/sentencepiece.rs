//! Day 1's comparison of two kinds of tokenizer: byte pairs as tiktoken has them, and sentencepiece's pairs of characters.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::course::day01::{BYTES, utf8};
use crate::data::corpus::Split;
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::workspace::Workspace;
use crate::tokenizer::pieces::pieces;
use crate::tokenizer::{Bpe, HfTokenizer, Pattern, SpecialTokenPolicy, Tokenizer, train_merges, train_sentencepiece};

/// The vocabulary of each.
const VOCAB_SIZE: usize = 640;
/// Known words, known and unknown characters, and characters that normalisation replaces.
const LINES: [&str; 4] = ["the king and the queen", "안녕하세요", "하늘 Grüße", "ﬁve  x²"];

/// The section's figure and claims.
pub fn compare(page: &mut Page, workspace: &Workspace) -> Result<()> {
    let plays: String = workspace.text(Split::Train).chars().take(50_000).collect();
    let text = plays + &"안녕하세요 세계 und schöne Grüße an alle\n".repeat(200);
    let merges = train_merges(&text, Pattern::Gpt2, VOCAB_SIZE - BYTES as usize, |_| ());
    let byte_pairs = Tokenizer::from(Bpe::from_merges(&merges, Pattern::Gpt2, &[])?);
    let trained = train_sentencepiece(&text, VOCAB_SIZE, &[])?;
    let by_default = HfTokenizer::from_json(with_normalisation(trained.to_json().clone()))?;
    let names = names(&trained)?;
    let kinds = [
        ("byte pairs", byte_pairs),
        ("sentencepiece", trained.into()),
        ("… by default", by_default.into()),
    ];
    page.figure("sentencepiece.txt", || {
        let mut out = String::new();
        for line in LINES {
            writeln!(out, "{line:?}")?;
            for (kind, tokenizer) in &kinds {
                let tokens = pieces(tokenizer, line, &SpecialTokenPolicy::TEXT)?;
                let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
                let shown = tokens.iter().map(|token| match tokenizer {
                    Tokenizer::HuggingFace(_) => names[token.id as usize].clone(),
                    _ => token.shown.replace(' ', "·"),
                });
                let (shown, decoded) = (shown.collect::<Vec<_>>().join("|"), tokenizer.decode(&ids)?);
                let changed = if decoded == line {
                    String::new()
                } else {
                    format!("   decoded: {decoded:?}")
                };
                writeln!(out, "  {kind:<13}  {shown}{changed}\n  {:<13}  {ids:?}", "")?;
            }
            out.push('\n');
        }
        for (kind, tokenizer) in &kinds[..2] {
            writeln!(
                out,
                "{kind:<13}  {} learned tokens, {} of them cut a character",
                VOCAB_SIZE - BYTES as usize,
                cut(tokenizer)
            )?;
        }
        Ok(out)
    })?;
    page.claim(
        "byte pairs and sentencepiece return each line; with sentencepiece's normalisation one changes",
        "train_merges in src/tokenizer/train.rs, train_sentencepiece in src/tokenizer/hf_train.rs",
        || {
            let mut returned = Vec::new();
            for (_, tokenizer) in &kinds {
                let same = |line: &&&str| anyhow::Ok(tokenizer.decode(&tokenizer.encode(line)?)? == **line);
                returned.push(LINES.iter().map(|line| same(&line)).collect::<Result<Vec<_>>>()?);
            }
            let holds = returned == [[true; 4], [true; 4], [true, true, true, false]];
            Ok(CheckResult::passes_if(holds, format!("{returned:?}")))
        },
    )?;
    page.claim(
        "a character without a token is its bytes in UTF-8 to sentencepiece, and none of its other tokens cuts a character",
        "utf8 in src/course/day01.rs, train_sentencepiece in src/tokenizer/hf_train.rs",
        || {
            let (unknown, tokenizer) = ('늘', &kinds[1].1);
            let ids = tokenizer.encode(&unknown.to_string())?;
            let written: Vec<&String> = ids.iter().map(|&id| &names[id as usize]).collect();
            let bytes: Vec<String> = utf8(unknown.into()).iter().map(|byte| format!("<0x{byte:02X}>")).collect();
            let holds = written.iter().copied().eq(&bytes) && cut(tokenizer) == 0 && cut(&kinds[0].1) > 0;
            Ok(CheckResult::passes_if(holds, format!("{unknown}: {written:?}")))
        },
    )
}

/// The same tokenizer with what sentencepiece does to a text unless told otherwise: compatible characters become one (NFKC),
/// spaces at the ends go, several become one, and a space is put before the first word.
fn with_normalisation(mut tokenizer: Value) -> Value {
    let replace = |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
    let steps = [
        json!({ "type": "NFKC" }),
        replace(json!({ "Regex": r"\A +| +\z" }), ""),
        replace(json!({ "Regex": " {2,}" }), " "),
        json!({ "type": "Prepend", "prepend": " " }),
    ];
    tokenizer["normalizer"] = json!({ "type": "Sequence", "normalizers": steps });
    if let Some(decoders) = tokenizer["decoder"]["decoders"].as_array_mut() {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    tokenizer
}

/// The tokens' names in the file, by id.
fn names(tokenizer: &HfTokenizer) -> Result<Vec<String>> {
    let vocab = tokenizer.to_json()["model"]["vocab"]
        .as_object()
        .context("there is no vocabulary")?;
    let mut names = vec![String::new(); tokenizer.vocab_size()];
    for (name, id) in vocab {
        names[id.as_u64().context("an id is no number")? as usize] = name.clone();
    }
    Ok(names)
}

/// How many tokens of two bytes or more are no whole characters.
fn cut(tokenizer: &Tokenizer) -> usize {
    let bytes = (0..tokenizer.vocab_size() as u32).filter_map(|id| tokenizer.token_bytes(id));
    bytes
        .filter(|bytes| bytes.len() > 1 && str::from_utf8(bytes).is_err())
        .count()
}
