//! Parses chapters into sections, which a terminal shows one by one.

use include_dir::{Dir, include_dir};

/// The program's sources; chapters include parts of them.
static SOURCES: Dir = include_dir!("$CARGO_MANIFEST_DIR/src");

/// A section of a chapter.
#[derive(Debug, PartialEq)]
pub enum Section<'a> {
    /// Markdown, with the code that it includes.
    Text(String),
    /// A paragraph or a code block with a computed figure.
    Figure {
        before: String,
        name: &'a str,
        after: String,
    },
    /// A computed picture.
    Picture { caption: &'a str, name: &'a str },
}

/// The sections of a chapter, in order, without the answers to its exercises.
pub fn sections(chapter: &str) -> Vec<Section<'_>> {
    let mut sections = Vec::new();
    for paragraph in paragraphs(chapter) {
        if paragraph.starts_with("<details>") {
            continue;
        }
        if let Some((caption, name)) = picture(paragraph) {
            sections.push(Section::Picture { caption, name });
            continue;
        }
        let include = paragraph.lines().find_map(|line| figure_name(included(line)?));
        sections.push(match include {
            Some(name) => {
                let (before, after) = split_at_include(paragraph);
                Section::Figure { before, name, after }
            }
            None => Section::Text(with_sources(paragraph)),
        });
    }
    sections
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

/// Splits a text into paragraphs; code blocks and `<details>` stay whole.
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

/// The name in `figures/day-03/name`.
fn figure_name(path: &str) -> Option<&str> {
    path.strip_prefix("figures/")?.split_once('/').map(|(_, name)| name)
}

/// Caption and name of `![caption](figures/day-03/name)`.
fn picture(paragraph: &str) -> Option<(&str, &str)> {
    let (caption, path) = paragraph
        .trim()
        .strip_prefix("![")?
        .strip_suffix(')')?
        .split_once("](")?;
    Some((caption, figure_name(path)?))
}

/// The names of a chapter's figures, in order.
pub fn figures(chapter: &str) -> impl Iterator<Item = &str> {
    sections(chapter).into_iter().filter_map(|section| match section {
        Section::Figure { name, .. } | Section::Picture { name, .. } => Some(name),
        Section::Text(_) => None,
    })
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

/// A file below `src/`.
pub fn source_file(path: &str) -> Option<&'static str> {
    SOURCES.get_file(path)?.contents_utf8()
}

/// The part of a source file between `ANCHOR: name` and `ANCHOR_END: name`, given `../../src/file.rs:name`, as mdBook has
/// it.
pub fn source(path: &str) -> Option<String> {
    let (file, anchor) = path.strip_prefix("../../src/")?.split_once(':')?;
    let text = source_file(file)?;
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
{{#include figures/day-03/one-hot.txt}}
```

![Vectors](figures/day-03/vectors.svg)

## Exercises

1. Why?

<details><summary>Answer</summary>

Because.

</details>
";

    #[test]
    fn a_chapter_falls_into_pieces() {
        let sections = sections(CHAPTER);
        assert_eq!(sections.len(), 6, "{sections:?}");
        assert_eq!(sections[1], Section::Text("Text of\ntwo lines.".into()));
        assert_eq!(
            sections[2],
            Section::Figure {
                before: "```text\n".into(),
                name: "one-hot.txt",
                after: "```\n".into()
            }
        );
        assert_eq!(
            sections[3],
            Section::Picture {
                caption: "Vectors",
                name: "vectors.svg"
            }
        );
        assert_eq!(sections[5], Section::Text("1. Why?".into()), "answers are left out");
        assert_eq!(answers(CHAPTER)[1..], ["1. Why?", "**Answer.** Because."]);
    }

    #[test]
    fn sources_are_cut_at_their_anchors() {
        let part = source("../../src/model/averaging.rs:weights").unwrap();
        assert!(part.starts_with("/// Causal averaging weights") && part.ends_with('}') && !part.contains("ANCHOR"));
        assert_eq!(source("../../src/model/averaging.rs:nothing"), None);
    }
}
