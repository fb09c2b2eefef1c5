//! Day 1: text, and how it becomes numbers.

use std::fmt::Write;
use std::time::Instant;

use anyhow::{Context, Result};

use super::Lesson;
use super::day01_quirks as quirks;
use crate::data::corpus::Split;
use crate::disk::durable;
use crate::lessons::arrays::{token_labels, visible};
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::pictures::{Axes, Series, curves};
use crate::lessons::workspace::Workspace;
use crate::measure::doctor;
use crate::terminal::console::say;
use crate::tokenizer::basic::{BYTES, Basic, Pair, count_pairs, merge, most_frequent};
use crate::tokenizer::{Bpe, CharTokenizer, END_OF_TEXT, Pattern, Tokenizer, train_merges};

/// Day 1.
pub const LESSON: Lesson = Lesson {
    day: 1,
    title: "Text, and how it becomes numbers",
    teaches: "code points, bytes, characters and byte pairs as tokens, and the problems of each",
    chapter: include_str!("../../book/src/day-01.md"),
    models: &[],
    needs: &[],
    program,
};

fn program(page: &mut Page, workspace: &Workspace) -> Result<()> {
    page.figure("setup.txt", || setup(workspace))?;
    page.figure("code-points.txt", || code_points(workspace))?;
    page.figure("characters.txt", || characters(workspace))?;
    page.figure("textbook.txt", || textbook(workspace))?;
    page.figure("pairs.txt", || pairs(workspace))?;
    page.figure("learned.txt", || learned(workspace))?;
    page.figure("ratio.svg", || ratio_curves(workspace))?;
    page.figure("ratio.txt", || ratio(workspace))?;
    page.figure("patterns.txt", || quirks::patterns(workspace))?;
    page.figure("special.txt", || quirks::special(workspace))?;
    page.figure("spelling.txt", || quirks::spelling(workspace))?;
    page.figure("numbers.txt", || quirks::numbers(workspace))?;
    page.figure("space.txt", || quirks::space(workspace))?;
    page.figure("languages.txt", || quirks::languages(workspace))?;
    page.figure("formats.txt", || quirks::formats(workspace))?;
    page.claim(
        "aaabdaaabac after three merges is 258 100 258 97 99",
        "count_pairs, merge and Basic::train in src/tokenizer/basic.rs",
        || {
            let ids = Basic::train(TEXTBOOK, BYTES as usize + 3, None).encode(TEXTBOOK);
            Ok(CheckResult::passes_if(
                ids == [258, 100, 258, 97, 99],
                format!("{ids:?}"),
            ))
        },
    )?;
    page.claim(
        "the fast trainer learns the same merges as the simple one",
        "train_merges in src/tokenizer/train.rs",
        || {
            let text = beginning(workspace);
            let simple = Basic::train(text, BYTES as usize + 40, Some(Pattern::Gpt2)).merges;
            let fast = train_merges(text, Pattern::Gpt2, 40, |_| ());
            Ok(CheckResult::passes_if(simple == fast, format!("{} merges", fast.len())))
        },
    )?;
    page.claim(
        "decoding an encoded text returns it unchanged, for every tokenizer",
        "encode and decode in src/tokenizer/",
        || {
            let text = workspace.text(Split::Val);
            let mut found = String::new();
            for (name, tokenizer) in tokenizers(workspace)? {
                let same = tokenizer.decode(&tokenizer.encode(text)?)? == text;
                if !same {
                    return Ok(CheckResult::Failed(format!("not {name}")));
                }
                found += &format!("{name}, ");
            }
            Ok(CheckResult::Passed(format!("{found}{} bytes each", text.len())))
        },
    )?;
    page.claim(
        "more merges never give more tokens for the training text",
        "train_merges in src/tokenizer/train.rs",
        || {
            let tokens: Vec<usize> = measured(workspace)?.iter().map(|point| point.train_tokens).collect();
            Ok(CheckResult::passes_if(
                tokens.is_sorted_by(|a, b| a >= b),
                format!("{tokens:?}"),
            ))
        },
    )?;
    page.claim(
        "GPT-2's tokenizer has 50257 tokens, and hello world is 31373 995",
        "src/tokenizer/published.rs, assets/gpt2/vocab.bpe",
        || {
            let gpt2 = Tokenizer::gpt2()?;
            let ids = gpt2.encode("hello world")?;
            Ok(CheckResult::passes_if(
                gpt2.vocab_size() == 50257 && ids == [31373, 995],
                format!("{} tokens, {ids:?}", gpt2.vocab_size()),
            ))
        },
    )?;
    page.claim(
        "a text's tokens begin with its prompt's tokens, but not with those of the prompt and a space",
        "Pattern::split in src/tokenizer/split.rs",
        quirks::spaces_belong_to_words,
    )?;
    page.claim(
        "encoded as text, the special token gets other ids than its own",
        "AddedTokens::split in src/tokenizer/added.rs",
        quirks::special_is_text,
    )?;
    Ok(())
}

