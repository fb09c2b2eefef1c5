//! Every day of the course runs, and its claims hold.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{fail, folder, mlx_gpt, stderr, stdout, succeed};
use mlx_gpt::config::{DEFAULT_CORPUS, Device, Preset};
use mlx_gpt::course::LESSONS;
use mlx_gpt::lessons::Lesson;
use mlx_gpt::lessons::chapter::{included_sources, source};
use mlx_gpt::lessons::page::{Page, View};
use mlx_gpt::lessons::workspace::{Workspace, WorkspaceOptions};
use mlx_gpt::train::NoopObserver;
use rexpect::reader::ReadUntil;
use rexpect::session::spawn_command;

/// `lesson` with a few steps of training on a tenth of the plays, on the CPU device of any machine.
fn lesson(folder: &Path, arguments: &[&str]) -> Command {
    let plays = include_str!("../../assets/shakespeare.txt");
    fs::write(folder.join("plays.txt"), &plays[..plays.len() / 10]).unwrap();
    let mut command = mlx_gpt(folder);
    command
        .arg("lesson")
        .args(arguments)
        .args([
            "--preset",
            "nano",
            "--device",
            "cpu",
            "--steps",
            "4",
            "--corpus",
            "plays.txt",
        ])
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", folder.join("no-hub"));
    command
}

#[test]
fn chapters_show_what_days_make() {
    let days: Vec<u8> = LESSONS.iter().map(|lesson| lesson.day).collect();
    assert!(days.is_sorted());
    for lesson in LESSONS {
        for path in included_sources(lesson.chapter) {
            assert!(source(path).is_some(), "day {} includes {path}", lesson.day);
        }
        let heading = format!("# Day {}: {}\n", lesson.day, lesson.title);
        assert!(lesson.chapter.starts_with(&heading), "{heading}");
        let listed = format!("[{}](day-{:02}.md)", &heading[2..heading.len() - 1], lesson.day);
        assert!(include_str!("../../book/src/SUMMARY.md").contains(&listed), "{listed}");
        assert!(lesson.chapter.contains("<details><summary>Answer</summary>"));
    }
}

/// A program makes the figures of its chapter, all of them and in their order.
#[test]
fn a_chapter_and_its_program_do_not_part() {
    const CHAPTER: &str = "![A](figures/day-99/a.txt)\n\n![B](figures/day-99/b.txt)\n";
    fn figures(page: &mut Page, names: &[&str]) -> anyhow::Result<()> {
        names
            .iter()
            .try_for_each(|name| page.figure(name, || Ok("text\n".into())))
    }
    let folder = folder();
    let options = WorkspaceOptions {
        root: folder.path().to_owned(),
        corpus: DEFAULT_CORPUS.to_owned(),
        preset: Preset::Nano,
        device: Device::Cpu,
        steps: None,
        seed: 1,
        download: false,
    };
    let workspace = Workspace::new(options, Box::new(NoopObserver)).unwrap();
    type Program = fn(&mut Page, &Workspace) -> anyhow::Result<()>;
    let programs: [(Program, Option<&str>); 4] = [
        (|page, _| figures(page, &["a.txt", "b.txt"]), None),
        (
            |page, _| figures(page, &["b.txt", "a.txt"]),
            Some("day 99: the chapter shows a.txt where the program has b.txt"),
        ),
        (
            |page, _| figures(page, &["a.txt"]),
            Some("day 99: the chapter shows b.txt where the program has its end"),
        ),
        (
            |page, _| figures(page, &["a.txt", "b.txt", "c.txt"]),
            Some("day 99: the program has c.txt, which the chapter does not show there"),
        ),
    ];
    for (program, expected) in programs {
        let lesson = Lesson {
            day: 99,
            title: "",
            teaches: "",
            chapter: CHAPTER,
            models: &[],
            needs: &[],
            program,
        };
        let error = Page::run(&lesson, &workspace, View::Chapter).err();
        assert_eq!(error.map(|error| error.to_string()).as_deref(), expected);
    }
}

