//! Day 1: the figures and claims of its chapter, in its order.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Instant;

use anyhow::{Context, Result};

use super::sentencepiece;
use crate::course::day01::{BYTES, Pair, count_pairs, decode, encode, merge, train, utf8};
use crate::data::corpus::Split;
use crate::disk::durable;
use crate::lessons::Lesson;
use crate::lessons::arrays::{token_labels, visible};
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::pictures::{Axes, Series, curves};
use crate::lessons::tokens::{cut, lengths, published};
use crate::lessons::workspace::Workspace;
use crate::measure::doctor;
use crate::terminal::console::say;
use crate::tokenizer::{Bpe, CharTokenizer, END_OF_TEXT, Pattern, SpecialTokenPolicy, Tokenizer, train_merges};

/// Day 1.
pub const LESSON: Lesson = Lesson {
    day: 1,
    title: "Text, and how it becomes numbers",
    teaches: "code points, bytes, characters and byte pairs as tokens, and the problems of each",
    chapter: include_str!("../../../book/src/day-01.md"),
    models: &[],
    needs: &[],
    program,
};

/// Wikipedia's example of byte-pair encoding.
const TEXTBOOK: &str = "aaabdaaabac";
/// Vocabulary size of the day's tokenizer: bytes, merges and a special token.
const VOCAB_SIZE: usize = 4096;
/// What the patterns of GPT-2 and GPT-4 split differently: contractions, numbers, code, line breaks.
const SPLIT: [&str; 5] = [
    "I'll say it'S what WE'LL do",
    "In 1999 it was 1234567.5 km",
    "    for i in range(10):\n        s += i",
    "The end.\n\n\nAct 2",
    "(hello) snake_case",
];
/// Text of another kind than plays: this file.
const CODE: &str = include_str!("day01.rs");

