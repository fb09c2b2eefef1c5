//! Times the tokenizer for `scripts/bench_tokenizer.py`, which asks for one measurement at a time so that rounds of this
//! program and of its peers can take turns: `encode THREADS`, `train` or `load` on a line of standard input, seconds on
//! a line of standard output. Its argument is a text file.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mlx_gpt::tokenizer::{Bpe, Pattern, published};

/// Tokens of the vocabulary that is trained.
const VOCAB_SIZE: usize = 256 + 4096;

fn main() -> Result<()> {
    // Cargo passes `--bench`; a run without a file, as by `cargo test --benches`, measures nothing.
    let Some(file) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) else {
        return Ok(());
    };
    let text = std::fs::read_to_string(&file).with_context(|| format!("{file} cannot be read"))?;
    let gpt2 = published::gpt2()?;
    let pools = [1, 2].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build());
    let [Ok(one), Ok(two)] = pools else { bail!("no threads") };
    for line in std::io::stdin().lock().lines() {
        let start = Instant::now();
        match line?.trim() {
            "encode 1" => _ = black_box(one.install(|| gpt2.encode(&text))),
            "encode 2" => _ = black_box(two.install(|| gpt2.encode(&text))),
            "train" => _ = black_box(one.install(|| Bpe::train(&text, VOCAB_SIZE, Pattern::Gpt2, &[], |_| ()))?),
            "load" => _ = black_box(published::gpt2()?),
            "load cl100k" => _ = black_box(published::cl100k()?),
            other => bail!("no such measurement: {other}"),
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("{seconds}");
        std::io::stdout().flush()?;
    }
    Ok(())
}
