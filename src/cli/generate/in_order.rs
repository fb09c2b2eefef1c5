//! Output of texts that are generated in parallel, printed one after the other.

/// The first unfinished text is printed as it is generated; later ones are buffered.
pub struct OrderedOutput {
    texts: Vec<Buffered>,
    shown: usize,
}

#[derive(Clone)]
struct Buffered {
    text: String,
    finished: bool,
}

impl OrderedOutput {
    /// One text for each prefix, which it begins with.
    pub fn new(prefixes: impl Iterator<Item = String>) -> Self {
        let buffered = |text| Buffered { text, finished: false };
        Self {
            texts: prefixes.map(buffered).collect(),
            shown: 0,
        }
    }

    /// Appends to a text.
    pub fn push(&mut self, number: usize, text: &str) {
        self.texts[number].text += text;
    }

    /// Marks a text as complete, so that the next one can be printed.
    pub fn finish(&mut self, number: usize) {
        self.texts[number].finished = true;
    }

    /// Takes what can be printed now.
    pub fn take(&mut self) -> String {
        let mut text = String::new();
        while let Some(next) = self.texts.get_mut(self.shown) {
            text += &std::mem::take(&mut next.text);
            if !next.finished {
                break;
            }
            self.shown += 1;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_wait_for_their_turn() {
        let mut texts = OrderedOutput::new(["a:", "b:", "c:"].map(str::to_owned).into_iter());
        assert_eq!(texts.take(), "a:");
        texts.push(1, "1");
        assert_eq!(texts.take(), "");
        texts.push(0, "0");
        assert_eq!(texts.take(), "0");
        texts.finish(1);
        texts.push(2, "2");
        assert_eq!(texts.take(), "");
        texts.finish(0);
        assert_eq!(texts.take(), "b:1c:2");
        texts.finish(2);
        assert_eq!(texts.take(), "");
    }
}
