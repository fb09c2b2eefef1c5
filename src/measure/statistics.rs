//! Numbers of several runs in one.

/// The mean; of no numbers, not a number.
pub fn mean(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = numbers
        .into_iter()
        .fold((0.0, 0.0), |(sum, count), number| (sum + number, count + 1.0));
    sum / count
}

/// From the lowest to the highest.
pub fn spread(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let (low, high) = numbers
        .into_iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), number| {
            (low.min(number), high.max(number))
        });
    high - low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_spreads() {
        assert_eq!((mean([1.0, 2.0, 6.0]), spread([2.0, 1.0, 6.0])), (3.0, 5.0));
        assert_eq!((mean([7.0]), spread([7.0])), (7.0, 0.0));
        assert!(mean([]).is_nan());
    }
}
