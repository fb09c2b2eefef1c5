//! Day 11: a loss on some of the tokens, and a sum that begins with its last digit.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops::indexing::take_along_axis;

// ANCHOR: masked_cross_entropy
/// The mean of −log softmax(logits) at the targets that count, in nats: logits `[…, V]`, targets `[…]` and `counts` `[…]`, 1 for a
/// target that is learned and 0 for one that is ignored, to a scalar.
///
/// # Exercise
/// Day 2's losses, before their mean: multiply them by `counts`, add them up, and divide by how many count: `multiply`, `sum(None)`,
/// `divide`.
pub fn masked_cross_entropy(logits: &Array, targets: &Array, counts: &Array) -> Result<Array> {
    let at_target = take_along_axis(logits, targets.expand_dims(-1)?, -1)?; // […, 1]
    let losses = logits
        .logsumexp_axis(-1, false)?
        .subtract(at_target.squeeze_axes(&[-1])?)?; // […]
    losses.multiply(counts)?.sum(None)?.divide(counts.sum(None)?)
}
// ANCHOR_END: masked_cross_entropy

// ANCHOR: reversed_sum
/// The sum of two numbers with its digits from the last to the first, as one adds on paper: each digit follows from two digits and a
/// carry.
///
/// # Exercise
/// In a loop: the last digits are `a % 10` and `b % 10`; what is left of the numbers is `a / 10` and `b / 10`. It ends when both
/// numbers and the carry are 0, but 0 + 0 has a digit, too.
pub fn reversed_sum(mut a: u64, mut b: u64) -> String {
    let (mut digits, mut carry) = (String::new(), 0);
    while a > 0 || b > 0 || carry > 0 || digits.is_empty() {
        let sum = a % 10 + b % 10 + carry;
        digits += &(sum % 10).to_string();
        (a, b, carry) = (a / 10, b / 10, sum / 10);
    }
    digits
}
// ANCHOR_END: reversed_sum