/// Whether a source file defines a function, type or constant of that name.
fn defines(source: &str, name: &str) -> bool {
    ["fn", "struct", "enum", "const", "type"].into_iter().any(|kind| {
        let definition = format!("{kind} {name}");
        source.match_indices(&definition).any(|(at, _)| {
            let next = source[at + definition.len()..].chars().next();
            !next.is_some_and(|character| character.is_alphanumeric() || character == '_')
        })
    })
}

/// The files and the functions in the claims' hints exist.
#[test]
fn hints_name_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names_checked = 0;
    for hint in hints(&root.join("src/course/programs")) {
        // Such as `count_pairs and merge in src/course/day01.rs, the loss in src/model/loss.rs`.
        let mut rest = hint.as_str();
        while let Some(at) = rest.find("src/") {
            let path = rest[at..].split([',', ':', ';', ' ']).next().unwrap();
            assert!(root.join(path).exists(), "{hint}: there is no {path}");
            let clause = rest[..at].rsplit("; ").next().unwrap();
            let before = clause.trim_start_matches([',', ' ']);
            rest = &rest[at + path.len()..];
            let Some(names) = before.strip_suffix(" in ").filter(|_| root.join(path).is_file()) else {
                continue;
            };
            let source = fs::read_to_string(root.join(path)).unwrap();
            let in_words = names.starts_with("the "); // only some of the words are names then
            for name in names.split([' ', ',']).filter(|word| !["", "and", "or"].contains(word)) {
                if in_words && !name.contains(['_', ':']) {
                    continue;
                }
                let segments: Vec<&str> = name.split("::").collect();
                let (last, types) = segments.split_last().unwrap();
                assert!(
                    defines(&source, last) && types.iter().all(|of| source.contains(of)),
                    "{hint}: {path} does not define {name}"
                );
                names_checked += 1;
            }
        }
    }
    assert!(names_checked > 40, "{names_checked} names");
}

/// The string literals of the days' programs that name a source file.
fn hints(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut hints = Vec::new();
    for file in files {
        let source = fs::read_to_string(file).unwrap();
        let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        let literals = code.filter_map(|line| line.trim().strip_prefix('"')?.split('"').next());
        hints.extend(literals.filter(|text| text.contains("src/")).map(str::to_owned));
    }
    hints
}

/// The same for `name` in `src/file.rs` in the chapters.
#[test]
fn chapters_name_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for lesson in LESSONS {
        let words: Vec<&str> = lesson.chapter.split_whitespace().collect();
        let text = words.join(" ");
        for (place, _) in text.match_indices("`src/") {
            let path = text[place + 1..].split('`').next().unwrap();
            assert!(root.join(path).exists(), "day {}: there is no {path}", lesson.day);
            let before = text[..place].strip_suffix("` in ");
            if let Some(name) = before.and_then(|text| text.rsplit('`').next()) {
                let source = fs::read_to_string(root.join(path)).unwrap();
                let name = name.rsplit("::").next().unwrap();
                assert!(
                    source.contains(name),
                    "day {}: there is no {name} in {path}",
                    lesson.day
                );
            }
        }
    }
}

/// The first ten days are `make lessons`, the others `make lessons-long`.
#[test]
fn make_runs_every_day() {
    let makefile = include_str!("../../Makefile");
    let (_, rules) = makefile.split_once("\nlessons: ").unwrap();
    let (short, rest) = rules.split_once("\nlessons-long: ").unwrap();
    let long = rest.split("\n\n").next().unwrap();
    let days = |rule: &str| -> Vec<u8> {
        let (_, list) = rule.split_once("for day in ").unwrap();
        let list = list.split(';').next().unwrap();
        list.split_whitespace().map(|day| day.parse().unwrap()).collect()
    };
    assert_eq!(days(short), (1..=10).collect::<Vec<u8>>());
    let last = LESSONS.last().unwrap().day;
    assert_eq!(days(long), (11..=last).collect::<Vec<u8>>());
}