fn program(page: &mut Page, workspace: &Workspace) -> Result<()> {
    let (plays, validation) = (workspace.text(Split::Train), workspace.text(Split::Val));
    page.figure("setup.txt", || {
        let mut text = String::new();
        for check in doctor::machine() {
            writeln!(text, "{:<11} {}", check.what, check.found)?;
            if let Some(fix) = check.fix {
                writeln!(text, "            fix it with: {fix}")?;
            }
        }
        Ok(text)
    })?;
    page.figure("code-points.txt", || {
        let mut text = String::from("character  code point  bytes\n");
        for character in ["a", "é", "字", "😀", "e", "\u{301}"] {
            let bytes: Vec<String> = character.bytes().map(|byte| format!("{byte:3} {byte:08b}")).collect();
            let code_point = format!("U+{:04X}", character.chars().map(u32::from).sum::<u32>());
            // An accent needs something to stand on, and takes no column of its own.
            let shown = character.replace('\u{301}', "◌\u{301}");
            let width = 8 + shown.chars().count();
            writeln!(text, "{shown:<width$}  {code_point:<10}  {}", bytes.join(", "))?;
        }
        Ok(text)
    })?;
    page.claim(
        "every code point is the same in UTF-8 by hand as in Rust",
        "utf8 in src/course/day01.rs",
        || {
            let mut characters = '\0'..=char::MAX;
            let differs = characters.find(|&c| utf8(c.into()) != c.encode_utf8(&mut [0; 4]).as_bytes());
            Ok(CheckResult::passes_if(
                differs.is_none(),
                format!("first other: {differs:?}"),
            ))
        },
    )?;
    page.figure("encodings.txt", || {
        let mut text = String::from("         code points  UTF-8   UTF-16   zeros   UTF-32   zeros   text\n");
        for (name, sample) in [
            ("English", "To be, or not to be?"),
            ("German", "Schöne Grüße aus Köln"),
            ("Korean", "안녕하세요, 세계!"),
            ("emoji", "👍🏽 👩‍🚀 😀"),
        ] {
            let utf16: Vec<u8> = sample.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let utf32: Vec<u8> = sample.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
            let with_zeros = |bytes: &[u8]| (bytes.len(), bytes.iter().filter(|&&byte| byte == 0).count());
            let ((two, zeros), (four, more_zeros)) = (with_zeros(&utf16), with_zeros(&utf32));
            let (points, bytes) = (sample.chars().count(), sample.len());
            write!(text, "{name:<8} {points:>11} {bytes:>6} {two:>8} {zeros:>7}")?;
            writeln!(text, " {four:>8} {more_zeros:>7}   {sample}")?;
        }
        let (all, used) = (('\0'..=char::MAX).count(), plays.chars().collect::<BTreeSet<_>>().len());
        let millions = 768 * all / 1_000_000;
        Ok(format!(
            "{text}\n{all} numbers can be a character's; the plays use {used} of them.\n\
             A vector of 768 numbers for each: {millions} million parameters.\n"
        ))
    })?;
    page.figure("characters.txt", || {
        let tokenizer = workspace.tokenizer()?;
        let all: Vec<u32> = (0..tokenizer.vocab_size() as u32).collect();
        let asked: String = plays.chars().take(12).collect();
        let ids = tokenizer.encode(&asked)?;
        let (characters, decoded) = (token_labels(tokenizer, &all)?.concat(), tokenizer.decode(&ids)?);
        let mut text = format!("{} tokens: {characters}\n\n", all.len());
        write!(text, "encode {asked:?}\n       {ids:?}\ndecode {decoded:?}\n\n")?;
        if let Err(error) = CharTokenizer::from_text("hello").encode("help") {
            writeln!(text, "characters of \"hello\" asked for \"help\":\n{error}")?;
        }
        Ok(text)
    })?;

    let merges = train(TEXTBOOK, 3);
    page.figure("textbook.txt", || {
        let mut ids = encode(TEXTBOOK, &[]);
        let mut text = format!("{TEXTBOOK} is {ids:?}\n\n");
        for (new, &pair) in (BYTES..).zip(&merges) {
            let count = count_pairs(&ids)[&pair];
            ids = merge(&ids, pair, new);
            writeln!(text, "{pair:?} occurs {count} times and becomes {new}: {ids:?}")?;
        }
        Ok(text)
    })?;
    page.claim(
        "aaabdaaabac after three merges is 258 100 258 97 99, which decodes to the same text",
        "count_pairs, most_frequent, merge, train, encode and decode in src/course/day01.rs",
        || {
            let ids = encode(TEXTBOOK, &merges);
            let holds = ids == [258, 100, 258, 97, 99] && decode(&ids, &merges) == TEXTBOOK;
            Ok(CheckResult::passes_if(holds, format!("{ids:?}")))
        },
    )?;

    let beginning: String = plays.chars().take(50_000).collect();
    page.figure("pairs.txt", || {
        let mut counts: Vec<(Pair, usize)> = count_pairs(&encode(&beginning, &[])).into_iter().collect();
        counts.sort_by_key(|&(pair, count)| (Reverse(count), pair));
        let mut text = format!("{} different pairs; the most frequent ones:\n", counts.len());
        for ((left, right), count) in counts.into_iter().take(8) {
            let shown: String = [left, right].iter().map(|&byte| visible(byte as u8 as char)).collect();
            writeln!(text, "{shown}  {left:>3} {right:>3}  {count:>6} times")?;
        }
        Ok(text)
    })?;
    let learn = || train_merges(plays, Pattern::Gpt2, VOCAB_SIZE - BYTES as usize - 1, |_| ());
    let path = workspace.folder("day-01/tokenizer.json");
    page.figure("learned.txt", || {
        say(format_args!("training a tokenizer of {VOCAB_SIZE} tokens"));
        let start = Instant::now();
        let merges = learn();
        let seconds = start.elapsed().as_secs_f64();
        let tokenizer = Tokenizer::from(Bpe::from_merges(&merges, Pattern::Gpt2, &[END_OF_TEXT])?);
        let _made = durable::make_parents(&path)?;
        durable::write_file(&path, &serde_json::to_vec(&tokenizer.to_json())?)?;

        let mut new: Vec<u32> = (BYTES..).take(merges.len()).collect();
        let shown = |ids: Option<&[u32]>| anyhow::Ok(token_labels(&tokenizer, ids.unwrap_or_default())?.join("  "));
        let (first, last) = (shown(new.chunks(16).next())?, shown(new.rchunks(8).next())?);
        new.sort_by_key(|&id| Reverse(tokenizer.token_bytes(id).map_or(0, |bytes| bytes.len())));
        Ok(format!(
            "{} merges of {} bytes of text in {seconds:.2} s\n\nthe first    {first}\nthe last     {last}\n\
             the longest  {}\n\nvalidation text: {:.2} bytes per token\nleft in {}\n",
            merges.len(),
            plays.len(),
            shown(new.chunks(6).next())?,
            validation.len() as f64 / tokenizer.encode(validation)?.len() as f64,
            path.display()
        ))
    })?;
    page.claim(
        "the fast trainer learns the same merges as this day's from a text of one chunk",
        "train in src/course/day01.rs, train_merges in src/tokenizer/train.rs",
        || {
            let letters: String = beginning.chars().filter(char::is_ascii_alphabetic).collect();
            let (simple, fast) = (train(&letters, 40), train_merges(&letters, Pattern::Gpt2, 40, |_| ()));
            let measured = format!("{} merges of {} letters", fast.len(), letters.len());
            Ok(CheckResult::passes_if(simple == fast, measured))
        },
    )?;
    let tokenizers = || -> Result<[(&str, Tokenizer); 4]> {
        let own = Tokenizer::load(&path).with_context(|| format!("make it with: {}", workspace.command("1")))?;
        let [gpt2, cl100k] = published()?;
        let characters = workspace.tokenizer()?.clone();
        Ok([("characters", characters), ("the day's", own), gpt2, cl100k])
    };
    page.claim(
        "decoding an encoded text returns it unchanged, for every tokenizer",
        "encode and decode in src/course/day01.rs, encode and decode in src/tokenizer/any.rs",
        || {
            let (merges, mut changed) = (train(validation, 20), Vec::new());
            if decode(&encode(validation, &merges), &merges) != validation {
                changed.push("this day's functions");
            }
            for (name, tokenizer) in tokenizers()? {
                if tokenizer.decode(&tokenizer.encode(validation)?)? != validation {
                    changed.push(name);
                }
            }
            let measured = format!("{} bytes; changed by: {changed:?}", validation.len());
            Ok(CheckResult::passes_if(changed.is_empty(), measured))
        },
    )?;

    // Bytes per token by the size of the vocabulary: the first merges are those of a smaller tokenizer.
    let ratios = |text: &str| -> Result<Vec<(f64, f64)>> {
        let merges = learn();
        let mut points = Vec::new();
        for count in [0, 32, 64, 128, 256, 512, 1024, 2048, merges.len()] {
            let bpe = Bpe::from_merges(&merges[..count.min(merges.len())], Pattern::Gpt2, &[])?;
            let ratio = text.len() as f64 / bpe.encode(text)?.len() as f64;
            points.push((bpe.vocab_size() as f64, ratio));
        }
        Ok(points)
    };
    page.figure("ratio.svg", || {
        let axes = Axes {
            title: "Compression by size of the vocabulary",
            x: "tokens in the vocabulary",
            y: "bytes per token",
            ..Axes::default()
        };
        let mut series = Vec::new();
        for (name, text) in [("training", plays), ("validation", validation), ("Rust code", CODE)] {
            let (name, points) = (name.into(), ratios(text)?);
            series.push(Series { name, points });
        }
        curves(&axes, &series)
    })?;
    page.claim(
        "more merges never give fewer bytes per token of the training text",
        "train_merges in src/tokenizer/train.rs",
        || {
            let ratios: Vec<f64> = ratios(plays)?.into_iter().map(|(_, ratio)| ratio).collect();
            Ok(CheckResult::passes_if(ratios.is_sorted(), format!("{ratios:.2?}")))
        },
    )?;
    page.figure("ratio.txt", || {
        let mut text = String::from("tokenizer     vocabulary  bytes per token: plays   Rust code\n");
        for (name, tokenizer) in tokenizers()? {
            let per_token = |text: &str| match tokenizer.encode(text) {
                Ok(ids) => format!("{:.2}", text.len() as f64 / ids.len() as f64),
                Err(_) => "–".into(),
            };
            let (vocab_size, plays, code) = (tokenizer.vocab_size(), per_token(validation), per_token(CODE));
            writeln!(text, "{name:<12}  {vocab_size:>10}  {plays:>22}  {code:>10}")?;
        }
        Ok(text)
    })?;
    page.figure("patterns.txt", || {
        let (mut out, both) = (String::new(), published()?);
        for line in SPLIT {
            for ((name, tokenizer), pattern) in both.iter().zip(Pattern::ALL) {
                let chunks: Vec<&str> = pattern.split(line).collect();
                let (count, tokens) = (chunks.len(), tokenizer.encode(line)?.len());
                let shown = chunks.join("|").replace(' ', "·").replace('\n', "⏎");
                writeln!(out, "{name:<6} {count:>2} chunks {tokens:>2} tokens  {shown}")?;
            }
            out.push('\n');
        }
        for ((name, _), pattern) in both.iter().zip(Pattern::ALL) {
            writeln!(out, "{name:<6} {}", pattern.regex())?;
        }
        Ok(out)
    })?;
    page.claim(
        "cl100k's chunks have at most three digits, and contractions in capitals, other than GPT-2's; neither loses anything",
        "Pattern::split in src/tokenizer/split.rs",
        || {
            let text = [&SPLIT.join("\n"), CODE, validation].concat();
            let found = Pattern::ALL.map(|pattern| {
                let is_number = |chunk: &&str| chunk.trim_start().chars().all(char::is_numeric);
                let digits = pattern.split(&text).filter(is_number).map(|chunk| chunk.trim().chars().count()).max();
                let whole = pattern.split(&text).collect::<String>() == text;
                (whole, digits, pattern.split(&text).any(|chunk| chunk == "'LL"))
            });
            let [(first, many, no), (second, few, yes)] = found;
            let holds = first && second && many > few && few == Some(3) && yes && !no;
            Ok(CheckResult::passes_if(holds, format!("most digits: {:?} and {:?}", found[0].1, found[1].1)))
        },
    )?;

    let gpt2 = Tokenizer::gpt2()?;
    page.figure("special.txt", || {
        let text = format!("The end.{END_OF_TEXT}");
        let mut out = format!("{text:?}\nas text     {:?}\n", gpt2.encode(&text)?);
        writeln!(
            out,
            "allowed     {:?}",
            gpt2.encode_with(&text, &SpecialTokenPolicy::ALLOW)?
        )?;
        if let Err(error) = gpt2.encode_with(&text, &SpecialTokenPolicy::RAISE) {
            writeln!(out, "disallowed  error: {error}")?;
        }
        Ok(out)
    })?;
    let as_text = gpt2.encode(END_OF_TEXT)?;
    let as_token = gpt2.encode_with(END_OF_TEXT, &SpecialTokenPolicy::ALLOW)?;
    page.claim(
        "hello world is 31373 995 to GPT-2, and its special token is 50256, but not in a text",
        "gpt2 in src/tokenizer/published.rs, AddedTokens::split in src/tokenizer/added.rs",
        || {
            let holds = gpt2.encode("hello world")? == [31373, 995] && as_token == [50256] && !as_text.contains(&50256);
            Ok(CheckResult::passes_if(
                holds,
                format!("{as_token:?}, as text {as_text:?}"),
            ))
        },
    )?;

    sentencepiece::compare(page, workspace)?;

    page.figure("spelling.txt", || {
        cut("strawberry\n strawberry\nStrawberry\nSTRAWBERRY\ns-t-r-a-w-b-e-r-r-y")
    })?;
    page.figure("numbers.txt", || {
        cut("127 + 677 = 804\n1275 + 6773 = 8048\n1000000 1000001")
    })?;
    let [prompt, with_space, whole] = ["To be, or not to", "To be, or not to ", "To be, or not to be"];
    page.figure("space.txt", || cut(&[prompt, with_space, whole].join("\n")))?;
    page.claim(
        "a text's tokens begin with its prompt's tokens, but not with those of the prompt and a space",
        "Pattern::split in src/tokenizer/split.rs",
        || {
            let mut holds = true;
            for (_, tokenizer) in published()? {
                let ids = tokenizer.encode(whole)?;
                let begins = |prompt| anyhow::Ok(ids.starts_with(&tokenizer.encode(prompt)?));
                holds &= begins(prompt)? && !begins(with_space)?;
            }
            Ok(CheckResult::passes_if(holds, "gpt2 and cl100k".into()))
        },
    )?;
    page.figure("languages.txt", || {
        lengths(&[
            ("English", "Good morning, how are you today?"),
            ("German", "Guten Morgen, wie geht es dir heute?"),
            ("Greek", "Καλημέρα, πώς είσαι σήμερα;"),
            ("Hindi", "सुप्रभात, आज आप कैसे हैं?"),
            ("Japanese", "おはようございます、今日はお元気ですか？"),
            ("Korean", "좋은 아침이에요, 오늘은 어떠세요?"),
        ])
    })?;
    page.figure("formats.txt", || {
        let json = "{\n    \"plays\": [\n        {\"title\": \"Hamlet\", \"acts\": 5},\n        {\"title\": \"Macbeth\", \"acts\": 5}\n    ]\n}\n";
        let yaml = "plays:\n  - title: Hamlet\n    acts: 5\n  - title: Macbeth\n    acts: 5\n";
        let line = "        total += play.acts";
        let python = format!("def acts(plays):\n    total = 0\n    for play in plays:\n{line}\n    return total\n");
        let table = lengths(&[("JSON", json), ("YAML", yaml), ("Python", &python)])?;
        Ok(format!("{table}\n{line:?}\n{}", cut(line)?))
    })
}
