//! Two commands at once in one folder: of two for one place one writes it, or the other after it; two for two places do
//! not see each other.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::commands::{WRITERS, Workplace};
use super::tree::{self, Tree, unfinished};
use crate::common::{number, stderr};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[test]
fn two_commands_at_once_share_a_folder() {
    let (count, seed) = (number("FAULTS", 1) as usize, number("SEED", 1));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let workplace = Workplace::new();
    let mut expected: Vec<Tree> = Vec::new();
    let mut times = Vec::new();
    for writer in &WRITERS {
        let started = Instant::now();
        expected.push(workplace.undisturbed(writer));
        times.push(started.elapsed());
    }
    let numbers = 0..WRITERS.len();
    let mut pairs: Vec<(usize, usize)> = numbers
        .clone()
        .flat_map(|first| (first + 1..WRITERS.len()).map(move |second| (first, second)))
        .collect();
    pairs.shuffle(&mut rng);
    pairs.truncate(8 * count);
    let pairs: Vec<_> = numbers.map(|number| (number, number)).chain(pairs).collect();
    for &(first, second) in &pairs {
        let what = format!("{} and {}", WRITERS[first].name, WRITERS[second].name);
        let place = workplace.anew();
        let start = |number: usize| {
            let mut command = workplace.command(WRITERS[number].arguments);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let one = start(first);
        sleep(
            times[first]
                .mul_f64(rng.random_range(0.0..0.8))
                .min(Duration::from_secs(2)),
        );
        let two = start(second);
        let outputs = [one, two].map(|child| child.wait_with_output().unwrap());
        let succeeded = outputs.iter().filter(|output| output.status.success()).count();
        assert!(succeeded >= if first == second { 1 } else { 2 }, "{what}: {outputs:?}");
        for output in outputs.iter().filter(|output| !output.status.success()) {
            let said = stderr(output);
            assert_eq!(output.status.code(), Some(1), "{what}: {said}");
            assert!(said.lines().last().unwrap().starts_with("error: "), "{what}: {said}");
            let helps = ["wait for", "choose another", "--resume"];
            assert!(helps.iter().any(|words| said.contains(words)), "{what}: {said}");
        }
        for number in [first, second] {
            let written = tree::tree(&place.join(WRITERS[number].out));
            assert!(written == expected[number], "{what}: {:?}", written.keys());
        }
        let found = tree::tree(&place);
        assert!(unfinished(&found).is_empty(), "{what}: {:?}", unfinished(&found));
    }
    eprintln!("{} pairs", pairs.len());
}
