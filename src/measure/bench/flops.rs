//! FLOPs and bytes per token, from the model's configuration.

use crate::config::ModelConfig;
use crate::model::init::{ParameterSpec, layout};
use crate::model::ngrams;

/// Parameters used for every token: all except embedding tables, of which a few rows are read. The token embedding counts
/// where it is the output projection too.
pub fn parameters_per_token(model: &ModelConfig) -> usize {
    layout(model)
        .iter()
        .filter(|spec| {
            !["wpe.weight", ngrams::TABLE].contains(&spec.name.as_str())
                && (spec.name != "wte.weight" || model.components.tie_head)
        })
        .map(ParameterSpec::count)
        .sum()
}

/// FLOPs of training on a token in rows of `context` tokens: 6 N + 12 · layers · embd · context, with
/// N = [`parameters_per_token`] (Chowdhery et al. 2022, PaLM, appendix B; N as in nanoGPT's `estimate_mfu`).
///
/// Two for each parameter forward and four backward; attention's two products are counted in full, with masked pairs, as in
/// that paper.
pub fn training_flops_per_token(model: &ModelConfig, context: usize) -> u64 {
    let attention = 12 * model.layers * model.embd * context;
    (6 * parameters_per_token(model) + attention) as u64
}

/// Bytes of float32 weights that are read to generate one token of one sequence.
pub fn weight_bytes_per_token(model: &ModelConfig) -> u64 {
    (size_of::<f32>() * parameters_per_token(model)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Components, Preset};

    /// A block of width C has 12 C² weights, 9 C biases of its linear layers and 4 C of its norms; the last norm has 2 C, the
    /// head V · C.
    #[test]
    fn counts_are_those_worked_out_by_hand() {
        let nano = Preset::Nano.model_config(65);
        let n = 4 * (12 * 128 * 128 + 13 * 128) + 2 * 128 + 65 * 128;
        assert_eq!((n, parameters_per_token(&nano)), (801_664, n));
        assert_eq!(training_flops_per_token(&nano, 64), 5_203_200); // 4,809,984 + 393,216
        assert_eq!(weight_bytes_per_token(&nano), 3_206_656);

        // GPT-2's published count is 124,439,808 with 1024 · 768 position embeddings.
        let gpt2 = Preset::Gpt2.model_config(50257);
        assert_eq!(parameters_per_token(&gpt2), 123_653_376);
        assert_eq!(training_flops_per_token(&gpt2, 64), 748_998_144); // 741,920,256 + 7,077,888
    }

    #[test]
    fn an_untied_head_counts_in_place_of_the_embedding() {
        let tied = Preset::Nano.model_config(65);
        let mut untied = tied.clone();
        untied.components = Components {
            tie_head: false,
            ..tied.components
        };
        assert_eq!(parameters_per_token(&untied), parameters_per_token(&tied));
    }
}
