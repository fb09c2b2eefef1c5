//! What no memory can hold is refused in words: MLX ends the process where it cannot get an array.

mod common;

use std::sync::Mutex;

use clap::ValueEnum;
use common::{fail, folder, mlx_gpt, random_checkpoint, saved, succeed};
use mlx_gpt::checkpoint::Checkpoint;
use mlx_gpt::compute::memory;
use mlx_gpt::config::Device;
use mlx_gpt::config::{Optimizer, Preset, TrainConfig};
use mlx_gpt::data::tokens::Tokens;
use mlx_gpt::model::init;
use mlx_gpt::model::parameters::Parameters;
use mlx_gpt::tokenizer::{CharTokenizer, Tokenizer};
use mlx_gpt::train::step::{Stepper, TrainState};

/// MLX reports the peak of the process: whoever makes arrays in it has it alone.
static ARRAYS: Mutex<()> = Mutex::new(());

/// Estimates are bounds from below, or they would refuse what works; and no less than half of the peak that MLX reports.
#[test]
fn estimates_of_a_step_are_below_what_it_takes_and_not_far_below() {
    let _alone = ARRAYS.lock();
    Device::Cpu.select().unwrap();
    let nano = Preset::Nano.train(Device::Cpu);
    let long = TrainConfig {
        context: 1024,
        batch_size: 2,
        threads: 2,
        ..nano.clone()
    };
    for (what, vocabulary, config) in [
        (
            "parameters",
            65,
            TrainConfig {
                embd: 512,
                batch_size: 2,
                ..nano.clone()
            },
        ),
        ("attention", 65, long.clone()),
        ("attention with dropout", 65, TrainConfig { dropout: 0.1, ..long }),
        ("logits", 20_000, nano),
    ] {
        let model = config.model(vocabulary);
        let parameters = init::initialize(&model, 1).unwrap();
        let count = parameters.count();
        let mut stepper = Stepper::new(&config, &model, &parameters, &Parameters::default()).unwrap();
        let mut state = TrainState::new(parameters, Parameters::default(), Optimizer::Adamw).unwrap();
        let tokens = Tokens::Memory((0..5000u32).map(|n| n % 60).collect());
        mlx_rs::memory::clear_cache().unwrap();
        mlx_rs::memory::reset_peak_memory().unwrap();
        for step in 0..2 {
            let batches = stepper.micro_batches(&tokens, step);
            stepper.step(&mut state, batches).unwrap();
        }
        let peak = mlx_rs::memory::peak_memory().unwrap() as f64;
        let share = memory::of_step(&config, &model, count, count) / peak;
        assert!((0.5..1.0).contains(&share), "{what}: {share:.2} of the peak of {peak}");
    }
}

/// A step writes new parameters and moments into the buffers of the old ones: at its peak there are those and the gradients,
/// and little more, in whichever functions it is compiled.
#[test]
fn a_step_does_not_hold_its_state_twice() {
    let _alone = ARRAYS.lock();
    Device::Cpu.select().unwrap();
    for &optimizer in Optimizer::value_variants() {
        for (threads, grad_accum) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            // Many small matrices: what is computed ahead, and the activations of 8 tokens, are little beside them.
            let config = TrainConfig {
                layers: 24,
                embd: 128,
                context: 8,
                batch_size: 1,
                optimizer,
                threads,
                grad_accum,
                ..Preset::Nano.train(Device::Cpu)
            };
            let model = config.model(65);
            let parameters = init::initialize(&model, 1).unwrap();
            let copy = 4.0 * parameters.count() as f64;
            let mut stepper = Stepper::new(&config, &model, &parameters, &Parameters::default()).unwrap();
            let mut state = TrainState::new(parameters, Parameters::default(), optimizer).unwrap();
            let tokens = Tokens::Memory((0..5000u32).map(|n| n % 60).collect());
            let mut copies = 0.0_f64;
            for step in 0..4 {
                let batches = stepper.micro_batches(&tokens, step);
                mlx_rs::memory::clear_cache().unwrap();
                mlx_rs::memory::reset_peak_memory().unwrap();
                stepper.step(&mut state, batches).unwrap();
                copies = copies.max(mlx_rs::memory::peak_memory().unwrap() as f64 / copy);
            }
            // The state and the gradients; with Muon, momentum and a stack of all matrices as well.
            let update = match optimizer {
                Optimizer::Adamw => 4.0,
                Optimizer::Muon => 4.0,
            };
            // The state, the gradients so far, and those of a micro-batch.
            let accumulation = match optimizer {
                Optimizer::Adamw => 5.0,
                Optimizer::Muon => 4.0,
            };
            let most = if grad_accum > 1 { accumulation } else { update } + 0.3;
            let what = format!("{optimizer:?}, {threads} thread(s), {grad_accum} micro-batch(es)");
            eprintln!("{what}: {copies:.2} copies of the parameters");
            assert!(
                copies < most,
                "{what}: {copies:.2} copies of the parameters, at most {most}"
            );
        }
    }
}

#[test]
fn training_that_no_memory_can_hold_is_refused_and_leaves_nothing() {
    let folder = folder();
    for (options, expected) in [
        (&["--context", "100000"][..], "12 rows of 100000 tokens"),
        (
            &["--preset", "gpt2-xl", "--tokenizer", "char", "--batch-size", "100000"],
            "100000 rows of 1024 tokens",
        ),
    ] {
        let said = fail(
            mlx_gpt(folder.path())
                .args(["train", "--device", "cpu", "--out", "run"])
                .args(options),
        );
        assert!(said.contains(expected) && said.contains("lower --batch-size"), "{said}");
        assert!(!folder.path().join("run").exists());
    }
}

/// A model with 16 heads that sees as many tokens as that at once.
fn far_sighted(folder: &std::path::Path, tokenizer: Tokenizer, context: usize) -> Checkpoint {
    let _alone = ARRAYS.lock();
    let mut checkpoint = random_checkpoint(folder, tokenizer, 16, 16);
    checkpoint.model.context = context;
    checkpoint.parameters = init::initialize(&checkpoint.model, 1).unwrap();
    saved(checkpoint)
}

#[test]
fn evaluation_in_windows_that_no_memory_can_hold_is_refused() {
    let folder = folder();
    // The logits of a whole window would take 201 GB.
    far_sighted(folder.path(), Tokenizer::gpt2().unwrap(), 1_000_000);
    let eval = |text: String| {
        std::fs::write(folder.path().join("text.txt"), text).unwrap();
        let mut command = mlx_gpt(folder.path());
        command.args([
            "eval",
            "--device",
            "cpu",
            "--checkpoint",
            "model",
            "--corpus",
            "text.txt",
        ]);
        command
    };
    let said = fail(&mut eval("to be ".repeat(500_100)));
    assert!(said.contains("1 row(s) of 1000000 tokens"), "{said}");
    succeed(&mut eval("to be ".repeat(5)));
}

#[test]
fn generation_takes_the_memory_of_what_it_has_read_and_no_more() {
    let folder = folder();
    let tokenizer = CharTokenizer::from_text("To be, or not to be: that is the question");
    far_sighted(folder.path(), Tokenizer::Char(tokenizer), 200_000);
    // Of its context of 200,000 tokens it reads 6,000 in pieces: attention's weights over all at once would take 2.3 GB.
    let prompt = "to be ".repeat(1000);
    succeed(mlx_gpt(folder.path()).args([
        "generate",
        "--device",
        "cpu",
        "--checkpoint",
        "model",
        "--max-new-tokens",
        "2",
        "--prompt",
        &prompt,
    ]));
}
