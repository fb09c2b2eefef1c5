//! Hashed n-gram embeddings: vectors for the last 2, 3, … tokens, added to the residual stream before each block.
//!
//! One table serves all n-grams. The row of the n tokens `t₁ … tₙ` is a hash in numbers of 32 bits: a sum of products with an odd
//! number `aₙᵢ` for each place in an n-gram of each size, mixed by two multiplications of its bits, the upper of which are the row
//! (multiply-shift; Dietzfelbinger et al. 1997, "A reliable randomized algorithm for the closest-pair problem"):
//!
//! ```text
//! h = aₙ₁ (t₁ + 1) + … + aₙₙ (tₙ + 1)
//! h = (h + (h >> 15)) · 0x85ebca6b
//! h = (h + (h >> 13)) · 0xc2b2ae35
//! row = h >> (32 - log₂ rows)
//! ```
//!
//! where a token before the first counts as -1. Without the mixing, bigrams of few tokens leave many rows out. N-grams that meet in one row share its vector; frequent ones prevail there.
//! The multipliers are constants of the program: a checkpoint depends on them.

use mlx_rs::error::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype, ops};

use super::parameters::Parameters;
use crate::compute::operations;
use crate::config::{Components, ModelConfig};

/// The name of the table.
pub const TABLE: &str = "ngrams.weight";

/// Vectors by hashed n-gram.
pub struct NgramEmbedding {
    /// `[rows, C]`; in training the rows of the batch alone.
    table: Array,
    components: Components,
    /// For each n-gram size the row of `table` for each token, `[B, T]`, if they are given and not to be computed.
    given: Vec<Array>,
}

impl NgramEmbedding {
    /// The embedding, if the model has one.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(config: &ModelConfig, parameters: &Parameters) -> Result<Option<Self>> {
        if config.components.ngram_rows == 0 {
            return Ok(None);
        }
        Ok(Some(Self {
            table: parameters.get(TABLE)?.clone(),
            components: config.components,
            given: Vec::new(),
        }))
    }

    /// The same embedding over a table of some rows: `given` has, for each n-gram size, the row for each token, `[B, T]`.
    pub fn with_rows(self, given: &[Array]) -> Self {
        Self {
            given: given.to_vec(),
            ..self
        }
    }

    /// Tokens before the current one that its n-grams have.
    pub fn tokens_before(&self) -> i32 {
        self.components.ngram_size as i32 - 1
    }

    // ANCHOR: ngrams
    /// The sum of each token's n-gram vectors: the last T of `tokens` `[B, before + T]`, each its id + 1, or 0 before the
    /// first, to `[B, T, C]`.
    pub fn forward(&self, tokens: &Array) -> Result<Array> {
        let hashed;
        let rows = match self.given.is_empty() {
            true => {
                hashed = hashed_rows(&self.components, tokens)?;
                &hashed
            }
            false => &self.given,
        };
        let mut sum = operations::embedding_lookup(&self.table, &rows[0])?; // [B, T, C]
        for rows in &rows[1..] {
            sum = sum.add(operations::embedding_lookup(&self.table, rows)?)?;
        }
        Ok(sum)
    }
    // ANCHOR_END: ngrams
}

/// Ids `[B, T]` as the hash takes them, after `before` places without a token: `[B, before + T]`, uint32.
pub fn marked(ids: &Array, before: i32) -> Result<Array> {
    let none = ops::zeros_dtype(&[ids.dim(0), before], Dtype::Uint32)?;
    ops::concatenate(&[none, plus_one(ids)?], 1)
}

/// Ids of any shape, plus 1, uint32.
pub fn plus_one(ids: &Array) -> Result<Array> {
    ids.as_dtype(Dtype::Uint32)?.add(number(1))
}

/// For each n-gram size the rows for the last T of `tokens`, `[B, T]`; `tokens` as in [`NgramEmbedding::forward`].
fn hashed_rows(components: &Components, tokens: &Array) -> Result<Vec<Array>> {
    let before = components.ngram_size as i32 - 1;
    let end = tokens.dim(1);
    let row = |size: usize| {
        let mut sum = number(0);
        for back in 0..size as i32 {
            let token = tokens.try_index((.., before - back..end - back))?; // [B, T]
            sum = sum.add(token.multiply(number(multiplier(size, back as usize)))?)?;
        }
        for (bits, factor) in MIXING {
            let upper = ops::floor_divide(&sum, number(1 << bits))?;
            sum = sum.add(upper)?.multiply(number(factor))?;
        }
        ops::floor_divide(sum, number(1 << shift(components)))
    };
    components.ngram_sizes().map(row).collect()
}

