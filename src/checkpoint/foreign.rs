//! Models in files that are not read here: what they are, and what to do with them.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A kind of file: what names end with, what the file begins with, if that says more, what it is, and what to do.
struct UnsupportedFormat {
    endings: &'static [&'static str],
    magic: &'static [u8],
    what: &'static str,
    hint: &'static str,
}

const KINDS: [UnsupportedFormat; 6] = [
    UnsupportedFormat {
        endings: &[".pt", ".pth", ".ckpt", ".bin", ".pkl"],
        magic: b"",
        what: "a model that PyTorch pickled, which could run code and is not read",
        hint: "load it in the program that wrote it and save the weights as a GPT-2 of transformers, with save_pretrained; docs/formats.md says how for nanoGPT's and build-nanogpt's",
    },
    UnsupportedFormat {
        endings: &[".safetensors"],
        magic: b"",
        what: "the weights alone",
        hint: "give its folder, with config.json and a tokenizer beside it",
    },
    UnsupportedFormat {
        endings: &[".gguf"],
        magic: b"GGUF",
        what: "a model for llama.cpp, a format that is written and not read",
        hint: "import the model that it was made from",
    },
    UnsupportedFormat {
        endings: &[".npz"],
        magic: b"",
        what: "weights in NumPy's format, which is not read",
        hint: "save them as model.safetensors, with config.json beside them",
    },
    UnsupportedFormat {
        endings: &[".ckpt.index", ".ckpt.meta", ".h5", ".data-00000-of-00001"],
        magic: b"",
        what: "a model in TensorFlow's format, which is not read",
        hint: "OpenAI's own come with: mlx-gpt import gpt2; others with transformers' from_pretrained(from_tf=True) and save_pretrained",
    },
    UnsupportedFormat {
        endings: &[".msgpack", ".onnx", ".ot"],
        magic: b"",
        what: "a model in another framework's format, which is not read",
        hint: "save it with transformers' save_pretrained",
    },
];

const BESIDE_MODELS: [&str; 5] = ["optimizer", "scheduler", "rng_state", "scaler", "training_args"];

/// What is said of a path that holds a model only in files that are not read: such a file, or a folder with one.
pub fn hint(path: &Path) -> Option<String> {
    let file = if path.is_dir() {
        foreign_file_in(path)?
    } else {
        path.to_owned()
    };
    let kind = kind_of(&file)?;
    Some(format!("{} is {}; {}", file.display(), kind.what, kind.hint))
}

/// The first by name of a folder's files of such a kind: no weights alone, which the folder is asked for, and none of
/// what trainers leave beside a model.
fn foreign_file_in(folder: &Path) -> Option<PathBuf> {
    let is_one = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        !BESIDE_MODELS.iter().any(|beside| name.starts_with(beside)) && !name.ends_with(".safetensors")
    };
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| is_one(file) && kind_of(file).is_some())
        .collect();
    files.sort();
    files.into_iter().next()
}

fn kind_of(file: &Path) -> Option<&'static UnsupportedFormat> {
    if !file.is_file() {
        return None;
    }
    let name = file.file_name()?.to_string_lossy().to_lowercase();
    let mut head = [0; 4];
    let known = File::open(file).and_then(|mut file| file.read_exact(&mut head)).is_ok();
    let begins = |kind: &&UnsupportedFormat| known && !kind.magic.is_empty() && kind.magic == head;
    let ends = |kind: &&UnsupportedFormat| kind.endings.iter().any(|ending| name.ends_with(ending));
    KINDS.iter().find(begins).or_else(|| KINDS.iter().find(ends))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_told() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(hint(folder.path()), None);
        assert_eq!(hint(&folder.path().join("none.pt")), None);
        for (name, bytes, expected) in [
            ("model.safetensors", &b"12345678"[..], "give its folder"),
            ("z.gguf", b"GGUF", "llama.cpp"),
            ("model.ckpt.index", b"", "TensorFlow"),
            ("ckpt.pt", b"PK\x03\x04", "PyTorch pickled"),
            ("a.bin", b"GGUF....", "llama.cpp"),
            ("Optimizer.pt", b"PK\x03\x04", "PyTorch pickled"),
        ] {
            let file = folder.path().join(name);
            fs::write(&file, bytes).unwrap();
            let said = hint(&file).unwrap();
            assert!(said.contains(expected) && said.contains(name), "{said}");
        }
        fs::rename(folder.path().join("Optimizer.pt"), folder.path().join("optimizer.pt")).unwrap();
        let said = hint(folder.path()).unwrap();
        assert!(said.contains("a.bin"), "the first by name: {said}");
    }
}
