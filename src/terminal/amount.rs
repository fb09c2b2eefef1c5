//! Human-readable counts.

/// A count of parameters or tokens: `650`, `4.2 thousand`, `124.44 million`.
pub fn amount(count: usize) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..100_000 => format!("{:.1} thousand", count as f64 / 1e3),
        _ => format!("{:.2} million", count as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model of a lesson or a test is no "0.00 million parameters".
    #[test]
    fn small_counts_are_not_zero() {
        let said = [0, 999, 1_000, 4_225, 99_949, 100_000, 809_088, 124_439_808].map(amount);
        let expected = [
            "0",
            "999",
            "1.0 thousand",
            "4.2 thousand",
            "99.9 thousand",
            "0.10 million",
            "0.81 million",
            "124.44 million",
        ];
        assert_eq!(said, expected);
    }
}
