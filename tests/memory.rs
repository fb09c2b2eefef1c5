//! What no memory can hold is refused in words: MLX ends the process where it cannot get an array.

mod common;

use std::process::Command;
use std::sync::Mutex;

use common::{fail, folder, mlx_gpt, random_checkpoint, saved, succeed};
use mlx_gpt::checkpoint::Checkpoint;
use mlx_gpt::compute::memory;
use mlx_gpt::config::{Device, Optimizer, Preset, TrainConfig};
use mlx_gpt::data::source::Source;
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
    let nano = Preset::Nano.train_config(Device::Cpu);
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
        (
            "attention with dropout",
            65,
            TrainConfig {
                dropout: 0.1,
                ..long.clone()
            },
        ),
        (
            "blocks that are computed again",
            65,
            TrainConfig {
                recompute: true,
                layers: 12,
                dropout: 0.1,
                ..long
            },
        ),
        ("logits", 20_000, nano),
    ] {
        let model = config.model_config(vocabulary);
        let parameters = init::initialize(&model, 1).unwrap();
        let count = parameters.count();
        let mut stepper = Stepper::new(&config, &model, &parameters, &Parameters::default()).unwrap();
        let mut state = TrainState::new(parameters, Parameters::default(), Optimizer::Adamw).unwrap();
        let source = Source::Text(Tokens::Memory((0..5000u32).map(|n| n % 60).collect()));
        mlx_rs::memory::clear_cache().unwrap();
        mlx_rs::memory::reset_peak_memory().unwrap();
        for step in 0..2 {
            let batches = stepper.micro_batches(&source, step);
            stepper.step(&mut state, batches).unwrap();
        }
        let peak = mlx_rs::memory::peak_memory().unwrap() as f64;
        let share = memory::training_step_bytes(&config, &model, count, count) / peak;
        assert!((0.5..1.0).contains(&share), "{what}: {share:.2} of the peak of {peak}");
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
        (
            &["--preset", "gpt3-175b", "--tokenizer", "char"],
            "4 rows of 2048 tokens through 96 layers of width 12288",
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

/// What `ulimit -v` leaves counts as the machine's memory does, and too little for MLX itself is refused at once.
#[test]
fn what_a_limit_leaves_counts() {
    let folder = folder();
    let limited = |kilobytes: u64, options: &[&str]| {
        let program = mlx_gpt(folder.path());
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -v {kilobytes}; exec \"$0\" \"$@\"")])
            .arg(program.get_program())
            .args(["train", "--device", "cpu", "--out", "run"])
            .args(options)
            .current_dir(folder.path());
        command
    };
    if !Command::new("sh")
        .args(["-c", "ulimit -v 4000000"])
        .status()
        .unwrap()
        .success()
    {
        return eprintln!("SKIPPED: there is no limit on memory here");
    }
    let least = 1024 * (256 + 128 * std::thread::available_parallelism().unwrap().get() as u64);
    // With much less, libraries do not even load, and say so.
    for kilobytes in [least - 100_000, least - 1] {
        let said = fail(&mut limited(kilobytes, &[]));
        assert!(
            said.contains("(ulimit -v), MLX takes") && said.contains("raise the limit"),
            "{said}"
        );
    }
    let large = ["--preset", "gpt2", "--batch-size", "64", "--steps", "1"];
    let said = fail(&mut limited(4_000_000, &large));
    assert!(said.contains("a limit leaves this process 3.81 GiB"), "{said}");
    assert!(!folder.path().join("run").exists());
}
