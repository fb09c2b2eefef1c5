//! The merges of a tokenizer of which only the tokens are published: an exercise in minbpe, needed here for saving.
//!
//! Each token of two or more bytes was made by one merge. Its two parts are what its bytes merge to using only tokens of
//! lower rank.

use super::Pair;
use super::ranks::Ranks;

/// The two tokens that `token`, with the id `id`, was merged from; `None` if its bytes don't merge to two parts, which
/// cannot happen for a token that was learned by merging.
pub fn recover_merge(ranks: &Ranks, token: &[u8], id: u32) -> Option<Pair> {
    let mut parts = Vec::with_capacity(2);
    ranks.merge(token, id, |part| parts.push(ranks.get(part)));
    match parts[..] {
        [Some(left), Some(right)] => Some((left, right)),
        _ => None,
    }
}
