//! Texts that are written side by side, shown one after the other.

/// The first text that is not finished can be shown as it comes; those after it wait for their turn.
pub struct InOrder {
    texts: Vec<Waiting>,
    shown: usize,
}

#[derive(Clone)]
struct Waiting {
    text: String,
    finished: bool,
}

impl InOrder {
    /// Texts that begin with these.
    pub fn new(beginnings: impl Iterator<Item = String>) -> Self {
        let waiting = |text| Waiting { text, finished: false };
        Self {
            texts: beginnings.map(waiting).collect(),
            shown: 0,
        }
    }

    pub fn push(&mut self, number: usize, text: &str) {
        self.texts[number].text += text;
    }

    pub fn finish(&mut self, number: usize) {
        self.texts[number].finished = true;
    }

    /// What can be shown now.
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
        let mut texts = InOrder::new(["a:", "b:", "c:"].map(str::to_owned).into_iter());
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
