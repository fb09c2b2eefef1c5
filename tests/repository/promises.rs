//! `docs/reliability.md`, `docs/formats.md` and `docs/extending.md` name tests and files that exist.

use std::fs;
use std::path::Path;

/// A file of this checkout.
fn page(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

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

/// The names of all tests.
fn tests() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(&root.join("tests")) + &sources(&root.join("src"));
    let tests = sources
        .split("#[test]\n")
        .skip(1)
        .filter_map(|test| test.split_once("fn ")?.1.split_once("()"));
    tests.map(|(name, _)| name.to_owned()).collect()
}

/// What stands between backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Names of tests are sentences; those of keys and files are shorter.
fn is_sentence(name: &str) -> bool {
    name.matches('_').count() > 2 && !name.contains(['.', '*', ' ', '/'])
}

fn check_tests(named: &[&str]) {
    let tests = tests();
    for name in named {
        assert!(tests.iter().any(|test| test == name), "there is no test {name}");
    }
}

#[test]
fn every_promise_is_proved_by_a_test_that_exists() {
    let promises = page("docs/reliability.md");
    let rows = promises
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.rsplit_once(" | "));
    let named: Vec<&str> = rows
        .filter(|(_, tests)| tests.contains('`'))
        .flat_map(|(_, tests)| code(tests))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    check_tests(&named);
}

#[test]
fn every_format_is_compared_by_a_test_that_exists() {
    let formats = page("docs/formats.md");
    let named: Vec<&str> = code(&formats).filter(|name| is_sentence(name)).collect();
    assert!(named.len() > 8, "{named:?}");
    check_tests(&named);
}

#[test]
fn every_place_to_change_is_there() {
    let extending = page("docs/extending.md");
    let is_path = |code: &&str| {
        let rooms = ["src/", "tests/", "scripts/", "docs/", "book/"];
        rooms.iter().any(|room| code.starts_with(room)) && !code.contains("NN") && !code.contains("NAME")
    };
    let paths: Vec<&str> = code(&extending).filter(is_path).collect();
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths {
        assert!(
            Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(),
            "there is no {path}"
        );
    }
    let named: Vec<&str> = code(&extending).filter(|name| is_sentence(name)).collect();
    assert!(named.len() >= 7, "{named:?}");
    check_tests(&named);
}
