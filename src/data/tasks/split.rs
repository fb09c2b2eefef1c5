//! Which problems are trained on, and which are held out.

/// A part of a task's problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Those that are trained on.
    Train,
    /// Those that never are, for evaluation.
    HeldOut,
}

impl Part {
    /// The part of a problem, from numbers that stand for it: one in ten is held out.
    pub(super) fn of(key: [u64; 3]) -> Self {
        match key.iter().fold(0, |hash, number| mix(hash ^ number)) % 10 {
            0 => Self::HeldOut,
            _ => Self::Train,
        }
    }
}

/// The step and finaliser of splitmix64 (Steele, Lea and Flood 2014): every bit of the input changes about half of the output's.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_problem_in_ten_is_held_out() {
        let held_out = (0..100_000).filter(|&n| Part::of([1, n / 300, n % 300]) == Part::HeldOut);
        // Standard deviation of 100,000 draws of 0.1: 95.
        assert!((9600..10_400).contains(&held_out.count()));
    }
}
