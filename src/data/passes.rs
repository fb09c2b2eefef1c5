//! Passes over a text: the windows of a pass cover it once, in another order in each pass.
//!
//! Random rows repeat some passages and leave out others: of as many rows as a text has windows, 37 % of it is in none. Shuffled
//! windows show all of it before any of it again.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rounds of the permutation's Feistel network; four make a pseudorandom permutation of pseudorandom functions (Luby and
/// Rackoff 1988).
const ROUNDS: usize = 4;

/// Start positions of the rows from `first_row` on, counted from the beginning of the run.
///
/// A pass consists of adjacent windows of `context` tokens and begins at an offset of its own, so that windows are cut elsewhere in
/// each pass; fewer than two windows' tokens at the text's ends are left out of it. What a row is depends on nothing but `seed`
/// and its number.
///
/// `tokens` must exceed `context`.
pub fn shuffled_starts(seed: u64, first_row: u64, rows: usize, tokens: usize, context: usize) -> Vec<usize> {
    let possible = tokens - context; // starts
    let windows = (possible / context).max(1);
    let mut pass: Option<(u64, Pass)> = None;
    let start = |row: u64| {
        let (number, index) = (row / windows as u64, row % windows as u64);
        let current = match pass.take() {
            Some(current) if current.0 == number => current,
            _ => (number, Pass::new(seed, number, windows, possible.min(context))),
        };
        let start = current.1.offset + context * current.1.window(index) as usize;
        pass = Some(current);
        start
    };
    (first_row..first_row + rows as u64).map(start).collect()
}

/// The order of a pass's windows, computed for single windows: a list would have to be kept or made again at each step.
struct Pass {
    offset: usize,
    windows: u64,
    /// Bits of half an index.
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Pass {
    /// The pass of that number, with an offset below `offsets`.
    fn new(seed: u64, number: u64, windows: usize, offsets: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x7061_7373_6573); // other numbers than those of steps: "passes"
        rng.set_stream(number);
        let windows = windows as u64;
        Self {
            offset: rng.random_range(0..offsets),
            windows,
            half_bits: (u64::BITS - (windows - 1).leading_zeros()).div_ceil(2).max(1),
            keys: std::array::from_fn(|_| rng.random()),
        }
    }

    /// The window at `index` of the pass's order. The network permutes a power of four of indices; one that is no window is
    /// permuted again, which must end, since `index` is a window and on the same cycle (Black and Rogaway 2002, "cycle-walking").
    fn window(&self, index: u64) -> u64 {
        let mut window = self.permuted(index);
        while window >= self.windows {
            window = self.permuted(window);
        }
        window
    }

    fn permuted(&self, index: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (index >> self.half_bits, index & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mixed(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

/// SplitMix64's finalizer (Steele et al. 2014).
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_has_each_window_once_and_the_next_one_others_in_another_order() {
        for (tokens, context) in [(1000, 8), (1003, 8), (65, 8), (17, 8), (12, 8), (9, 8), (300, 1)] {
            let windows = ((tokens - context) / context).max(1);
            let pass = |number: u64| shuffled_starts(7, number * windows as u64, windows, tokens, context);
            let (mut first, second) = (pass(0), pass(1));
            assert!(first.iter().chain(&second).all(|start| start + context < tokens));
            if windows > 30 {
                assert_ne!(first, second);
                assert!(!first.is_sorted());
            }
            first.sort_unstable();
            assert!(first.windows(2).all(|pair| pair[1] == pair[0] + context), "{first:?}");
        }
    }

    #[test]
    fn rows_depend_on_their_number_alone() {
        let all = shuffled_starts(3, 0, 60, 200, 16);
        let parts: Vec<usize> = (0..12)
            .flat_map(|step| shuffled_starts(3, 5 * step, 5, 200, 16))
            .collect();
        assert_eq!(all, parts);
        assert_ne!(all, shuffled_starts(4, 0, 60, 200, 16));
    }

    #[test]
    fn every_window_is_first_equally_often() {
        // 16 windows; 8,000 passes with another seed each.
        let mut counts = [0u32; 16];
        for seed in 0..8000 {
            let start = shuffled_starts(seed, 0, 1, 17 * 32, 32)[0];
            counts[start / 32] += 1;
        }
        // Chi-square with 15 degrees of freedom is below 37.7 with probability 0.999.
        let chi_square: f64 = counts.iter().map(|&n| (f64::from(n) - 500.0).powi(2) / 500.0).sum();
        assert!(chi_square < 37.7, "{counts:?}");
    }
}
