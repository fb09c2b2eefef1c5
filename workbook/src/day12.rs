//! Day 12: whether a text holds what a model is to be tested on.

use mlx_gpt::course::day12;

use super::exercise::{Draw, Exercise, Mistake};
use super::value::Value;

/// The learner's functions of day 12.
#[derive(Clone, Copy)]
pub struct Day12 {
    pub shared_windows: fn(&str, &str, usize) -> usize,
}

/// Bytes of a window.
const LENGTH: usize = 4;

impl Day12 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        vec![Exercise::new::<(String, String)>(
            "shared_windows",
            |draw| {
                let (before, after) = (letters(draw, 30), letters(draw, 30));
                let quoted = letters(draw, 7);
                // It is quoted twice, at other places of both, so that windows must overlap.
                let text = format!("{before}{quoted}{after}");
                Ok((text, format!("x{quoted}yy{quoted}{}", letters(draw, 9))))
            },
            |(text, unseen)| Ok(Value::list([day12::shared_windows(text, unseen, LENGTH) as f64])),
            move |(text, unseen)| Ok(Value::list([(self.shared_windows)(text, unseen, LENGTH) as f64])),
            0.0,
            vec![
                Mistake {
                    hint: "each different window is counted once: count the windows of `unseen`, repeated ones too",
                    made: |(text, unseen)| {
                        let mut windows: Vec<&[u8]> = unseen.as_bytes().windows(LENGTH).collect();
                        windows.sort_unstable();
                        windows.dedup();
                        let shared = windows
                            .iter()
                            .filter(|window| text.as_bytes().windows(LENGTH).any(|w| w == **window));
                        Ok(Value::list([shared.count() as f64]))
                    },
                },
                Mistake {
                    hint: "windows overlap: `windows`, not `chunks`",
                    made: |(text, unseen)| {
                        let is_in = |window: &&[u8]| text.as_bytes().chunks(LENGTH).any(|chunk| chunk == *window);
                        let shared = unseen.as_bytes().chunks(LENGTH).filter(is_in).count();
                        Ok(Value::list([shared as f64]))
                    },
                },
                Mistake {
                    hint: "the texts have changed places: the windows of `unseen` are counted",
                    made: |(text, unseen)| Ok(Value::list([day12::shared_windows(unseen, text, LENGTH) as f64])),
                },
            ],
        )]
    }
}

/// Random letters, of few enough kinds that short passages repeat.
fn letters(draw: &mut Draw, count: usize) -> String {
    (0..count).map(|_| char::from(b'a' + draw.size(0, 5) as u8)).collect()
}
