//! `make book` and the announcement before a build, with stand-ins for mdBook and Cargo.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use crate::common::{copy, folder, stderr};

/// An executable in place of a program.
fn stand_in(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The last day of the course.
const LAST: u8 = 14;

/// A checkout with the book's sources and scripts, and the figures of the first `days` lessons.
fn checkout(root: &Path, days: u8) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy(&here.join("book/src"), &root.join("book/src"));
    copy(&here.join("scripts/book"), &root.join("scripts/book"));
    symlink(here.join("src"), root.join("src")).unwrap();
    for day in (0..=days).filter(|_| days > 0) {
        let chapter = fs::read_to_string(here.join(format!("book/src/day-{day:02}.md"))).unwrap();
        for part in chapter.split("figures/").skip(1) {
            let figure = root
                .join("lessons/figures")
                .join(part.split(['}', ')']).next().unwrap());
            fs::create_dir_all(figure.parent().unwrap()).unwrap();
            fs::write(figure, "figure\n").unwrap();
        }
    }
    // It is asked for its version, then to build.
    stand_in(
        &root.join("mdbook"),
        "[ \"$1\" = --version ] && echo mdbook v0.0.0 || mkdir -p \"$2/out\" && cp \"$2/$MDBOOK_BOOK__SRC/SUMMARY.md\" \"$2/out/\"",
    );
}

fn make_book(root: &Path) -> Output {
    Command::new("bash")
        .arg(root.join("scripts/book/make.sh"))
        .env("MDBOOK", root.join("mdbook"))
        .output()
        .unwrap()
}

#[test]
fn a_book_is_made_of_the_days_that_were_run() {
    let folder = folder();
    let root = folder.path();
    checkout(root, 3);
    fs::remove_file(root.join("lessons/figures/day-03/vectors.svg")).unwrap(); // day 3 was stopped before its end
    let output = make_book(root);
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    let summary = fs::read_to_string(root.join("book/out/SUMMARY.md")).unwrap();
    assert!(
        summary.contains("day-01.md") && summary.contains("day-02.md"),
        "{summary}"
    );
    assert!(
        !summary.contains("day-03.md") && !summary.contains("all-days.md"),
        "{summary}"
    );
    // One line for each that is left out, with what makes it.
    assert_eq!(
        said.lines().filter(|line| line.contains("without")).count(),
        usize::from(LAST) - 1, // from day 3, and all days
        "{said}"
    );
    assert!(said.contains("make it with cargo run -- lesson 3\n"), "{said}");
    assert!(said.contains("make it with cargo run -- lesson compare\n"), "{said}");
    assert!(said.lines().count() <= usize::from(LAST) + 1, "{said}");
}

/// Shown code leads to its lines, and each picture has a caption that says what to look for.
#[test]
fn code_has_links_and_pictures_have_captions() {
    let folder = folder();
    let root = folder.path();
    checkout(root, LAST);
    assert!(make_book(root).status.success());
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("book/src");
    for day in 0..=LAST {
        let chapter = fs::read_to_string(sources.join(format!("day-{day:02}.md"))).unwrap();
        let page = fs::read_to_string(root.join(format!("book/made/day-{day:02}.md"))).unwrap();
        let links: Vec<&str> = page
            .split("<a href=\"sources/")
            .skip(1)
            .map(|rest| rest.split_once('"').unwrap().0)
            .collect();
        assert_eq!(
            links.len(),
            chapter.matches("{{#include ../../src/").count(),
            "day {day}"
        );
        for link in links {
            let (file, line) = link.split_once('#').unwrap();
            let shown = fs::read_to_string(root.join("book/made/sources").join(file)).unwrap();
            assert!(shown.contains(&format!("id=\"{line}\"")), "{link}");
        }
        let pictures = chapter.lines().filter(|line| line.starts_with("!["));
        for picture in pictures.clone() {
            assert!(picture.contains(". What to see: "), "{picture}");
        }
        assert_eq!(page.matches("<figcaption>").count(), pictures.count(), "day {day}");
    }
}

#[test]
fn without_any_day_there_is_no_book() {
    let folder = folder();
    checkout(folder.path(), 0);
    let output = make_book(folder.path());
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.ends_with("error: no lesson has been run yet; begin with: cargo run -- lesson 1\n"),
        "{said}"
    );
}

#[test]
fn a_chapter_that_includes_lost_sources_is_an_error() {
    let folder = folder();
    let root = folder.path();
    checkout(root, 1);
    fs::remove_file(root.join("src")).unwrap();
    let output = make_book(root);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("error: book/src/day-00.md includes ../../src/"),
        "{}",
        stderr(&output)
    );
}

