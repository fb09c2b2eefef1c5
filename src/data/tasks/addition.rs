//! Sums: `123+456=975`, with the sum's digits reversed, so that each follows from digits and a carry that are known by then.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Category, Part, Problem};

/// All characters of its problems.
pub const CHARACTERS: &str = "\n+0123456789=";

/// Sums of two numbers from 0 up to `digits` digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// Digits of the largest number, from 1 to 18.
    pub digits: usize,
    /// Whether the sum is written from its last digit to its first (Lee et al. 2023, "Teaching Arithmetic to Small
    /// Transformers").
    pub reversed: bool,
}

impl Addition {
    pub fn summary(&self) -> String {
        format!(
            "sums of two numbers of up to {} digit(s), the sum's digits {}",
            self.digits,
            if self.reversed { "reversed" } else { "in plain order" }
        )
    }

    /// Both numbers are uniform.
    pub fn sample(&self, rng: &mut ChaCha8Rng) -> Problem {
        let end = 10u64.pow(self.digits as u32);
        self.problem(rng.random_range(0..end), rng.random_range(0..end))
    }

    /// Four problems in five as [`sample`](Self::sample); the others with numbers of any length, short ones as often as long
    /// ones. Of uniform numbers up to 999, one in ten thousand sums has two single digits, too few to learn where their digits
    /// are.
    pub fn sample_for_training(&self, rng: &mut ChaCha8Rng) -> Problem {
        if rng.random_bool(0.8) {
            return self.sample(rng);
        }
        let mut number = || {
            let end = 10u64.pow(rng.random_range(1..=self.digits as u32));
            rng.random_range(0..end)
        };
        let (a, b) = (number(), number());
        self.problem(a, b)
    }

    pub fn problem(&self, a: u64, b: u64) -> Problem {
        let sum = (a + b).to_string();
        Problem {
            prompt: format!("{a}+{b}="),
            answer: if self.reversed {
                sum.chars().rev().collect()
            } else {
                sum
            },
            category: Category::Carries(carries(a, b)),
            part: Part::of([u64::from(b'+'), a.min(b), a.max(b)]),
        }
    }
}

/// Number of carries in the addition of two numbers, digit by digit.
fn carries(mut a: u64, mut b: u64) -> usize {
    let (mut carry, mut count) = (0, 0);
    while a > 0 || b > 0 {
        carry = (a % 10 + b % 10 + carry) / 10;
        count += carry as usize;
        (a, b) = (a / 10, b / 10);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_reversed_or_not_and_know_their_carries() {
        let problem = |reversed, a, b| {
            let problem = Addition { digits: 3, reversed }.problem(a, b);
            (
                format!("{}{}", problem.prompt, problem.answer),
                problem.category.to_string(),
            )
        };
        assert_eq!(problem(true, 123, 456), ("123+456=975".into(), "0 carries".into()));
        assert_eq!(problem(false, 123, 456), ("123+456=579".into(), "0 carries".into()));
        assert_eq!(problem(true, 5, 995), ("5+995=0001".into(), "3 carries".into()));
        assert_eq!(problem(true, 5, 8), ("5+8=31".into(), "1 carry".into()));
        assert_eq!(problem(true, 0, 0), ("0+0=0".into(), "0 carries".into()));
        assert_eq!(problem(true, 919, 91), ("919+91=0101".into(), "3 carries".into()));
    }
}
