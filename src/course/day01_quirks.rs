//! Day 1's second half: pitfalls of tokenization.

use std::fmt::Write;

use anyhow::Result;

use crate::lessons::claims::CheckResult;
use crate::lessons::workspace::Workspace;
use crate::tokenizer::pieces::pieces;
use crate::tokenizer::{END_OF_TEXT, Pattern, SpecialChoice, Tokenizer};

/// The two tokenizers of all figures.
fn both() -> Result<[(&'static str, Tokenizer); 2]> {
    Ok([("gpt2", Tokenizer::gpt2()?), ("cl100k", Tokenizer::cl100k()?)])
}

/// The tokens of a text, separated by bars, with spaces as dots.
fn barred(tokenizer: &Tokenizer, text: &str) -> Result<String> {
    let pieces = pieces(tokenizer, text, &SpecialChoice::TEXT)?;
    let shown: Vec<String> = pieces.iter().map(|piece| piece.shown.replace(' ', "·")).collect();
    Ok(shown.join("|"))
}

/// The tokens of each text in both tokenizers.
fn cut(texts: &[&str]) -> Result<String> {
    let mut out = String::new();
    let both = both()?;
    for text in texts {
        for (name, tokenizer) in &both {
            let count = tokenizer.encode(text)?.len();
            writeln!(out, "{name:<6} {count:>2}  {}", barred(tokenizer, text)?)?;
        }
        out.push('\n');
    }
    Ok(out)
}

/// Figure: chunks of GPT-2's and GPT-4's split patterns.
pub fn patterns(_: &Workspace) -> Result<String> {
    let text = "I'll say it'S 12345 times:\n\n    no!!";
    let mut out = format!("{text:?}\n\n");
    for (name, pattern) in [("gpt2", Pattern::Gpt2), ("cl100k", Pattern::Gpt4)] {
        let chunks: Vec<String> = pattern
            .split(text)
            .map(|chunk| chunk.replace(' ', "·").replace('\n', "⏎"))
            .collect();
        writeln!(out, "{name:<6}  {}\n        {}\n", chunks.join("|"), pattern.regex())?;
    }
    Ok(out)
}

/// Figure: a special token's text, encoded as text and as the token.
pub fn special(_: &Workspace) -> Result<String> {
    let gpt2 = Tokenizer::gpt2()?;
    let text = format!("The end.{END_OF_TEXT}");
    let mut out = format!("{text:?}\n");
    writeln!(out, "as text     {:?}", gpt2.encode(&text)?)?;
    writeln!(out, "allowed     {:?}", gpt2.encode_with(&text, &SpecialChoice::ALLOW)?)?;
    if let Err(error) = gpt2.encode_with(&text, &SpecialChoice::RAISE) {
        writeln!(out, "disallowed  error: {error}")?;
    }
    Ok(out)
}

/// Text cannot forge a special token.
pub fn special_is_text() -> Result<CheckResult> {
    let gpt2 = Tokenizer::gpt2()?;
    let id = gpt2.special_tokens()[END_OF_TEXT];
    let (text, special) = (
        gpt2.encode(END_OF_TEXT)?,
        gpt2.encode_with(END_OF_TEXT, &SpecialChoice::ALLOW)?,
    );
    Ok(CheckResult::passes_if(
        !text.contains(&id) && special == [id],
        format!("{text:?} against {special:?}"),
    ))
}

/// Figure: the tokens of a word in several forms.
pub fn spelling(_: &Workspace) -> Result<String> {
    cut(&[
        "strawberry",
        " strawberry",
        "Strawberry",
        "STRAWBERRY",
        "s-t-r-a-w-b-e-r-r-y",
    ])
}

/// Figure: the tokens of numbers.
pub fn numbers(_: &Workspace) -> Result<String> {
    cut(&["127 + 677 = 804", "1275 + 6773 = 8048", "1000000 1000001"])
}

const BEFORE: &str = "To be, or not to";

/// Figure: a prompt with and without a trailing space.
pub fn space(_: &Workspace) -> Result<String> {
    cut(&[BEFORE, &format!("{BEFORE} "), &format!("{BEFORE} be")])
}

/// A prompt that ends in a space has tokens that hardly occur in training.
pub fn spaces_belong_to_words() -> Result<CheckResult> {
    for (name, tokenizer) in both()? {
        let whole = tokenizer.encode(&format!("{BEFORE} be"))?;
        let goes_on = |prompt: &str| Ok::<_, anyhow::Error>(whole.starts_with(&tokenizer.encode(prompt)?));
        if !goes_on(BEFORE)? || goes_on(&format!("{BEFORE} "))? {
            return Ok(CheckResult::Failed(format!("not so for {name}")));
        }
    }
    Ok(CheckResult::Passed("gpt2 and cl100k".into()))
}

/// Figure: a greeting in several languages.
pub fn languages(_: &Workspace) -> Result<String> {
    let mut out = String::from("            characters  bytes   gpt2  cl100k\n");
    let both = both()?;
    for (language, text) in [
        ("English", "Good morning, how are you today?"),
        ("German", "Guten Morgen, wie geht es dir heute?"),
        ("Greek", "Καλημέρα, πώς είσαι σήμερα;"),
        ("Hindi", "सुप्रभात, आज आप कैसे हैं?"),
        ("Japanese", "おはようございます、今日はお元気ですか？"),
        ("Korean", "좋은 아침이에요, 오늘은 어떠세요?"),
    ] {
        write!(out, "{language:<10}  {:>10}  {:>5}", text.chars().count(), text.len())?;
        for (_, tokenizer) in &both {
            write!(out, "  {:>5}", tokenizer.encode(text)?.len())?;
        }
        out.push('\n');
    }
    Ok(out)
}

/// The same data in two formats, and a function.
const FORMATS: [(&str, &str); 3] = [
    (
        "JSON",
        "{\n    \"plays\": [\n        {\"title\": \"Hamlet\", \"acts\": 5},\n        {\"title\": \"Macbeth\", \"acts\": 5}\n    ]\n}\n",
    ),
    (
        "YAML",
        "plays:\n  - title: Hamlet\n    acts: 5\n  - title: Macbeth\n    acts: 5\n",
    ),
    (
        "Python",
        "def acts(plays):\n    total = 0\n    for play in plays:\n        total += play.acts\n    return total\n",
    ),
];

/// Figure: JSON, YAML and Python.
pub fn formats(_: &Workspace) -> Result<String> {
    let mut out = String::from("            characters   gpt2  cl100k\n");
    let both = both()?;
    for (name, text) in FORMATS {
        write!(out, "{name:<10}  {:>10}", text.chars().count())?;
        for (_, tokenizer) in &both {
            write!(out, "  {:>5}", tokenizer.encode(text)?.len())?;
        }
        out.push('\n');
    }
    let line = "        total += play.acts";
    writeln!(out, "\n{line:?}")?;
    for (name, tokenizer) in &both {
        writeln!(out, "{name:<6}  {}", barred(tokenizer, line)?)?;
    }
    Ok(out)
}
