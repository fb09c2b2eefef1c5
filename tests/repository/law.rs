//! The law of expected losses is the one that its script fits.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use mlx_gpt::measure::budget::law;

#[test]
fn the_constants_of_the_law_are_those_of_its_script() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3")
        .arg(root.join("scripts/fit_law.py"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let constants: HashMap<&str, f64> = printed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect();
    for (name, value) in [
        ("E", law::E),
        ("A", law::A),
        ("ALPHA", law::ALPHA),
        ("B", law::B),
        ("BETA", law::BETA),
        ("C", law::C),
        ("R", law::R),
        ("DEVIATION", law::DEVIATION),
    ] {
        // The last digits depend on the machine's exponential function.
        let fitted = constants[name];
        assert!(
            (value / fitted - 1.0).abs() < 0.005,
            "{name} is {value}, and fitted {fitted}"
        );
    }
}
