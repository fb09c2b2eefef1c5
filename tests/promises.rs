//! `docs/reliability.md` and `docs/formats.md` name tests that exist.

use std::fs;
use std::path::Path;

/// The sources below a folder, in one.
fn sources(folder: &Path) -> String {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths
        .map(|path| match path.extension() {
            _ if path.is_dir() => sources(&path),
            Some(extension) if extension == "rs" => fs::read_to_string(&path).unwrap(),
            _ => String::new(),
        })
        .collect()
}

#[test]
fn every_promise_is_proved_by_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(&root.join("tests")) + &sources(&root.join("src"));
    let promises = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let rows = promises
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.rsplit_once(" | "));
    let named: Vec<&str> = rows
        .flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    check(&sources, &named);
}

#[test]
fn every_format_is_compared_by_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(&root.join("tests")) + &sources(&root.join("src"));
    let formats = fs::read_to_string(root.join("docs/formats.md")).unwrap();
    // Names of tests are sentences; those of keys and files are shorter.
    let is_sentence = |name: &&str| name.matches('_').count() > 3 && !name.contains(['.', '*', ' ']);
    let named: Vec<&str> = formats.split('`').skip(1).step_by(2).filter(is_sentence).collect();
    assert!(named.len() > 8, "{named:?}");
    check(&sources, &named);
}

/// That the sources have tests of those names.
fn check(sources: &str, named: &[&str]) {
    let tests: Vec<&str> = sources
        .split("#[test]\n")
        .skip(1)
        .filter_map(|test| test.split_once("fn ")?.1.split_once("()"))
        .map(|(name, _)| name)
        .collect();
    for name in named {
        assert!(tests.contains(name), "{name}");
    }
}
