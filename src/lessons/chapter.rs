//! Parsing of chapters into sections, which a terminal shows one by one.

use include_dir::{Dir, include_dir};

/// The program's sources, of which chapters include parts.
static SOURCES: Dir = include_dir!("$CARGO_MANIFEST_DIR/src");

/// All of the program's sources, concatenated in the order of their paths.
pub fn sources() -> String {
    let mut files = Vec::new();
    let mut folders = vec![&SOURCES];
    while let Some(folder) = folders.pop() {
        files.extend(folder.files());
        folders.extend(folder.dirs());
    }
    files.sort_by_key(|file| file.path());
    files.into_iter().filter_map(|file| file.contents_utf8()).collect()
}

/// A part of a chapter.
#[derive(Debug, PartialEq)]
pub enum Piece<'a> {
    /// Markdown, with the code that it includes.
    Text(String),
    /// A paragraph or a block of code with something computed in it.
    Shown {
        before: String,
        name: &'a str,
        after: String,
    },
    /// A picture that is computed.
    Picture { caption: &'a str, name: &'a str },
}

/// The pieces of a chapter, in order, without the answers to its exercises.
pub fn pieces(chapter: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for paragraph in paragraphs(chapter) {
        if paragraph.starts_with("<details>") {
            continue;
        }
        if let Some((caption, name)) = picture(paragraph) {
            pieces.push(Piece::Picture { caption, name });
            continue;
        }
        let include = paragraph.lines().find_map(|line| shown(included(line)?));
        pieces.push(match include {
            Some(name) => {
                let (before, after) = split_at_include(paragraph);
                Piece::Shown { before, name, after }
            }
            None => Piece::Text(with_sources(paragraph)),
        });
    }
    pieces
}

/// The exercises of a chapter with their answers, paragraph by paragraph in Markdown.
pub fn answers(chapter: &str) -> Vec<String> {
    let exercises = chapter.split_once("## Exercises").map_or("", |(_, rest)| rest);
    let mut shown = vec![String::from("# Exercises, with answers")];
    for paragraph in paragraphs(exercises) {
        let answer = paragraph
            .strip_prefix("<details><summary>Answer</summary>")
            .and_then(|rest| rest.trim_end().strip_suffix("</details>"));
        match answer {
            None => shown.push(with_sources(paragraph)),
            Some(answer) => shown.extend(
                paragraphs(&format!("**Answer.** {}", answer.trim()))
                    .into_iter()
                    .map(with_sources),
            ),
        }
    }
    shown
}

/// Paragraphs, with blocks of code and `<details>` in one piece each.
fn paragraphs(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let (mut at, mut fenced, mut hidden) = (0, false, false);
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        if line.starts_with("```") {
            fenced = !fenced;
        }
        hidden = (hidden || line.starts_with("<details>")) && !line.contains("</details>");
        if line.trim().is_empty() && !fenced && !hidden {
            found.push(&text[start..at]);
            start = end;
        }
        at = end;
    }
    found.push(&text[start..]);
    found.retain(|paragraph| !paragraph.trim().is_empty());
    found
}

/// The path in `{{#include path}}`.
fn included(line: &str) -> Option<&str> {
    line.trim().strip_prefix("{{#include ")?.strip_suffix("}}")
}

/// The name in `shown/day-03/name`.
fn shown(path: &str) -> Option<&str> {
    path.strip_prefix("shown/")?.split_once('/').map(|(_, name)| name)
}

/// Caption and name of `![caption](shown/day-03/name)`.
fn picture(paragraph: &str) -> Option<(&str, &str)> {
    let (caption, path) = paragraph
        .trim()
        .strip_prefix("![")?
        .strip_suffix(')')?
        .split_once("](")?;
    Some((caption, shown(path)?))
}

/// The paths below `src/` that a chapter includes.
pub fn included_sources(chapter: &str) -> impl Iterator<Item = &str> {
    chapter
        .lines()
        .filter_map(included)
        .filter(|path| path.starts_with("../../src/"))
}

fn split_at_include(paragraph: &str) -> (String, String) {
    let (mut before, mut after, mut met) = (String::new(), String::new(), false);
    for line in paragraph.split_inclusive('\n') {
        if included(line).is_some() {
            met = true;
        } else if met {
            after += line;
        } else {
            before += line;
        }
    }
    (before, after)
}

fn with_sources(paragraph: &str) -> String {
    let lines = paragraph.lines().map(|line| match included(line) {
        Some(path) => source(path).unwrap_or_else(|| format!("(there is no {path})")),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The part of a source file between `ANCHOR: name` and `ANCHOR_END: name`, given `../../src/file.rs:name`, as mdBook has
/// it.
pub fn source(path: &str) -> Option<String> {
    let (file, anchor) = path.strip_prefix("../../src/")?.split_once(':')?;
    let text = SOURCES.get_file(file)?.contents_utf8()?;
    let (_, rest) = text.split_once(&format!("ANCHOR: {anchor}\n"))?;
    let (part, _) = rest.split_once(&format!("// ANCHOR_END: {anchor}\n"))?;
    let lines: Vec<&str> = part.lines().filter(|line| !line.contains("// ANCHOR")).collect();
    let indented = lines.iter().filter(|line| !line.trim().is_empty());
    let indent = indented
        .map(|line| line.len() - line.trim_start().len())
        .min()
        .unwrap_or(0);
    let dedented = lines.iter().map(|line| line.get(indent..).unwrap_or(""));
    Some(dedented.collect::<Vec<_>>().join("\n").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAPTER: &str = "\
# Day 3

Text of
two lines.

```text
{{#include shown/day-03/one-hot.txt}}
```

![Vectors](shown/day-03/vectors.svg)

## Exercises

1. Why?

<details><summary>Answer</summary>

Because.

</details>
";

    #[test]
    fn a_chapter_falls_into_pieces() {
        let pieces = pieces(CHAPTER);
        assert_eq!(pieces.len(), 6, "{pieces:?}");
        assert_eq!(pieces[1], Piece::Text("Text of\ntwo lines.".into()));
        assert_eq!(
            pieces[2],
            Piece::Shown {
                before: "```text\n".into(),
                name: "one-hot.txt",
                after: "```\n".into()
            }
        );
        assert_eq!(
            pieces[3],
            Piece::Picture {
                caption: "Vectors",
                name: "vectors.svg"
            }
        );
        assert_eq!(pieces[5], Piece::Text("1. Why?".into()), "answers are left out");
        assert_eq!(answers(CHAPTER)[1..], ["1. Why?", "**Answer.** Because."]);
    }

    #[test]
    fn sources_are_cut_at_their_anchors() {
        let part = source("../../src/model/averaging.rs:weights").unwrap();
        assert!(part.starts_with("/// Causal averaging weights") && part.ends_with('}') && !part.contains("ANCHOR"));
        assert_eq!(source("../../src/model/averaging.rs:nothing"), None);
    }
}
