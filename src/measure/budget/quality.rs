//! What a loss means for the text that a model writes.

/// How samples of a model with that loss, in bits per byte of text, are likely to read: a sentence.
pub fn quality(bits_per_byte: f64) -> &'static str {
    match bits_per_byte {
        ..1.0 => "Samples will likely read like the text for a sentence or two, and repeat parts of it.",
        ..1.8 => "Samples will likely have real words in sentences that mostly hold together, without going anywhere.",
        ..2.4 => {
            "Samples will likely have the text's layout and mostly real words, in sentences that make little sense."
        }
        ..3.0 => "Samples will likely have the text's layout and many invented words.",
        _ => "Samples will likely have the text's letters and word lengths, and few real words.",
    }
}

#[cfg(test)]
mod tests {
    use super::quality;

    #[test]
    fn lower_losses_read_better() {
        // A character model of tiny Shakespeare after 0, 250 and 2000 steps, and a text that is known by heart.
        let said = [6.0, 2.6, 2.2, 0.5].map(quality);
        assert!(said.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(said[1].contains("invented"));
    }
}
