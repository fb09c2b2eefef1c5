//! Sums, differences, products and quotients with their working, in a grammar of characters (`docs/tasks.md` explains it):
//!
//! ```text
//! problem  = number operator number "=" working "#" result new-line
//! 347+28=  7+8+0=15 4+2+1=07 3+0+0=03 #375         digits and carry = carry and digit, from the last digit
//! 12-345=  -345-12 5-2-0=03 4-1-0=03 3-0-0=03 #-333  digits and borrow = borrow and digit; the larger number comes first
//! 47*28=   7*8+0=56 4*8+5=37 #376 7*2+0=14 4*2+1=09 #94 6+0+0=06 7+4+0=11 3+9+1=13 #1316
//!                                                  a row for each digit of the second factor, then their sum
//! 987/4=   09/4=2r1 18/4=4r2 27/4=6r3 #246r3       remainder and next digit / divisor = digit and remainder
//! ```

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Category, Part, Problem};

/// All characters of its problems.
pub const CHARACTERS: &str = "\n #*+-/0123456789=r";

/// Describes the problems.
pub const SUMMARY: &str = "+ - of up to 4 digits, * of up to 3 by 2, / of up to 4 by 1, with written working";

/// Sizes of numbers, for messages.
const SIZES: &str = "+ and - of up to 4 digits, * of up to 3 by 2 digits, / of up to 4 by 1 digits";

/// The four operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// Of numbers of up to four digits.
    Plus,
    /// Of numbers of up to four digits.
    Minus,
    /// Of a number of up to three digits and one of up to two.
    Times,
    /// Of a number of up to four digits by one digit, with remainder.
    Divide,
}

impl Operator {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Plus, Self::Minus, Self::Times, Self::Divide];

    /// Its character in problems.
    pub fn symbol(self) -> char {
        match self {
            Self::Plus => '+',
            Self::Minus => '-',
            Self::Times => '*',
            Self::Divide => '/',
        }
    }

    /// The operation of a character, as people write it.
    fn from_symbol(symbol: char) -> Option<Self> {
        match symbol {
            '+' => Some(Self::Plus),
            '-' | '−' | '–' => Some(Self::Minus),
            '*' | '×' | 'x' | '·' => Some(Self::Times),
            '/' | '÷' | ':' => Some(Self::Divide),
            _ => None,
        }
    }

    /// Digits of the largest first and second number.
    pub fn digits(self) -> [u32; 2] {
        match self {
            Self::Plus | Self::Minus => [4, 4],
            Self::Times => [3, 2],
            Self::Divide => [4, 1],
        }
    }
}

/// An operator and numbers of any length up to its largest: short ones are as frequent as long ones.
pub fn sample(rng: &mut ChaCha8Rng) -> Problem {
    let operator = Operator::ALL[rng.random_range(0..4)];
    let [a, b] = operator.digits().map(|digits| 10u64.pow(rng.random_range(1..=digits)));
    let least = u64::from(operator == Operator::Divide); // no division by zero
    problem(operator, rng.random_range(0..a), rng.random_range(least..b))
}

/// The problem that a person writes, such as `347 × 28`.
///
/// # Errors
/// It is no problem of two numbers, one of them has too many digits, or the divisor is zero.
pub fn parse(text: &str) -> Result<Problem> {
    let spaceless: String = text.chars().filter(|character| !character.is_whitespace()).collect();
    let written = spaceless.strip_suffix('=').unwrap_or(&spaceless);
    let found = written
        .char_indices()
        .find_map(|(at, symbol)| Some((at, symbol, Operator::from_symbol(symbol)?)));
    let numbers = |(at, symbol, operator): (usize, char, Operator)| {
        let parts = [&written[..at], &written[at + symbol.len_utf8()..]];
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        parts.iter().all(|part| digits(part)).then_some((operator, parts))
    };
    let (operator, parts) = found.and_then(numbers).with_context(|| {
        format!(
            "{text:?} is not two whole numbers with an operator between them; write it like 347*28, with + - * or /"
        )
    })?;
    let mut values = [0; 2];
    for ((value, part), most) in values.iter_mut().zip(parts).zip(operator.digits()) {
        let part = part.trim_start_matches('0');
        ensure!(
            part.len() <= most as usize,
            "{part} has more than {most} digit(s), which is the most here; the calculator takes {SIZES}"
        );
        *value = part.parse().unwrap_or(0); // of zeros alone, nothing is left
    }
    let [a, b] = values;
    ensure!(
        operator != Operator::Divide || b > 0,
        "{a} cannot be divided by zero; give another divisor"
    );
    Ok(problem(operator, a, b))
}

/// The problem of two numbers; a divisor is not zero.
pub fn problem(operator: Operator, a: u64, b: u64) -> Problem {
    let commutes = matches!(operator, Operator::Plus | Operator::Times);
    let [first, second] = if commutes { [a.min(b), a.max(b)] } else { [a, b] };
    Problem {
        prompt: format!("{a}{}{b}=", operator.symbol()),
        answer: match operator {
            Operator::Plus => add(a, b),
            Operator::Minus => subtract(a, b),
            Operator::Times => multiply(a, b),
            Operator::Divide => divide(a, b),
        },
        category: Category::Operator(operator),
        part: Part::of([operator.symbol().into(), first, second]),
    }
}

