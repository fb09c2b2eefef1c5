//! All that the program writes is a function of its inputs and the seed: not of the number of threads, nor of chance.
//! Trainings are repeated with the same `--threads`, since sums depend on the order in which they are made.

use super::commands::{WRITERS, Workplace};
use super::tree;
use crate::common::succeed;

#[test]
fn every_file_is_the_same_twice_and_for_any_number_of_threads() {
    let workplace = Workplace::new();
    for writer in &WRITERS {
        let expected = workplace.undisturbed(writer);
        assert!(!expected.is_empty(), "{} writes nothing", writer.name);
        for threads in ["1", "2", "8"] {
            let place = workplace.anew();
            succeed(workplace.command(writer.arguments).env("RAYON_NUM_THREADS", threads));
            let again = tree::tree(&place.join(writer.out));
            let differs: Vec<&String> = again
                .iter()
                .filter(|(name, bytes)| expected.get(*name) != Some(bytes))
                .map(|(name, _)| name)
                .collect();
            assert!(differs.is_empty(), "{}, {threads} threads: {differs:?}", writer.name);
            assert_eq!(again.len(), expected.len(), "{}", writer.name);
        }
    }
}