/// A checkout in which the program was built a while ago, and a Cargo that builds it again.
fn built(root: &Path) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(root.join("scripts")).unwrap();
    fs::copy(here.join("scripts/build.sh"), root.join("scripts/build.sh")).unwrap();
    fs::create_dir_all(root.join("src")).unwrap();
    fs::write(root.join("src/main.rs"), "").unwrap();
    stand_in(
        &root.join("bin/cargo"),
        "mkdir -p target/debug && touch target/debug/mlx-gpt && chmod +x target/debug/mlx-gpt && echo built >&2",
    );
    root.join("src/main.rs")
}

/// What it says, and whether it had Cargo build.
fn build(root: &Path) -> String {
    let path = format!("{}:{}", root.join("bin").display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .arg(root.join("scripts/build.sh"))
        .env("PATH", path)
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn a_build_is_announced_where_there_is_one() {
    let folder = folder();
    let root = folder.path();
    let source = built(root);
    let first = build(root);
    assert!(
        first.starts_with("build: compiling mlx-gpt and the crates") && first.ends_with("built\n"),
        "{first}"
    );
    assert_eq!(build(root), "", "nothing has changed");
    fs::write(root.join("target/debug/mlx-gpt.seconds"), "85\n").unwrap();
    let later = SystemTime::now() + Duration::from_secs(5);
    fs::File::options()
        .append(true)
        .open(source)
        .unwrap()
        .set_modified(later)
        .unwrap();
    let again = build(root);
    assert_eq!(
        again,
        "build: the sources have changed; compiling them (85 s or so)\nbuilt\n"
    );
}

/// The ids that mdBook gives a page's headings: small letters, digits, `_` and `-`, with `-` for each space.
fn anchors(markdown: &str) -> Vec<String> {
    let headings = markdown.lines().filter_map(|line| line.strip_prefix('#'));
    let id = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().map(|c| if c.is_whitespace() { '-' } else { c });
        kept.filter(|&c| c.is_alphanumeric() || ['-', '_'].contains(&c))
            .collect()
    };
    headings.map(id).collect()
}

/// The pages and sections to which a page's links lead, such as `("day-03.md", "positions")`.
fn links(markdown: &str) -> Vec<(&str, &str)> {
    let ends = markdown.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let pages = ends.filter(|link| link.split('#').next().is_some_and(|page| page.ends_with(".md")));
    pages.map(|link| link.split_once('#').unwrap_or((link, ""))).collect()
}

#[test]
fn links_between_pages_lead_to_their_sections() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("book/src");
    let read = |page: &str| fs::read_to_string(pages.join(page)).unwrap();
    let summary = read("SUMMARY.md");
    let mut followed = 0;
    for entry in fs::read_dir(&pages).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let text = read(&name);
        assert!(
            name == "SUMMARY.md" || summary.contains(&format!("({name})")),
            "{name} is not in the summary"
        );
        for (page, section) in links(&text) {
            assert!(pages.join(page).is_file(), "{name}: there is no page {page}");
            let there = section.is_empty() || anchors(&read(page)).iter().any(|anchor| anchor == section);
            assert!(there, "{name}: {page} has no section {section}");
            followed += 1;
        }
    }
    assert!(followed > 60, "{followed} links");
}

/// Each chapter of the two lectures has its row, with a link or the reason why there is none.
#[test]
fn every_chapter_of_the_lectures_has_its_place() {
    let page = include_str!("../../book/src/lectures.md");
    for (lecture, chapters, first, last) in [
        (
            "Let's build GPT: from scratch, in code, spelled out",
            30,
            "intro: ChatGPT",
            "conclusions",
        ),
        ("Let's build the GPT Tokenizer", 25, "intro: Tokenization", "??? :)"),
    ] {
        let (_, rest) = page.split_once(&format!("## {lecture}\n")).unwrap();
        let table = rest.split("\n## ").next().unwrap();
        let rows: Vec<&str> = table
            .lines()
            .filter(|line| line.starts_with("| ") && !line.contains("chapter |"))
            .collect();
        assert_eq!(rows.len(), chapters, "{lecture}");
        assert!(rows[0].contains(first) && rows[chapters - 1].contains(last), "{rows:?}");
        for row in rows {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
            assert!(
                cells.len() == 3 && cells.iter().all(|cell| !cell.trim().is_empty()),
                "{row}"
            );
            assert!(cells[2].contains(".md") || cells[2].contains("not here"), "{row}");
        }
    }
}
