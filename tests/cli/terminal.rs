//! What a user sees: on a terminal of 80 columns, through a pipe, and when a command is mistyped.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{Start, TINY, folder, mlx_gpt, stderr, stdout, succeed, trained};
use mlx_gpt::course::LESSONS;
use rexpect::session::{PtySession, spawn_command};
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

const COLUMNS: usize = 80;

/// The program on a terminal of 80 columns, in `folder`.
fn terminal(folder: &Path, arguments: &[&str]) -> PtySession {
    let mut command = Command::new("sh");
    command
        .current_dir(folder)
        .env("TERM", "xterm")
        .args(["-c", &format!("stty cols {COLUMNS} rows 24; exec \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_mlx-gpt"))
        .args(arguments);
    // Long enough for any machine; only a program that hangs waits for it.
    spawn_command(command, Some(300_000)).unwrap()
}

/// Each line that the program writes on such a terminal, those that it writes over too, without colours.
fn lines_on_a_terminal(folder: &Path, arguments: &[&str]) -> Vec<String> {
    let mut session = terminal(folder, arguments);
    let text = session.exp_eof().unwrap();
    assert!(
        format!("{:?}", session.process().wait()).contains(", 0)"),
        "{arguments:?}: {text}"
    );
    let bytes: Vec<u8> = text.chars().map(|byte| byte as u8).collect(); // a character for each byte
    let text = without_escapes(&String::from_utf8(bytes).unwrap());
    text.split(['\n', '\r'])
        .map(|line| line.trim_end().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// Without sequences such as `ESC [ 2 K`.
fn without_escapes(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part
            .split_once(|c: char| c.is_ascii_alphabetic())
            .map_or("", |(_, rest)| rest)
    })
}

/// Commands that are proposed stay in one piece, for copying.
fn is_command(line: &str) -> bool {
    line.contains(env!("CARGO_BIN_EXE_mlx-gpt"))
}

fn assert_fits(folder: &Path, arguments: &[&str]) -> Vec<String> {
    let lines = lines_on_a_terminal(folder, arguments);
    for line in lines.iter().filter(|line| !is_command(line)) {
        assert!(
            line.width() <= COLUMNS,
            "{arguments:?}: {} columns: {line}",
            line.width()
        );
    }
    lines
}

#[test]
fn eighty_columns_are_enough() {
    let folder = folder();
    let path = folder.path();
    let name = "a-name-as-long-as-those-that-runs-get-by-themselves";
    let mut options = vec!["train", "--steps", "30", "--eval-every", "10", "--out", name];
    options.extend(TINY);
    let said = assert_fits(path, &options);
    // Words are not torn apart: a line that goes on begins below the one before.
    assert!(
        said.iter().any(|line| line.starts_with("corpus   Shakespeare")),
        "{said:?}"
    );
    assert!(
        said.iter()
            .any(|line| line.starts_with("         ") && line.contains("vocabulary 65")),
        "{said:?}"
    );
    // The step lines have room for a few words of the model's.
    assert!(
        said.iter()
            .any(|line| line.starts_with("step     10/30") && line.ends_with('”')),
        "{said:?}"
    );
    assert!(
        said.iter()
            .any(|line| line.contains("tokens/s") && line.contains(" left")),
        "{said:?}"
    );

    let listed = assert_fits(path, &["runs", "."]);
    assert_eq!(listed[0], format!("./{name}  complete"));
    assert!(listed[1].starts_with("    step 30/30  best val "), "{listed:?}");

    let device = ["--device", "cpu", "--preset", "nano"];
    let days = assert_fits(path, &[&["lesson"], &device[..]].concat());
    assert!(days.iter().any(|line| line.starts_with("10 ")), "{days:?}");
    assert_fits(path, &["lesson", "1", "--answer"]);
    assert_fits(path, &["doctor", "--device", "cpu", "--checkpoint", name]);
    assert_fits(path, &["eval", "--device", "cpu", "--checkpoint", name]);
    assert_fits(
        path,
        &["tokenizer", "compare", "The quick brown fox jumps over the lazy dog."],
    );
    assert_fits(path, &["train", "--help"]);
}

/// Nothing is heard of a bar in a file or a pipe, so lines come instead; between two of them pass five seconds of steps
/// at most, and as much again on a busy machine.
#[test]
fn through_a_pipe_there_is_a_line_every_few_seconds() {
    let folder = folder();
    let mut child = mlx_gpt(folder.path())
        .args([
            "train",
            "--steps",
            "1000000",
            "--eval-every",
            "1000000",
            "--save-every",
            "1000000",
        ])
        .args(TINY)
        .start();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    assert!(
        lines.any(|line| line.starts_with("step      0/")),
        "it begins with an evaluation"
    );
    let started = Instant::now();
    let said: Vec<String> = lines.by_ref().take(2).collect();
    let waited = started.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        said.iter()
            .all(|line| line.contains("/1000000  loss ") && line.contains(" left")),
        "{said:?}"
    );
    assert!(waited < Duration::from_secs(40), "{waited:?} for two lines: {said:?}");
}

