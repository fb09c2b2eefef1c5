//! What messages advise is tried.
//!
//! A file for each module (`config.txt`, `data.txt`, …) has rows of four parts: commands that end in a mistake, words of
//! what is said of it, the commands that follow the advice, and what these were to change:
//!
//! ```text
//! $ mlx-gpt train --config tiny.toml --heads 3
//! error: choose a number of heads that does, such as 2
//! $ mlx-gpt train --config tiny.toml --heads 2
//! ~ names of what the user is told to change
//! ```
//!
//! An `error:` is the last line and the only one of its kind, with exit code 1; `usage:` is one of the command line, with 2;
//! `note:` and `warning:` begin a line; what `says:` is anywhere. Where the command after a `?` fails, the row is skipped.
//! Each row has a folder of its own, see `template.rs`. `ADVICE=config` tries the rows of that module alone, and
//! `ADVICE=config:25` the one at that line.

#[path = "../common/mod.rs"]
mod common;
mod excused;
mod messages;
mod rows;
mod template;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use excused::EXCUSED;
use messages::{Message, advice, messages, messages_of_scripts};
use rows::Row;
use template::Template;

const ROOMS: [(&str, &str); 11] = [
    ("bench", include_str!("bench.txt")),
    ("checkpoint", include_str!("checkpoint.txt")),
    ("config", include_str!("config.txt")),
    ("data", include_str!("data.txt")),
    ("eval", include_str!("eval.txt")),
    ("export", include_str!("export.txt")),
    ("generate", include_str!("generate.txt")),
    ("lessons", include_str!("lessons.txt")),
    ("preferences", include_str!("preferences.txt")),
    ("runs", include_str!("runs.txt")),
    ("tokenizer", include_str!("tokenizer.txt")),
];

/// Rows that are tried at once: they wait for the disk as long as they compute.
const WORKERS: usize = 4;

/// Every row holds, and every message that advises something has a row, or a reason why it has none.
#[test]
fn the_advice_of_every_message_works() {
    let chosen = std::env::var("ADVICE").unwrap_or_default();
    let rows: Vec<Row> = ROOMS
        .iter()
        .flat_map(|(module, text)| rows::parse(module, text))
        .filter(|row| row.is_chosen_by(&chosen))
        .collect();
    let template = Template::new();
    let next = AtomicUsize::new(0);
    let (said, wrong) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match row.attempt(&template) {
                        Ok(text) => said.lock().unwrap().push(text),
                        Err(why) => wrong.lock().unwrap().push(format!("{}\n{why}", row.place())),
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} rows:\n\n{}", wrong.len(), wrong.join("\n\n"));
    template.assert_unchanged();
    if !chosen.is_empty() {
        return;
    }
    let said = said.into_inner().unwrap();
    let untried: Vec<String> = advice()
        .into_iter()
        .filter(|message| !said.iter().any(|text| message.is_in(text)))
        .filter(|message| !EXCUSED.iter().any(|excused| message.has(excused.words)))
        .map(|message| message.to_string())
        .collect();
    assert!(
        untried.is_empty(),
        "{} messages advise what no row tries:\n{}",
        untried.len(),
        untried.join("\n")
    );
}

/// An excuse is of a message that is there, and the test that it names exists.
#[test]
fn what_is_excused_is_there() {
    let advice = advice();
    for excused in EXCUSED {
        assert!(
            advice.iter().any(|message| message.has(excused.words)),
            "no message says: {}",
            excused.words
        );
        assert!(!excused.why.is_empty());
        assert!(
            excused.test.is_empty() || messages::test_exists(excused.test),
            "there is no test {}",
            excused.test
        );
    }
}

/// A program is rarely sure whose a file is: it says `move it away`, which loses nothing.
#[test]
fn no_message_tells_to_remove_anything() {
    let of_lines = |message: &Message| message.has("remove those lines from it");
    let wrong: Vec<String> = messages()
        .into_iter()
        .chain(messages_of_scripts())
        .filter(|message| message.tells_to_remove() && !of_lines(message))
        .map(|message| message.to_string())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
