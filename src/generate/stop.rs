//! Stop strings in streamed text. No tokens, no model.

/// Streaming matcher of stop strings: returns the text before the first stop string that is complete.
///
/// Text that may begin a stop string is held back until that is decided. The result depends on the text alone, not on how
/// it is split into chunks: the stop string that ends first matches, and of those that end together the longest.
///
/// ```
/// use mlx_gpt::generate::stop::StopStrings;
///
/// let mut stops = StopStrings::new(vec!["\nUser:".into()]);
/// assert_eq!(stops.push("Hello!\n"), "Hello!"); // the new line may begin the stop string
/// assert_eq!(stops.push("Us and them"), "\nUs and them"); // it did not
/// assert_eq!(stops.push("\nUser: hi"), "");
/// assert!(stops.stopped());
/// ```
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<String>,
    buffer: String,
    stopped: bool,
}

impl StopStrings {
    /// A matcher of `stops`; empty strings among them are ignored.
    pub fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        Self {
            stops,
            buffer: String::new(),
            stopped: false,
        }
    }

    /// Adds `text`; returns the text that cannot belong to a stop string. Empty after a stop string.
    pub fn push(&mut self, text: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.buffer += text;
        let complete = self
            .stops
            .iter()
            .filter_map(|stop| self.buffer.find(stop.as_str()).map(|start| (start + stop.len(), start)))
            .min();
        let certain = match complete {
            Some((_, start)) => {
                self.stopped = true;
                self.buffer.truncate(start);
                start
            }
            None => self.partial_match_start(),
        };
        self.buffer.drain(..certain).collect()
    }

    /// Whether a stop string has matched.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Returns the text that was held back, at the end of the stream.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.buffer)
    }

    /// Start of the longest suffix of the buffer that is a prefix of a stop string.
    fn partial_match_start(&self) -> usize {
        let begins_stop = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.buffer[*at..]));
        let mut starts = self.buffer.char_indices().map(|(at, _)| at);
        starts.find(begins_stop).unwrap_or(self.buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// What the documentation says, by looking at all places at once.
    fn cut<'a>(text: &'a str, stops: &[String]) -> (&'a str, bool) {
        let ends = stops.iter().filter(|stop| !stop.is_empty()).flat_map(|stop| {
            let starts = text.char_indices().map(|(at, _)| at);
            starts
                .filter(|&at| text[at..].starts_with(stop.as_str()))
                .map(|at| (at + stop.len(), at))
        });
        match ends.min() {
            Some((_, start)) => (&text[..start], true),
            None => (text, false),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
        /// Few characters, so that stop strings are found, overlap and begin in vain.
        #[test]
        fn pieces_joined_are_the_text_up_to_the_stop_string(
            pieces in vec("[ab\n😀]{0,5}", 0..12),
            stops in vec("[ab\n😀]{0,4}", 0..4),
        ) {
            let text = pieces.concat();
            let (expected, stopped) = cut(&text, &stops);
            let mut scanner = StopStrings::new(stops.clone());
            let (mut given, mut come) = (String::new(), String::new());
            for piece in &pieces {
                given += &scanner.push(piece);
                come += piece;
                // No more waits than can begin a stop string.
                if !scanner.stopped() {
                    let waits = come.strip_prefix(given.as_str()).unwrap();
                    let begins = |stop: &String| stop.starts_with(waits) && stop != waits;
                    prop_assert!(waits.is_empty() || stops.iter().any(begins), "{:?}", waits);
                }
            }
            given += &scanner.finish();
            prop_assert_eq!(given, expected);
            prop_assert_eq!(scanner.stopped(), stopped);
        }
    }

    #[test]
    fn the_stop_string_that_ends_first_counts_and_then_the_longest() {
        let all = |text: &str, stops: &[&str]| {
            let mut scanner = StopStrings::new(stops.iter().map(|&stop| stop.to_owned()).collect());
            scanner.push(text) + &scanner.finish()
        };
        assert_eq!(all("xabcd", &["abcd", "bc"]), "xa");
        assert_eq!(all("xabcd", &["bc", "abc"]), "x");
        assert_eq!(all("aab", &["ab"]), "a");
        assert_eq!(all("aab", &[""]), "aab");
    }
}