/// Wikipedia's example of byte-pair encoding.
const TEXTBOOK: &str = "aaabdaaabac";

/// Vocabulary size of the day's tokenizer.
const VOCAB_SIZE: usize = 4096;

/// Its path below the folder of lessons.
const LEFT_BEHIND: &str = "day-01/tokenizer.json";

fn setup(_: &Workspace) -> Result<String> {
    let mut text = String::new();
    for check in doctor::machine() {
        writeln!(text, "{:<11} {}", check.what, check.found)?;
        if let Some(fix) = check.fix {
            writeln!(text, "            fix it with: {fix}")?;
        }
    }
    Ok(text)
}

fn code_points(_: &Workspace) -> Result<String> {
    let mut text = String::from("character  code point  bytes\n");
    for character in "aé字😀e\u{301}".chars() {
        let mut buffer = [0; 4];
        let bytes: Vec<String> = character
            .encode_utf8(&mut buffer)
            .bytes()
            .map(|byte| format!("{byte:3} {byte:08b}"))
            .collect();
        let shown = match character {
            '\u{301}' => String::from("◌\u{301}"),
            _ => character.into(),
        };
        let width = 9 + shown.chars().count() - 1;
        writeln!(
            text,
            "{shown:<width$}  U+{:<8}  {}",
            format!("{:04X}", character as u32),
            bytes.join(", ")
        )?;
    }
    Ok(text)
}

fn characters(workspace: &Workspace) -> Result<String> {
    let Tokenizer::Char(tokenizer) = workspace.tokenizer()? else {
        anyhow::bail!("the lessons' tokenizer is one of characters");
    };
    let all: Vec<u32> = (0..tokenizer.vocab_size() as u32).collect();
    let asked: String = workspace.text(Split::Train).chars().take(12).collect();
    let ids = tokenizer.encode(&asked)?;
    let mut text = format!(
        "{} tokens: {}\n\n",
        all.len(),
        token_labels(workspace.tokenizer()?, &all)?.concat()
    );
    writeln!(text, "encode {asked:?}\n       {ids:?}")?;
    writeln!(text, "decode {:?}\n", tokenizer.decode(&ids)?)?;
    let unknown = CharTokenizer::from_text("hello").encode("help").map(|_| ());
    if let Err(error) = unknown {
        writeln!(text, "characters of \"hello\" asked for \"help\":\n{error}")?;
    }
    Ok(text)
}

fn textbook(_: &Workspace) -> Result<String> {
    let mut text = String::new();
    let mut ids: Vec<u32> = TEXTBOOK.bytes().map(u32::from).collect();
    writeln!(text, "{TEXTBOOK} is {ids:?}\n")?;
    for new in BYTES..BYTES + 3 {
        let counts = count_pairs(std::slice::from_ref(&ids));
        let Some((pair, count)) = most_frequent(&counts) else {
            break;
        };
        ids = merge(&ids, pair, new);
        writeln!(text, "{pair:?} occurs {count} times and becomes {new}: {ids:?}")?;
    }
    Ok(text)
}