#[test]
fn mistyped_lessons_get_advice() {
    let folder = folder();
    let misused = |arguments: &[&str]| {
        let output = mlx_gpt(folder.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        stderr(&output)
    };
    for arguments in [&["lesson", "chek", "3"][..], &["lesson", "chek"]] {
        let said = misused(arguments);
        assert!(said.contains("did you mean `lesson check`?"), "{said}");
    }
    assert!(misused(&["lesson", "three"]).contains("a lesson is a day, 0 to 14"));
    assert!(misused(&["lesson", "3", "4"]).contains("lessons are read one at a time"));
}

#[test]
fn a_lesson_without_a_day_lists_them() {
    let folder = folder();
    let device = ["--device", "cpu", "--preset", "nano"];
    let listed = stdout(&succeed(mlx_gpt(folder.path()).arg("lesson").args(device)));
    assert_eq!(listed.lines().count(), LESSONS.len(), "{listed}");
    for (day, line) in (0..).zip(listed.lines()) {
        assert!(line.starts_with(&format!("{day} ")), "{line}");
    }
}

#[test]
fn runs_and_the_doctor_speak_json() {
    let folder = folder();
    trained(folder.path(), "3");
    let json = |arguments: &[&str]| -> Value {
        let said = stdout(&succeed(mlx_gpt(folder.path()).args(arguments)));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    };
    let runs = json(&["runs", ".", "--json"]);
    let run = &runs["runs"][0];
    assert_eq!(
        (&run["folder"], &run["step"], &run["steps"]),
        (&"./run".into(), &3.into(), &3.into())
    );
    assert_eq!(
        (&run["complete"], &run["best_step"], &run["damaged"]),
        (&true.into(), &3.into(), &Value::Null)
    );
    assert!(run["best_val_loss"].as_f64().unwrap() > 1.0 && run["bytes"].as_u64().unwrap() > 1000);
    assert_eq!(
        json(&["runs", "nothing-there", "--json"])["runs"],
        Value::Array(Vec::new())
    );

    let doctor = json(&["doctor", "--device", "cpu", "--json"]);
    assert_eq!(doctor["healthy"], true);
    assert_eq!(doctor["version"], env!("CARGO_PKG_VERSION"));
    let whats: Vec<&str> = doctor["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["what"].as_str().unwrap())
        .collect();
    assert!(
        whats.contains(&"processor") && whats.contains(&"MLX device"),
        "{whats:?}"
    );
    assert!(doctor["findings"][0]["remedy"].is_null());

    // What is wrong is in the object, and the exit code says it too.
    std::fs::write(folder.path().join("run/latest/config.json"), "{}").unwrap();
    let output = mlx_gpt(folder.path())
        .args(["doctor", "--device", "cpu", "--json", "--checkpoint", "run"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let doctor: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(doctor["healthy"], false);
    let checkpoint = doctor["findings"].as_array().unwrap().last().unwrap();
    assert!(checkpoint["remedy"].is_string(), "{checkpoint}");
}

/// A model of four thousand parameters is not one of "0.00 million".
#[test]
fn small_models_are_counted_in_thousands() {
    let folder = folder();
    let mut options = vec!["train", "--steps", "1"];
    options.extend(TINY);
    let said = stderr(&succeed(mlx_gpt(folder.path()).args(options)));
    assert!(
        said.contains(" thousand parameters") && !said.contains("million"),
        "{said}"
    );
}

#[test]
fn five_options_have_letters() {
    let folder = folder();
    let mut options = vec!["train", "-o", "run", "-s", "2"];
    options.extend(TINY);
    succeed(mlx_gpt(folder.path()).args(options));
    let short = [
        "generate", "-c", "run", "-p", "ROMEO:", "-n", "5", "--seed", "1", "--device", "cpu",
    ];
    let long = [
        "generate",
        "--checkpoint",
        "run",
        "--prompt",
        "ROMEO:",
        "--max-new-tokens",
        "5",
        "--seed",
        "1",
        "--device",
        "cpu",
    ];
    let [short, long] = [&short[..], &long].map(|options| stdout(&succeed(mlx_gpt(folder.path()).args(options))));
    assert_eq!(short, long);
}

/// `-h` fits on a screen; `--help` has the examples before the options, and the options in groups.
#[test]
fn help_is_short_or_begins_with_examples() {
    let folder = folder();
    let help = |option: &str| stdout(&succeed(mlx_gpt(folder.path()).args(["train", option])));
    let short = help("-h");
    assert!(short.lines().count() <= 40, "{short}");
    assert!(short.contains("--corpus") && !short.contains("--beta2"), "{short}");
    let long = help("--help");
    let at = |text: &str| long.find(text).unwrap_or_else(|| panic!("{text}: {long}"));
    assert!(at("Examples:") < at("--preset") && at("--preset") < at("\nData:") && at("\nTraining:") < at("--beta2"));
}

/// The script is run by the shell that it is for, where that is installed.
#[test]
fn shells_complete_commands() {
    let folder = folder();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&succeed(mlx_gpt(folder.path()).args(["completions", shell])));
        assert!(
            script.contains("tokenizer") && script.contains("max-new-tokens"),
            "{shell}"
        );
    }
    let script = r#"
        source <("$0" completions bash)
        function=$(complete -p mlx-gpt | sed 's/.* -F \([^ ]*\) .*/\1/')
        complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); "$function" mlx-gpt "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"; echo "${COMPREPLY[@]}"; }
        complete_words mlx-gpt tr
        complete_words mlx-gpt lesson ch
        complete_words mlx-gpt train --preset ba
    "#;
    let completed = stdout(&succeed(
        Command::new("bash")
            .args(["-c", script, env!("CARGO_BIN_EXE_mlx-gpt")])
            .current_dir(folder.path()),
    ));
    assert_eq!(completed, "train\ncheck\nbaby\n");
}
