//! Training batches: a pure function of (seed, step), so that a resumed run sees the batches that it would have seen.

use anyhow::{Result, bail};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::tokens::Tokens;

/// The random number generator of one step. ChaCha's streams are independent, so that no earlier step is needed.
pub fn step_rng(seed: u64, step: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step);
    rng
}

/// The seed of a run's batches after it returned `retry` times to an earlier checkpoint: the run's own at first.
pub fn batch_seed(seed: u64, retry: u32) -> u64 {
    seed ^ u64::from(retry).wrapping_mul(0x9e37_79b9_7f4a_7c15) // 2^64 divided by the golden ratio
}

// ANCHOR: row_starts
/// Start positions of a step's rows in the training tokens: `rows` uniform samples from `0..tokens - context`.
///
/// `tokens` must exceed `context`.
pub fn row_starts(rng: &mut ChaCha8Rng, rows: usize, tokens: usize, context: usize) -> Vec<usize> {
    (0..rows).map(|_| rng.random_range(0..tokens - context)).collect()
}
// ANCHOR_END: row_starts

/// The target of a position that has none: it adds nothing to the loss, and the mean is over the other targets. It is the
/// lectures' -1 as an unsigned number; PyTorch's default `ignore_index` is -100.
pub const IGNORE_INDEX: u32 = u32::MAX;

/// Rows of consecutive tokens and, for each token, the next one: inputs `[rows, T]`, targets `[rows, T]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[rows, T]`.
    pub inputs: Vec<u32>,
    /// `[rows, T]`: the token after each input, or [`IGNORE_INDEX`].
    pub targets: Vec<u32>,
    /// Number of rows.
    pub rows: usize,
}

impl Batch {
    /// The rows that begin at `starts`: inputs `[start, start + T)`, targets shifted by one.
    pub fn gather(tokens: &Tokens, starts: &[usize], context: usize) -> Self {
        let rows = |shift: usize| {
            let mut ids = Vec::with_capacity(starts.len() * context);
            starts
                .iter()
                .for_each(|start| tokens.read(start + shift, context, &mut ids));
            ids
        };
        Self {
            inputs: rows(0),
            targets: rows(1),
            rows: starts.len(),
        }
    }

    /// Sequences of at least two tokens as rows: all but the last token as inputs, all but the first as targets. Shorter
    /// ones are padded at their end, which a causal model's earlier positions do not attend to; padding has no targets.
    pub fn padded(sequences: &[Vec<u32>]) -> Self {
        let longest = sequences.iter().map(Vec::len).max().unwrap_or(1);
        let rows = |shift: usize, padding: u32| {
            let mut ids = Vec::with_capacity(sequences.len() * (longest - 1));
            for sequence in sequences {
                ids.extend(&sequence[shift..sequence.len() - 1 + shift]);
                ids.extend(std::iter::repeat_n(padding, longest - sequence.len()));
            }
            ids
        };
        Self {
            inputs: rows(0, 0),
            targets: rows(1, IGNORE_INDEX),
            rows: sequences.len(),
        }
    }

    /// The same rows as batches of `rows` rows each, which divides their number.
    pub fn split(self, rows: usize) -> impl Iterator<Item = Self> {
        let tokens = rows * self.context();
        let parts = 0..self.rows / rows;
        parts.map(move |part| Self {
            inputs: self.inputs[part * tokens..(part + 1) * tokens].to_vec(),
            targets: self.targets[part * tokens..(part + 1) * tokens].to_vec(),
            rows,
        })
    }

    /// Number of targets that are not ignored.
    pub fn target_count(&self) -> usize {
        self.targets.iter().filter(|&&id| id != IGNORE_INDEX).count()
    }

    /// The targets with token 0 in place of ignored ones, so that they index a vocabulary.
    pub fn indexable_targets(&self) -> Vec<u32> {
        let targets = self.targets.iter();
        targets.map(|&id| if id == IGNORE_INDEX { 0 } else { id }).collect()
    }

    /// Checks that every id is in a vocabulary of that size.
    ///
    /// # Errors
    /// An id is out of range; MLX would read beyond the embedding table.
    pub fn check(&self, vocab_size: usize) -> Result<()> {
        match self
            .inputs
            .iter()
            .chain(self.targets.iter().filter(|&&id| id != IGNORE_INDEX))
            .find(|&&id| id as usize >= vocab_size)
        {
            Some(id) => bail!(
                "the data contains token {id}, but the model's vocabulary has {vocab_size}; the data was tokenized with another tokenizer"
            ),
            None => Ok(()),
        }
    }

    /// Tokens per row.
    pub fn context(&self) -> usize {
        self.inputs.len() / self.rows
    }
}

/// Batches of `rows` windows or fewer, of `context` tokens each: in all `count` windows, or as many as there are, evenly spaced
/// over the split and the same at every evaluation.
///
/// `tokens` must exceed `context`.
pub fn eval_batches(tokens: &Tokens, count: usize, rows: usize, context: usize) -> impl Iterator<Item = Batch> {
    let possible = tokens.len() - context;
    let total = count.min(possible);
    let starts: Vec<usize> = (0..total).map(|row| row * possible / total).collect();
    let batches: Vec<_> = starts.chunks(rows).map(<[usize]>::to_vec).collect();
    batches
        .into_iter()
        .map(move |starts| Batch::gather(tokens, &starts, context))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_repeat_and_differ() {
        let starts = |seed, step| row_starts(&mut step_rng(seed, step), 12, 1000, 64);
        assert_eq!(starts(1, 5), starts(1, 5));
        assert_ne!(starts(1, 5), starts(1, 6));
        assert_ne!(starts(1, 5), starts(2, 5));
    }

    #[test]
    fn sequences_of_unequal_lengths_are_padded_at_their_end() {
        let batch = Batch::padded(&[vec![1, 2, 3, 4], vec![5, 6]]);
        assert_eq!((batch.rows, batch.context()), (2, 3));
        assert_eq!(batch.inputs, [1, 2, 3, 5, 0, 0]);
        assert_eq!(batch.targets, [2, 3, 4, 6, IGNORE_INDEX, IGNORE_INDEX]);
        assert_eq!(batch.target_count(), 4);
        batch.check(7).unwrap();
        assert!(batch.check(6).is_err());
    }

    #[test]
    fn every_position_is_equally_likely() {
        let (tokens, context) = (20, 8);
        let mut counts = [0u32; 12];
        for step in 0..2000 {
            for start in row_starts(&mut step_rng(7, step), 12, tokens, context) {
                counts[start] += 1;
            }
        }
        // 24,000 draws over 12 positions; chi-square with 11 degrees of freedom is below 31.3 with probability 0.999.
        let chi_square: f64 = counts.iter().map(|&n| (f64::from(n) - 2000.0).powi(2) / 2000.0).sum();
        assert!(chi_square < 31.3, "{counts:?}");
    }
}