/// The digits of a number, from the last to the first.
fn reversed_digits(mut number: u64) -> Vec<u64> {
    let mut digits = vec![number % 10];
    while number >= 10 {
        number /= 10;
        digits.push(number % 10);
    }
    digits
}

/// The digit at a place, 0 beyond the first.
fn digit(digits: &[u64], place: usize) -> u64 {
    digits.get(place).copied().unwrap_or(0)
}

fn add(a: u64, b: u64) -> String {
    let [x, y] = [a, b].map(reversed_digits);
    let (mut working, mut carry) = (String::new(), 0);
    for place in 0..x.len().max(y.len()) {
        let [p, q] = [digit(&x, place), digit(&y, place)];
        let sum = p + q + carry;
        let _ = write!(working, "{p}+{q}+{carry}={sum:02} ");
        carry = sum / 10;
    }
    format!("{working}#{}", a + b)
}

fn subtract(a: u64, b: u64) -> String {
    if a < b {
        let positive = subtract(b, a);
        return format!("-{b}-{a} {}", positive.replace('#', "#-"));
    }
    let [x, y] = [a, b].map(reversed_digits);
    let (mut working, mut borrow) = (String::new(), 0);
    for place in 0..x.len() {
        let [p, q] = [digit(&x, place), digit(&y, place)];
        let next = u64::from(p < q + borrow);
        let _ = write!(working, "{p}-{q}-{borrow}={next}{} ", p + 10 * next - q - borrow);
        borrow = next;
    }
    format!("{working}#{}", a - b)
}

fn multiply(a: u64, b: u64) -> String {
    let rows = reversed_digits(b);
    let mut working = String::new();
    for &factor in &rows {
        let mut carry = 0;
        for p in reversed_digits(a) {
            let product = p * factor + carry;
            let _ = write!(working, "{p}*{factor}+{carry}={product:02} ");
            carry = product / 10;
        }
        let _ = write!(working, "#{} ", a * factor);
    }
    match rows[..] {
        // The second row stands a place further to the left.
        [first, second] => working + &add(a * first, 10 * a * second),
        _ => working.trim_end().into(),
    }
}

fn divide(a: u64, b: u64) -> String {
    let (mut working, mut remainder) = (String::new(), 0);
    for p in reversed_digits(a).into_iter().rev() {
        let dividend = 10 * remainder + p;
        remainder = dividend % b;
        let _ = write!(working, "{dividend:02}/{b}={}r{remainder} ", dividend / b);
    }
    format!("{working}#{}r{remainder}", a / b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_problems_in_several_ways() {
        let parsed = |text: &str| parse(text).unwrap().prompt;
        for text in ["347*28", " 347 × 28 =", "347x28", "0347*028"] {
            assert_eq!(parsed(text), "347*28=");
        }
        assert_eq!(parsed("12 − 345"), "12-345=");
        assert_eq!(parsed("7:2"), "7/2=");
        assert_eq!(parsed("0+00"), "0+0=");
        for (text, expected) in [
            ("", "not two whole numbers"),
            ("hello", "not two whole numbers"),
            ("1+2+3", "not two whole numbers"),
            ("-1+2", "not two whole numbers"),
            ("1.5+2", "not two whole numbers"),
            ("½+2", "not two whole numbers"),
            ("12345+1", "12345 has more than 4 digit(s)"),
            ("28*347", "347 has more than 2 digit(s)"),
            ("99999999999999999999999*1", "has more than 3 digit(s)"),
            ("7/0", "cannot be divided by zero"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.contains(expected) && error.lines().count() == 1,
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn the_working_is_that_of_the_documentation() {
        for (operator, a, b, expected) in [
            (Operator::Plus, 347, 28, "7+8+0=15 4+2+1=07 3+0+0=03 #375"),
            (Operator::Plus, 99, 1, "9+1+0=10 9+0+1=10 #100"),
            (Operator::Minus, 345, 12, "5-2-0=03 4-1-0=03 3-0-0=03 #333"),
            (Operator::Minus, 12, 345, "-345-12 5-2-0=03 4-1-0=03 3-0-0=03 #-333"),
            (Operator::Minus, 1000, 1, "0-1-0=19 0-0-1=19 0-0-1=19 1-0-1=00 #999"),
            (Operator::Times, 47, 8, "7*8+0=56 4*8+5=37 #376"),
            (
                Operator::Times,
                47,
                28,
                "7*8+0=56 4*8+5=37 #376 7*2+0=14 4*2+1=09 #94 6+0+0=06 7+4+0=11 3+9+1=13 #1316",
            ),
            (Operator::Divide, 987, 4, "09/4=2r1 18/4=4r2 27/4=6r3 #246r3"),
            (Operator::Divide, 7, 9, "07/9=0r7 #0r7"),
        ] {
            assert_eq!(problem(operator, a, b).answer, expected);
        }
    }
}
