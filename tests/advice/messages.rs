//! The messages of the sources: their string literals, and which of them advise something.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// What advice begins with.
const VERBS: &str = " add allow begin call check choose close convert copy correct encode evaluate export fix free freeze give \
    import install leave load lower make mend merge move name omit open prepare put raise rename restore resume run save say see \
    set start stop take train try unset use wait write ";

/// Other words of it, and what stands for it in a message.
const ADVICE: [&str; 9] = [
    "with: ",
    "it must be",
    "must be at least",
    "lists the ",
    "did you mean",
    "; {remedy",
    "; {REMEDY",
    "; {helps",
    "; {hint",
];

/// How what is no advice begins: labels, and what is about a run or a merge.
const NOUNS: [&str; 8] = [
    "run {",
    "run folder {",
    "run      {",
    "merge {",
    "merge in ",
    "merge and ",
    "freeze {",
    "open  ",
];

/// A string in a source.
pub struct Message {
    file: PathBuf,
    line: usize,
    text: String,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.strip_prefix(root()).unwrap_or(&self.file);
        write!(f, "{}:{}: {}", file.display(), self.line, self.text)
    }
}

impl Message {
    pub fn has(&self, words: &str) -> bool {
        self.text.contains(words)
    }

    /// Whether it advises something: a part of it begins with an imperative, or it says what is needed in other words.
    fn advises(&self) -> bool {
        let is_help = self.text.starts_with("Example") || self.text.trim_matches('\n').contains('\n');
        // `merge and train in src/course/day01.rs`: where to look if a claim does not hold.
        let is_place = self.has(" in src/");
        let is_imperative = |part: &str| {
            let part = part.trim_start().trim_start_matches("or ").trim_start_matches("and ");
            let word = part.split([' ', ',']).next().unwrap_or_default();
            VERBS.contains(&format!(" {word} ")) && !NOUNS.iter().any(|noun| part.starts_with(noun))
        };
        self.text.contains(' ')
            && !is_help
            && !is_place
            && (self
                .text
                .replace("::", ".")
                .split([';', ':', ',', '('])
                .any(is_imperative)
                || ADVICE.iter().any(|words| self.has(words)))
    }

    /// Whether that text has all of it, with anything in its gaps.
    pub fn is_in(&self, text: &str) -> bool {
        let text = words(text);
        let mut rest = text.as_str();
        pieces(&self.text)
            .iter()
            .all(|piece| match rest.split_once(piece.as_str()) {
                Some((_, behind)) => {
                    rest = behind;
                    true
                }
                None => false,
            })
    }

    /// Whether it tells the user to remove something. What the program itself removed, or could not, is another tense.
    pub fn tells_to_remove(&self) -> bool {
        let text = format!(" {} ", self.text.to_lowercase());
        let told = ["remove ", "delete ", "rm -", "rm ", "erase ", "get rid of "];
        told.iter().any(|verb| {
            let mut found = text.match_indices(verb);
            found.any(|(at, _)| {
                [" ", "(", "`", "; ", ": "]
                    .iter()
                    .any(|before| text[..at].ends_with(before))
            })
        })
    }
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a format string says between its gaps.
fn pieces(format: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '{' | '}' if characters.peek() == Some(&character) => pieces.last_mut().unwrap().extend(characters.next()),
            '{' => {
                characters.by_ref().find(|&character| character == '}');
                pieces.push(String::new());
            }
            _ => pieces.last_mut().unwrap().push(character),
        }
    }
    pieces.iter().map(|piece| words(piece)).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The messages of `src/` that advise something.
pub fn advice() -> Vec<Message> {
    let advice: Vec<Message> = messages().into_iter().filter(Message::advises).collect();
    assert!(advice.len() > 150, "{} messages advise something", advice.len());
    advice
}

/// The strings of `src/`, without those of its tests.
pub fn messages() -> Vec<Message> {
    let mut messages = Vec::new();
    for file in files(&root().join("src"), &["rs"]) {
        let source = fs::read_to_string(&file).unwrap();
        let source = source.split("#[cfg(test)]\nmod ").next().unwrap();
        add_strings(&file, source, "//", &mut messages);
    }
    messages
}

/// The strings of the kernels and of the scripts, where a `die` or an `echo` may go without quotes.
pub fn messages_of_scripts() -> Vec<Message> {
    let mut messages = Vec::new();
    for file in files(root(), &["sh", "py", "cpp", "c", "h", "Makefile"]) {
        let source = fs::read_to_string(&file).unwrap();
        let own = file.strip_prefix(root()).unwrap();
        if !["kernels", "scripts", "Makefile"]
            .iter()
            .any(|module| own.starts_with(module))
        {
            continue;
        }
        let is_c = own.extension().is_some_and(|end| end != "sh" && end != "py");
        match is_c {
            true => add_strings(&file, &source, "//", &mut messages),
            false => messages.extend(source.lines().enumerate().filter_map(|(number, line)| {
                let line = line.trim_start_matches(['@', ' ', '\t']);
                let says = ["echo ", "die ", "say ", "printf ", "warn ", "print(", "sys.exit("];
                let text = says.iter().find_map(|says| Some(line.split_once(says)?.1))?;
                (!line.starts_with('#')).then(|| Message {
                    file: file.clone(),
                    line: number + 1,
                    text: text.to_owned(),
                })
            })),
        }
    }
    assert!(messages.len() > 100, "{} messages of scripts", messages.len());
    messages
}

/// The files with one of these endings, or names, below a folder that is not hidden and no build's.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_wanted = |end: &&str| name == *end || name.ends_with(&format!(".{end}"));
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            files.extend(self::files(&path, endings));
        } else if path.is_file() && endings.iter().any(is_wanted) {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Adds the string literals of a source in Rust or C, comments left out.
fn add_strings(file: &Path, source: &str, comment: &str, messages: &mut Vec<Message>) {
    let (mut rest, mut line) = (source, 1);
    while let Some(character) = rest.chars().next() {
        let length = if rest.starts_with(comment) {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("r\"") || rest.starts_with("r#\"") {
            let end = if rest.starts_with("r#") { "\"#" } else { "\"" };
            let from = rest.find('"').unwrap() + 1;
            from + rest[from..].find(end).unwrap() + end.len()
        } else if character == '"' {
            let end = end_of_string(&rest[1..]);
            messages.push(Message {
                file: file.to_owned(),
                line,
                text: unescaped(&rest[1..=end]),
            });
            end + 2
        } else if rest.starts_with("'\"'") || rest.starts_with("b'\"'") {
            rest.find("\"'").unwrap() + 2
        } else if rest.starts_with("'\\") {
            // A character that is escaped: its end is behind what is escaped.
            3 + rest[3..].find('\'').unwrap() + 1
        } else {
            character.len_utf8()
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
}

/// The length of what is before the quote that ends a string.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.unwrap_or(text.len())
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            (_, true) => match characters.next() {
                Some('n') => out.push('\n'),
                // A line that goes on, without what it is indented by.
                Some('\n') => characters = characters.as_str().trim_start().chars(),
                Some(other) => out.push(other),
                None => {}
            },
            (character, false) => out.push(character),
        }
    }
    out
}

/// Whether there is a test of that name.
pub fn test_exists(name: &str) -> bool {
    let test = format!("fn {name}()");
    let mut sources = files(&root().join("tests"), &["rs"]);
    sources.extend(files(&root().join("src"), &["rs"]));
    sources
        .iter()
        .any(|file| fs::read_to_string(file).unwrap().contains(&test))
}