/// All days from nothing, in order, and each one's claims: every equality that a lesson states is computed here. Losses
/// are open with so few steps.
#[test]
fn every_day_runs_and_holds() {
    let folder = folder();
    for day in LESSONS.iter().map(|lesson| lesson.day.to_string()) {
        let text = stdout(&succeed(&mut lesson(folder.path(), &[&day])));
        assert!(text.contains("Exercises") && !text.contains("{{#"), "day {day}: {text}");
        let findings = stdout(&succeed(&mut lesson(folder.path(), &["check", &day])));
        assert!(findings.contains("holds"), "day {day}: {findings}");
        assert!(!findings.contains("BROKEN"), "day {day}: {findings}");
        let answers = stdout(&succeed(&mut lesson(folder.path(), &[&day, "--answer"])));
        assert!(answers.contains("Answer."), "day {day}: {answers}");
    }
    let table = stdout(&succeed(&mut lesson(folder.path(), &["compare", "--prompt", "the "])));
    for lesson in LESSONS {
        for recipe in lesson.models {
            assert!(table.contains(recipe.what), "{table}");
        }
    }
    // Nothing is downloaded that nobody asked for: not without a word, nor after a no.
    let forbidden = "HF_HUB_OFFLINE forbids";
    let unasked = stdout(&succeed(&mut lesson(folder.path(), &["10"])));
    assert!(
        unasked.contains("548 MB") && unasked.contains("lesson 10 --yes"),
        "{unasked}"
    );
    assert!(!unasked.contains(forbidden), "{unasked}");
    let refused = asked(lesson(folder.path(), &["10"]), "n");
    assert!(
        refused.contains("lesson 10 --yes") && !refused.contains(forbidden),
        "{refused}"
    );
    let allowed = stdout(&succeed(&mut lesson(folder.path(), &["10", "--yes"])));
    assert!(allowed.contains(forbidden), "{allowed}");
    // A day that is done is shown again, and keeps its checkpoint.
    let again = succeed(&mut lesson(folder.path(), &["3"]));
    assert!(stdout(&again).contains("Exercises"));
    // So is a small training, which leaves a file of weights.
    let weights = folder.path().join("lessons/day-07-backwards.safetensors");
    let written = || fs::metadata(&weights).unwrap().modified().unwrap();
    let before = written();
    succeed(&mut lesson(folder.path(), &["7"]));
    assert_eq!(written(), before);
    succeed(mlx_gpt(folder.path()).args(["generate", "--checkpoint", "lessons/day-03", "--max-new-tokens", "5"]));
}

/// What a lesson says on a terminal once its question about a download was answered.
fn asked(command: Command, answer: &str) -> String {
    let mut session = spawn_command(command, Some(300_000)).unwrap();
    loop {
        let (_, prompt) = session
            .exp_any(vec![
                ReadUntil::String("[Enter goes on]".into()),
                ReadUntil::String("548 MB, from Hugging Face's hub? [y/N]".into()),
            ])
            .unwrap();
        if prompt.ends_with("[y/N]") {
            break;
        }
        session.send_line("").unwrap();
    }
    session.send_line(answer).unwrap();
    session.exp_string("[Enter goes on]").unwrap()
}

#[test]
fn wrong_lessons_are_refused() {
    let unfit = lesson(folder().path(), &["3", "--preset", "gpt2"]).output().unwrap();
    assert!(
        stderr(&unfit).contains("[possible values: nano, baby]"),
        "{}",
        stderr(&unfit)
    );
    let folder = folder();
    let error = fail(&mut lesson(folder.path(), &["99"]));
    assert!(error.contains("there is no day 99"), "{error}");
    let error = fail(&mut lesson(folder.path(), &["check", "3"]));
    assert!(error.contains("lesson 3"), "{error}");
    let error = fail(&mut lesson(folder.path(), &["compare"]));
    assert!(error.contains("lesson 2"), "{error}");
    // Nothing of a foreign run is touched.
    succeed(&mut lesson(folder.path(), &["3"]));
    let error = fail(&mut lesson(folder.path(), &["3", "--seed", "2"]));
    assert!(
        error.contains("lessons/day-03 was trained with different options"),
        "{error}"
    );
}
