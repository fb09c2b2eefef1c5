//! A text as the tokens of GPT-2, and as those of a tokenizer that learned from the text itself.
//!
//! ```sh
//! cargo run --example tokenize -- 'to be, or not to be'
//! ```

use mlx_gpt::tokenizer::pieces::pieces;
use mlx_gpt::tokenizer::{Bpe, Pattern, SpecialTokenPolicy, Tokenizer, train_merges};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = std::env::args().nth(1).ok_or("give a text")?;

    let gpt2 = Tokenizer::gpt2()?;
    show("GPT-2", &gpt2, &text)?;

    // Twenty pairs of tokens that are often neighbours become tokens of their own.
    let merges = train_merges(&text, Pattern::Gpt2, 20, |_| ());
    let own: Tokenizer = Bpe::from_merges(&merges, Pattern::Gpt2, &[])?.into();
    show("learned from this text", &own, &text)?;
    Ok(())
}

fn show(name: &str, tokenizer: &Tokenizer, text: &str) -> Result<(), Box<dyn std::error::Error>> {
    let tokens = pieces(tokenizer, text, &SpecialTokenPolicy::TEXT)?;
    println!("{name}: {} tokens for {} bytes", tokens.len(), text.len());
    for token in &tokens {
        println!("{:>6}  {}", token.id, token.shown);
    }
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    assert_eq!(tokenizer.decode(&ids)?, text, "and back");
    Ok(())
}
