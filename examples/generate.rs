//! Text from a trained model, as it comes.
//!
//! ```sh
//! cargo run --example generate -- runs/NAME 'ROMEO:'
//! ```

use std::io::{Write, stdout};

use mlx_gpt::{CompletionOptions, LanguageModel};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(prompt)) = (arguments.next(), arguments.next()) else {
        return Err("give a run or a checkpoint, and a prompt".into());
    };
    let model = LanguageModel::load(path)?;
    let options = CompletionOptions {
        max_new_tokens: 200,
        ..CompletionOptions::default()
    };
    print!("{prompt}");
    for token in model.stream(&prompt, &options)? {
        print!("{}", token?.text);
        stdout().flush()?;
    }
    println!();
    Ok(())
}
