//! The conversations of day 13, which the program holds, are those that the script makes.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{folder, stderr};
use mlx_gpt::lessons::world::{TEST, TRAIN, text};

#[test]
fn the_small_world_is_what_its_script_makes() {
    let folder = folder();
    let output = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/conversations.py"))
        .arg("--out")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    for file in [TRAIN, TEST] {
        let made = fs::read_to_string(folder.path().join(Path::new(file).file_name().unwrap())).unwrap();
        assert!(
            made == text(file).unwrap(),
            "assets/world is not what scripts/conversations.py makes: make it anew as assets/README.md says"
        );
    }
}
