//! The merges of a tokenizer of which only the tokens are published: the exercise of minbpe, and what saving needs.
//!
//! A token of two bytes or more was made by a merge. Of which two parts? Of those that its bytes have become just
//! before it: merge them by all tokens of a lower rank, and two parts are left.

use super::basic::Pair;
use super::ranks::Ranks;

/// The two tokens that `token`, whose id is `id`, was merged from; none where its bytes don't come to two parts, which
/// no token that was learned by merging does.
pub fn recover_merge(ranks: &Ranks, token: &[u8], id: u32) -> Option<Pair> {
    let mut parts = Vec::with_capacity(2);
    ranks.merge(token, id, |part| parts.push(ranks.get(part)));
    match parts[..] {
        [Some(left), Some(right)] => Some((left, right)),
        _ => None,
    }
}
