//! What each head of a trained GPT looks at: for every token of a text the one that it takes most from.
//!
//! ```sh
//! cargo run --example attention -- runs/NAME 'ROMEO: speak'
//! ```

use std::path::Path;

use mlx_gpt::checkpoint::Checkpoint;
use mlx_gpt::checkpoint::runs::find_checkpoint;
use mlx_gpt::model::Gpt;
use mlx_rs::Array;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(text)) = (arguments.next(), arguments.next()) else {
        return Err("give a run or a checkpoint, and a text".into());
    };
    let checkpoint = Checkpoint::load(&find_checkpoint(Some(Path::new(&path)))?)?;
    let mut ids = checkpoint.tokenizer.encode(&text)?;
    ids.truncate(checkpoint.model.context);
    if ids.is_empty() {
        return Err("the text has no tokens; give another one".into());
    }
    let tokens: Vec<String> = ids
        .iter()
        .map(|&id| checkpoint.tokenizer.decode(&[id]))
        .collect::<Result<_, _>>()?;

    let gpt = Gpt::new(&checkpoint.model, &checkpoint.parameters)?;
    let length = ids.len();
    let weights = gpt.attention_weights(&Array::from_slice(&ids, &[1, length as i32]))?; // [1, H, T, T] a layer
    for (layer, weights) in weights.iter().enumerate() {
        let weights: Vec<f32> = weights.to_vec_exact()?;
        for (head, rows) in weights.chunks(length * length).enumerate() {
            println!("layer {layer}, head {head}");
            for (place, row) in rows.chunks(length).enumerate() {
                let most = (0..=place).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(place);
                println!(
                    "    {:?} looks at {:?}, {:.0} %",
                    tokens[place],
                    tokens[most],
                    100.0 * row[most]
                );
            }
        }
    }
    Ok(())
}