/// Bytes of text that the simple implementation counts in a moment.
fn beginning(workspace: &Workspace) -> &str {
    let text = workspace.text(Split::Train);
    let end = text.char_indices().nth(50_000).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

fn pairs(workspace: &Workspace) -> Result<String> {
    let chunks: Vec<Vec<u32>> = Pattern::Gpt2
        .split(beginning(workspace))
        .map(|chunk| chunk.bytes().map(u32::from).collect())
        .collect();
    let mut counts: Vec<(Pair, usize)> = count_pairs(&chunks).into_iter().collect();
    counts.sort_by_key(|&(pair, count)| (std::cmp::Reverse(count), pair));
    let mut text = format!("{} different pairs; the most frequent ones:\n", counts.len());
    for ((left, right), count) in counts.into_iter().take(8) {
        let shown: String = [left, right].iter().map(|&byte| visible(byte as u8 as char)).collect();
        writeln!(text, "{shown}  {left:>3} {right:>3}  {count:>6} times")?;
    }
    Ok(text)
}

/// The merges of the day's tokenizer.
fn merges(workspace: &Workspace) -> Vec<Pair> {
    // One of the tokens is special.
    train_merges(
        workspace.text(Split::Train),
        Pattern::Gpt2,
        VOCAB_SIZE - BYTES as usize - 1,
        |_| (),
    )
}

/// Trains and saves the day's tokenizer.
fn learned(workspace: &Workspace) -> Result<String> {
    say(format_args!("training a tokenizer of {VOCAB_SIZE} tokens"));
    let start = Instant::now();
    let merges = merges(workspace);
    let seconds = start.elapsed().as_secs_f64();
    let bpe = Bpe::from_merges(&merges, Pattern::Gpt2, &[END_OF_TEXT])?;
    let tokenizer = Tokenizer::from(bpe.clone());
    let place = workspace.folder(LEFT_BEHIND);
    let _made = durable::make_parents(&place)?;
    durable::write_file(&place, &serde_json::to_vec(&tokenizer.to_json())?)?;

    let shown = |id: u32| -> String {
        let bytes = bpe.token_bytes(id).unwrap_or_default();
        String::from_utf8_lossy(bytes).chars().map(visible).collect()
    };
    let list = |ids: &mut dyn Iterator<Item = u32>| ids.map(shown).collect::<Vec<_>>().join("  ");
    let last = BYTES + merges.len() as u32;
    let mut long: Vec<u32> = (BYTES..last).collect();
    long.sort_by_key(|&id| std::cmp::Reverse(bpe.token_bytes(id).map_or(0, <[u8]>::len)));
    let text = workspace.text(Split::Val);
    Ok(format!(
        "{} merges of {} bytes of text in {seconds:.2} s\n\nthe first    {}\nthe last     {}\nthe longest  {}\n\nvalidation text: {:.2} bytes per token\nleft in {}\n",
        merges.len(),
        workspace.text(Split::Train).len(),
        list(&mut (BYTES..last.min(BYTES + 16))),
        list(&mut (last.saturating_sub(8).max(BYTES)..last)),
        list(&mut long.into_iter().take(6)),
        text.len() as f64 / tokenizer.encode(text)?.len() as f64,
        place.display()
    ))
}

/// The tokenizers to compare, with names.
fn tokenizers(workspace: &Workspace) -> Result<Vec<(&'static str, Tokenizer)>> {
    let place = workspace.folder(LEFT_BEHIND);
    let own = Tokenizer::load(&place).with_context(|| format!("make it with: {}", workspace.command("1")))?;
    Ok(vec![
        ("characters", workspace.tokenizer()?.clone()),
        ("the day's", own),
        ("gpt2", Tokenizer::gpt2()?),
        ("cl100k", Tokenizer::cl100k()?),
    ])
}

/// Number of tokens of each text with a vocabulary of that size.
struct VocabularyPoint {
    vocab_size: usize,
    train_tokens: usize,
    val_tokens: usize,
    code_tokens: usize,
}

/// Text of another kind than plays: this file.
const CODE: &str = include_str!("day01_text.rs");

/// Tokenizers of smaller sizes consist of the first merges of the day's tokenizer.
fn measured(workspace: &Workspace) -> Result<Vec<VocabularyPoint>> {
    let merges = merges(workspace);
    let sizes = [0, 32, 64, 128, 256, 512, 1024, 2048, merges.len()];
    let sizes = sizes.into_iter().filter(|&count| count <= merges.len());
    sizes
        .map(|count| {
            let bpe = Bpe::from_merges(&merges[..count], Pattern::Gpt2, &[])?;
            let tokens = |text| anyhow::Ok(bpe.encode(text)?.len());
            Ok(VocabularyPoint {
                vocab_size: bpe.vocab_size(),
                train_tokens: tokens(workspace.text(Split::Train))?,
                val_tokens: tokens(workspace.text(Split::Val))?,
                code_tokens: tokens(CODE)?,
            })
        })
        .collect()
}

fn ratio(workspace: &Workspace) -> Result<String> {
    let (plays, code) = (workspace.text(Split::Val), CODE);
    let mut text = String::from("tokenizer     vocabulary  bytes per token: plays   Rust code\n");
    for (name, tokenizer) in tokenizers(workspace)? {
        let per_token = |text: &str| -> Result<String> {
            let tokens = tokenizer.encode(text);
            Ok(tokens.map_or("–".into(), |ids| {
                format!("{:.2}", text.len() as f64 / ids.len() as f64)
            }))
        };
        writeln!(
            text,
            "{name:<12}  {:>10}  {:>22}  {:>10}",
            tokenizer.vocab_size(),
            per_token(plays)?,
            per_token(code)?
        )?;
    }
    Ok(text)
}

fn ratio_curves(workspace: &Workspace) -> Result<String> {
    let points = measured(workspace)?;
    let curve = |name: &str, bytes: usize, tokens: fn(&VocabularyPoint) -> usize| Series {
        name: name.into(),
        points: points
            .iter()
            .map(|point| (point.vocab_size as f64, bytes as f64 / tokens(point) as f64))
            .collect(),
    };
    let axes = Axes {
        title: "Compression by size of the vocabulary",
        x: "tokens in the vocabulary",
        y: "bytes per token",
        ..Axes::default()
    };
    let all = [
        curve("training text", workspace.text(Split::Train).len(), |point| {
            point.train_tokens
        }),
        curve("validation text", workspace.text(Split::Val).len(), |point| {
            point.val_tokens
        }),
        curve("Rust code", CODE.len(), |point| point.code_tokens),
    ];
    curves(&axes, &all)
}
