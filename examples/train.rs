//! A small GPT that learns from a text of one's own, and then writes.
//!
//! ```sh
//! cargo run --example train -- notes.txt runs/notes
//! ```

use std::path::Path;

use mlx_gpt::checkpoint::Losses;
use mlx_gpt::config::{Device, Preset, TrainConfig};
use mlx_gpt::data::dataset::Dataset;
use mlx_gpt::train::{Interrupt, Observer, Session, train};
use mlx_gpt::{CompletionOptions, LanguageModel};

/// Prints the losses, and lets the run go on to its end.
struct Printer;

impl Interrupt for Printer {
    fn requested(&self) -> bool {
        false
    }
}

impl Observer for Printer {
    fn evaluated(&mut self, session: &Session, losses: Losses, tokens_per_second: f64) {
        let (step, Losses { train, val }) = (session.step(), losses);
        println!("step {step}: training {train:.4}, validation {val:.4}, {tokens_per_second:.0} tokens a second");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(corpus), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("give a text, a folder for the run and, if not 2000, a number of steps".into());
    };
    let device = Device::current()?;
    let config = TrainConfig {
        corpus,
        steps: arguments.next().map_or(Ok(2000), |steps| steps.parse())?,
        ..Preset::Nano.train_config(device)
    };
    let dataset = Dataset::open(&config.corpus)?;
    let mut session = Session::start(config, &dataset, Path::new(&folder))?;
    train(&mut session, &mut Printer)?;

    let model = LanguageModel::load(folder)?;
    let completion = model.complete("", &CompletionOptions::default())?;
    println!("{}", completion.text);
    Ok(())
}