/// The rows of the n-grams that [`NgramEmbedding::forward`] finds, found on the host: for consecutive rows of `length` ids each,
/// for each n-gram size the row for each id.
pub fn rows_of(components: &Components, ids: &[u32], length: usize) -> Vec<Vec<u32>> {
    let shift = shift(components);
    let row = |size: usize, ids: &[u32], place: usize| {
        let mut sum = 0u32;
        for back in 0..size.min(place + 1) {
            let token = ids[place - back].wrapping_add(1);
            sum = sum.wrapping_add(token.wrapping_mul(multiplier(size, back)));
        }
        for (bits, factor) in MIXING {
            sum = sum.wrapping_add(sum >> bits).wrapping_mul(factor);
        }
        sum >> shift
    };
    let rows = |size: usize| {
        let texts = ids.chunks(length);
        texts
            .flat_map(|ids| (0..ids.len()).map(move |place| row(size, ids, place)))
            .collect()
    };
    components.ngram_sizes().map(rows).collect()
}

/// Shift and factor of each step of the mixing; the factors are those of MurmurHash3's finaliser (Appleby 2011).
const MIXING: [(u32, u32); 2] = [(15, 0x85eb_ca6b), (13, 0xc2b2_ae35)];

/// Bits of a hash that are not part of the row.
fn shift(components: &Components) -> u32 {
    u32::BITS - components.ngram_rows.ilog2()
}

/// The odd multiplier of the token `back` places before the current one, in n-grams of `size` tokens: the finaliser of
/// MurmurHash3 of a number for both.
fn multiplier(size: usize, back: usize) -> u32 {
    let mut bits = (16 * size + back) as u32;
    bits = (bits ^ (bits >> 16)).wrapping_mul(0x85eb_ca6b);
    bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
    (bits ^ (bits >> 16)) | 1
}

/// A number that is broadcast, uint32.
fn number(value: u32) -> Array {
    Array::from_slice(&[value], &[1, 1])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::Device;

    fn components(ngram_rows: usize, ngram_size: usize) -> Components {
        Components {
            ngram_rows,
            ngram_size,
            ..Components::GPT2
        }
    }

    #[test]
    fn rows_on_the_host_are_those_on_the_device() {
        Device::Cpu.select().unwrap();
        let ids: Vec<u32> = (0..40).map(|n| n * n * 977 % 50257).collect();
        for (rows, size) in [(2, 2), (1 << 15, 3), (1 << 24, 8)] {
            let components = components(rows, size);
            let tokens = marked(&Array::from_slice(&ids, &[4, 10]), size as i32 - 1).unwrap();
            let device = hashed_rows(&components, &tokens).unwrap();
            let host = rows_of(&components, &ids, 10);
            assert_eq!(host.len(), size - 1);
            for (device, host) in device.iter().zip(host) {
                assert!(host.iter().all(|&row| (row as usize) < rows));
                assert_eq!(device.reshape(&[-1]).unwrap().to_vec_exact::<u32>().unwrap(), host);
            }
        }
    }

    /// A row depends on the n tokens and on nothing before them.
    #[test]
    fn a_row_depends_on_its_ngram_alone() {
        let components = components(1 << 15, 3);
        let of = |ids: &[u32]| rows_of(&components, ids, ids.len());
        let (long, short) = (of(&[9, 8, 1, 2, 3]), of(&[1, 2, 3]));
        assert_eq!(long[1][4], short[1][2]);
        assert_eq!(long[0][4], short[0][2]);
        assert_ne!(long[0][2], short[0][0], "the first token has none before it");
    }

    /// About as many rows as a random function would take: 4096 keys in as many rows take 63 %.
    #[test]
    fn ngrams_are_spread_over_the_rows() {
        let components = components(4096, 3);
        let pairs: Vec<u32> = (0..64).flat_map(|a| (0..64).flat_map(move |b| [0, a, b])).collect();
        for rows in rows_of(&components, &pairs, 3) {
            let last: HashSet<u32> = rows.chunks(3).map(|rows| rows[2]).collect();
            assert!(last.len() > 2300, "{}", last.len());
        }
    }
}
