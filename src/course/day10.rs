//! Day 10: other programs' weights, and low-rank adapters.

use std::collections::BTreeMap;

use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};

use super::day03::Weights;

// ANCHOR: from_hugging_face
/// GPT-2's weights from the tensors of Hugging Face's file. Linear weights are `[in, out]` there as here. Names may begin with
/// `transformer.`; old files have attention masks, `attn.bias` and `attn.masked_bias`, which are no weights; the tied head
/// `lm_head.weight` may be there beside `wte.weight` or instead of it.
///
/// # Exercise
/// Go through the tensors: `strip_prefix`, `ends_with`, `insert`. Then `remove` the head: it is the embedding where that is
/// missing, and an error, `Exception::custom(…)`, where it is not equal to it: `eq_values`.
pub fn from_hugging_face(tensors: BTreeMap<String, Array>) -> Result<Weights> {
    let mut weights = Weights::new();
    for (stored, array) in tensors {
        let name = stored.strip_prefix("transformer.").unwrap_or(&stored);
        let is_mask = name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
        if !is_mask {
            weights.insert(name.to_owned(), array);
        }
    }
    if let Some(head) = weights.remove("lm_head.weight") {
        let embedding = weights.entry("wte.weight".to_owned()).or_insert(head.clone()); // [V, C]
        if !embedding.eq_values(&head)? {
            return Err(Exception::custom("lm_head.weight is not tied to wte.weight"));
        }
    }
    Ok(weights)
}
// ANCHOR_END: from_hugging_face

// ANCHOR: from_linear
/// The same from a file of nanoGPT's, which has PyTorch's linear layers: their weights are `[out, in]`.
///
/// # Exercise
/// As above, then transpose the weights of `c_attn`, `c_proj` and `c_fc`: `ends_with`, `transpose()`.
pub fn from_linear(tensors: BTreeMap<String, Array>) -> Result<Weights> {
    let mut weights = from_hugging_face(tensors)?;
    for (name, array) in &mut weights {
        let ends = ["c_attn.weight", "c_proj.weight", "c_fc.weight"];
        if ends.iter().any(|end| name.ends_with(end)) {
            *array = array.transpose()?; // [in, out]
        }
    }
    Ok(weights)
}
// ANCHOR_END: from_linear

// ANCHOR: lora
/// A linear layer with a low-rank adapter: x `[…, in]`, `weight` W `[in, out]`, A `[rank, in]` and B `[out, rank]`, to
/// x W + scale · x Aᵀ Bᵀ, `[…, out]`.
///
/// # Exercise
/// `matmul`, `transpose`, `multiply`, `add`. From the left, so that the large product A B is never made.
pub fn lora(x: &Array, weight: &Array, a: &Array, b: &Array, scale: f32) -> Result<Array> {
    let adapted = x.matmul(a.transpose()?)?.matmul(b.transpose()?)?; // […, rank], then […, out]
    x.matmul(weight)?.add(adapted.multiply(Array::from_f32(scale))?)
}
// ANCHOR_END: lora

// ANCHOR: merge
/// The weight `[in, out]` of a linear layer that computes the same without an adapter: W + scale · Aᵀ Bᵀ.
///
/// # Exercise
/// `transpose`, `matmul`, `multiply`, `add`.
pub fn merge_lora(weight: &Array, a: &Array, b: &Array, scale: f32) -> Result<Array> {
    let product = a.transpose()?.matmul(b.transpose()?)?; // [in, out]
    weight.add(product.multiply(Array::from_f32(scale))?)
}
// ANCHOR_END: merge
