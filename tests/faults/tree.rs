//! What is in a folder, without what no command repeats.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// The files, links and empty folders below a folder, or a file alone: names and contents.
pub type Tree = BTreeMap<String, Vec<u8>>;

pub fn tree(place: &Path) -> Tree {
    let mut tree = Tree::new();
    add(place, String::new(), &mut tree);
    tree
}

fn add(path: &Path, name: String, tree: &mut Tree) {
    let Ok(found) = path.symlink_metadata() else { return };
    if found.is_symlink() {
        let target = fs::read_link(path).unwrap().to_string_lossy().into_owned();
        tree.insert(name, target.into_bytes());
    } else if found.is_dir() {
        let mut empty = true;
        for entry in fs::read_dir(path).unwrap() {
            empty = false;
            let entry = entry.unwrap();
            let below = format!("{name}/{}", entry.file_name().to_string_lossy());
            add(&entry.path(), below, tree);
        }
        if empty {
            tree.insert(name + "/", Vec::new());
        }
    } else if !name.ends_with("/.lock") {
        tree.insert(name, without_times(path));
    }
}

/// The contents of a file without seconds, speeds and memory; a picture of seconds has none.
fn without_times(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    match path.file_name().unwrap().to_str().unwrap() {
        "metrics.jsonl" | "curves.jsonl" | "sweep.jsonl" | "lesson.json" => {
            let mut values: Vec<Value> = serde_json::Deserializer::from_slice(&bytes)
                .into_iter()
                .map_while(Result::ok)
                .collect();
            values.iter_mut().for_each(drop_times);
            format!("{values:?}").into_bytes()
        }
        "curves.svg" => Vec::new(),
        // It ends in `2 steps in 0 s` and what follows.
        "training.txt" => String::from_utf8_lossy(&bytes)
            .lines()
            .filter(|line| !line.contains(" steps in "))
            .collect::<String>()
            .into_bytes(),
        _ => bytes,
    }
}

fn drop_times(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            for key in ["seconds", "tokens_per_second", "memory"] {
                entries.remove(key);
            }
            entries.values_mut().for_each(drop_times);
        }
        Value::Array(values) => values.iter_mut().for_each(drop_times),
        _ => {}
    }
}

/// What is still being written, or was when its process died.
pub fn unfinished(tree: &Tree) -> Vec<&String> {
    let is = |name: &&String| name.contains("/.making-") || name.contains("/.tmp");
    tree.keys().filter(is).collect()
}

/// A copy of a folder, its links too.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&path).unwrap(), to).unwrap();
        } else if kind.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}
