//! Sliding windows over a text, in which every token but the first is predicted exactly once.

use std::iter;

use super::batches::Batch;
use super::tokens::Tokens;

/// A window of a text: inputs `[start, start + length)`, each with the next token as its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvalWindow {
    /// Position of the first input.
    pub start: usize,
    /// Number of inputs.
    pub length: usize,
    /// Number of leading targets that earlier windows have scored; here they are context only.
    pub overlap: usize,
}

/// The windows over a text of `tokens` tokens. Window s begins at s · `stride` (from 1 to `context`) and scores the targets
/// that no earlier window has scored; the last one may be shorter.
///
/// A smaller stride gives each prediction more context: at least `context - stride + 1` tokens, except in the first window.
/// The work grows by `context / stride`.
///
/// ```
/// use mlx_gpt::data::windows::windows;
///
/// let spans: Vec<_> = windows(20, 8, 6).map(|w| (w.start + w.overlap, w.start + w.length)).collect();
/// assert_eq!(spans, [(0, 8), (8, 14), (14, 19)]); // inputs whose targets each window scores
/// ```
pub fn windows(tokens: usize, context: usize, stride: usize) -> impl Iterator<Item = EvalWindow> {
    let inputs = tokens.saturating_sub(1);
    (0..inputs)
        .step_by(stride)
        .map(move |start| EvalWindow {
            start,
            length: context.min(inputs - start),
            overlap: if start == 0 { 0 } else { context - stride },
        })
        .take_while(|window| window.overlap < window.length)
}

/// Batches of up to `rows` consecutive windows of equal length.
pub fn batches(
    tokens: &Tokens,
    windows: impl Iterator<Item = EvalWindow>,
    rows: usize,
) -> impl Iterator<Item = (Vec<EvalWindow>, Batch)> {
    let mut windows = windows.peekable();
    iter::from_fn(move || {
        let length = windows.peek()?.length;
        let mut group = Vec::with_capacity(rows);
        while group.len() < rows
            && let Some(window) = windows.next_if(|window| window.length == length)
        {
            group.push(window);
        }
        let starts: Vec<usize> = group.iter().map(|window| window.start).collect();
        Some((group, Batch::gather(tokens, &starts, length)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_token_but_the_first_is_predicted_once_and_in_order(
            tokens in 0usize..300,
            context in 1usize..40,
            stride in 1usize..40,
        ) {
            let stride = stride.min(context);
            let predicted: Vec<usize> = windows(tokens, context, stride)
                .flat_map(|w| w.start + 1 + w.overlap..w.start + 1 + w.length)
                .collect();
            prop_assert!(predicted.into_iter().eq(1..tokens.max(1)));
        }

        #[test]
        fn predictions_look_at_enough_of_what_came_before(
            tokens in 2usize..300,
            context in 1usize..40,
            stride in 1usize..40,
        ) {
            let stride = stride.min(context);
            for (number, window) in windows(tokens, context, stride).enumerate() {
                prop_assert_eq!(window.start, number * stride);
                prop_assert!(window.length <= context);
                for position in window.start + 1 + window.overlap..window.start + 1 + window.length {
                    let looked_at = position - window.start;
                    prop_assert!(looked_at >= position.min(context - stride + 1));
                }
            }
        }

        #[test]
        fn batches_hold_the_tokens_of_their_windows(
            tokens in 2u32..300,
            context in 1usize..40,
            stride in 1usize..40,
            rows in 1usize..10,
        ) {
            let text = Tokens::Memory((0..tokens).collect()); // a token is its position
            let expected: Vec<EvalWindow> = windows(tokens as usize, context, stride.min(context)).collect();
            let mut seen = Vec::new();
            for (group, batch) in batches(&text, expected.iter().copied(), rows) {
                prop_assert!(group.len() <= rows && group.len() == batch.rows);
                for (window, (inputs, targets)) in group
                    .iter()
                    .zip(batch.inputs.chunks(batch.context()).zip(batch.targets.chunks(batch.context())))
                {
                    let start = window.start as u32;
                    prop_assert!(inputs.iter().copied().eq(start..start + window.length as u32));
                    prop_assert!(targets.iter().zip(inputs).all(|(target, input)| *target == input + 1));
                }
                seen.extend(group);
            }
            prop_assert_eq!(seen, expected);
        }
    }

    #[test]
    fn without_overlap_windows_lie_end_to_end() {
        let spans: Vec<_> = windows(20, 8, 8).map(|w| (w.start, w.length, w.overlap)).collect();
        assert_eq!(spans, [(0, 8, 0), (8, 8, 0), (16, 3, 0)]);
        assert_eq!(windows(1, 8, 8).count() + windows(0, 8, 1).count(), 0);
    }
}
