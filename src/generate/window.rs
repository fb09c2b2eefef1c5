//! The context window: the tokens that the model attends to.

/// The last tokens of a sequence of any length.
#[derive(Clone, Debug)]
pub struct ContextWindow {
    ids: Vec<u32>,
    context: usize,
}

impl ContextWindow {
    /// An empty window of at most `context` tokens.
    pub fn new(context: usize) -> Self {
        Self {
            ids: Vec::with_capacity(context),
            context,
        }
    }

    /// Its tokens, the oldest first.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Adds a token. If the window was full, it first drops all but its last half, and returns true.
    ///
    /// Dropping half at once, and not the first token at each step, keeps the positions of the others for half a context:
    /// GPT-2 has an embedding for each position, so keys and values of tokens that move must be computed again.
    pub fn push(&mut self, id: u32) -> bool {
        let full = self.ids.len() == self.context;
        if full {
            self.ids.drain(..self.context - self.context / 2);
        }
        self.ids.push(id);
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_window_keeps_its_last_half() {
        let mut window = ContextWindow::new(6);
        assert!((0..6).all(|id| !window.push(id)));
        assert_eq!(window.ids(), [0, 1, 2, 3, 4, 5]);
        assert!(window.push(6));
        assert_eq!(window.ids(), [3, 4, 5, 6]);
        let mut smallest = ContextWindow::new(1);
        assert!(!smallest.push(7) && smallest.push(8));
        assert_eq!(smallest.ids(), [8]);
    }
}
