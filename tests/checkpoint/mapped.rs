//! Weights that generation maps from their file: the same as those that are read, whoever wrote the file, which stays as it is.

use std::fs;
use std::path::Path;

use crate::common::{folder, largest_difference, mlx_gpt, succeed, train_tiny};
use mlx_gpt::checkpoint::Checkpoint;
use mlx_gpt::generate::CompletionOptions;
use mlx_gpt::generate::sampler::Sampling;

const WEIGHTS: &str = "model.safetensors";

/// Makes the header so many bytes longer, which moves all tensors: safetensors allows blanks at its end.
fn lengthen_header(file: &Path, by: usize) {
    let bytes = fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (header, data) = bytes[8..].split_at(length);
    let longer = [&((length + by) as u64).to_le_bytes()[..], header, &b"   "[..by], data].concat();
    fs::write(file, longer).unwrap();
}

fn assert_mapped_as_read(model: &Path) {
    let before = fs::read(model.join(WEIGHTS)).unwrap();
    let (read, mapped) = (
        Checkpoint::load(model).unwrap(),
        Checkpoint::load_mapped(model).unwrap(),
    );
    assert_eq!(read.parameters.names(), mapped.parameters.names());
    for name in read.parameters.names().iter() {
        let [read, mapped] = [&read, &mapped].map(|checkpoint| checkpoint.parameters.get(name).unwrap());
        assert_eq!(read.shape(), mapped.shape(), "{name}");
        // 16 bits stay so, and are the same numbers in 32.
        let same = mapped.as_dtype(read.dtype()).unwrap();
        assert!(read.eq_values(&same).unwrap(), "{name} of {}", model.display());
    }
    let greedy = CompletionOptions {
        max_new_tokens: 8,
        sampling: Sampling::GREEDY,
        ..Default::default()
    };
    let say = |checkpoint: &Checkpoint| checkpoint.language_model().unwrap().complete("the ", &greedy).unwrap();
    let (read, mapped) = (say(&read), say(&mapped));
    assert!(
        largest_difference(&read.logprobs, &mapped.logprobs) < 1e-3,
        "{}",
        model.display()
    );
    assert!(
        fs::read(model.join(WEIGHTS)).unwrap() == before,
        "{} was written to",
        model.display()
    );
}

#[test]
fn mapped_weights_are_those_that_are_read_and_their_file_stays() {
    let folder = folder();
    let path = folder.path();
    succeed(&mut train_tiny(path, &["--out", "run", "--steps", "2", "--embd", "32"]));
    for (out, options) in [
        ("full", &["--format", "hf"][..]),
        ("half", &["--format", "hf", "--dtype", "float16"]),
        ("brain", &["--format", "hf", "--dtype", "bfloat16"]),
        ("bits", &["--format", "mlx", "--bits", "4", "--group-size", "32"]),
    ] {
        succeed(
            mlx_gpt(path)
                .args(["export", "--checkpoint", "run", "--out", out])
                .args(options),
        );
        let model = path.join(out);
        // One after another they come to every remainder by four.
        for _ in 0..4 {
            assert_mapped_as_read(&model);
            lengthen_header(&model.join(WEIGHTS), 1);
        }
    }
}
