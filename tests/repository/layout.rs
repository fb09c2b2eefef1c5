//! The order of the modules: what `src/lib.rs` says of it is true.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules in the order of the map in `src/lib.rs`, whose rows begin with their names.
fn modules() -> Vec<String> {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let rows = map.lines().filter_map(|line| line.strip_prefix("//! | "));
    let names = rows.filter_map(|row| row.split('`').nth(1));
    names.map(str::to_owned).collect()
}

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { source_files(&path) } else { vec![path] })
        .collect()
}

#[test]
fn a_module_uses_only_those_before_it_in_the_map() {
    let (modules, src) = (modules(), Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let mut broken = Vec::new();
    for (place, module) in modules.iter().enumerate() {
        for file in source_files(&src.join(module)) {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for used in code.flat_map(|line| line.split("crate::").skip(1)) {
                let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                if used == "error" {
                    continue; // beside the modules: what all of them may return to the library's users
                }
                match modules.iter().position(|module| module == used) {
                    Some(other) if other <= place => {}
                    Some(_) => broken.push(format!("{} uses {used}, which comes later", file.display())),
                    None => broken.push(format!("{} uses {used}, which is not in the map", file.display())),
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_top_of_src_holds_the_modules_of_the_map() {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let mut found: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut expected = modules();
    expected.extend(["error.rs", "lib.rs", "main.rs"].map(str::to_owned));
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

/// Who opens the documentation of a module finds code first.
#[test]
fn every_public_module_begins_with_an_example() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let map = fs::read_to_string(src.join("lib.rs")).unwrap();
    let public: Vec<&str> = map
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert!(public.len() > 10, "{public:?}");
    for module in public {
        let text = fs::read_to_string(src.join(module).join("mod.rs")).unwrap();
        let page = text.lines().take_while(|line| line.starts_with("//!"));
        assert_eq!(page.filter(|line| line.starts_with("//! ```")).count(), 2, "{module}");
    }
}
