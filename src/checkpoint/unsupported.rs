//! Model files in unsupported formats: what they are, and how to convert them.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// An unsupported format: file extensions, magic bytes (empty if there are none), a description and a hint.
struct UnsupportedFormat {
    extensions: &'static [&'static str],
    magic: &'static [u8],
    what: &'static str,
    hint: &'static str,
}

const FORMATS: [UnsupportedFormat; 6] = [
    UnsupportedFormat {
        extensions: &[".pt", ".pth", ".ckpt", ".bin", ".pkl"],
        magic: b"",
        what: "a PyTorch pickle, which can run code and is not supported",
        hint: "load it in the program that wrote it and save the weights as a GPT-2 of transformers, with save_pretrained; docs/formats.md of this program's sources says how for nanoGPT's and build-nanogpt's",
    },
    UnsupportedFormat {
        extensions: &[".safetensors"],
        magic: b"",
        what: "a weights file without its model",
        hint: "give the folder that also contains config.json and a tokenizer",
    },
    UnsupportedFormat {
        extensions: &[".gguf"],
        magic: b"GGUF",
        what: "a model for llama.cpp, a format that is only exported",
        hint: "import the model that it was converted from",
    },
    UnsupportedFormat {
        extensions: &[".npz"],
        magic: b"",
        what: "weights in NumPy's format, which is not supported",
        hint: "save them as model.safetensors, with config.json beside them",
    },
    UnsupportedFormat {
        extensions: &[".ckpt.index", ".ckpt.meta", ".h5", ".data-00000-of-00001"],
        magic: b"",
        what: "a model in TensorFlow's format, which is not supported",
        hint: "OpenAI's own come with: mlx-gpt import gpt2; others with transformers' from_pretrained(from_tf=True) and save_pretrained",
    },
    UnsupportedFormat {
        extensions: &[".msgpack", ".onnx", ".ot"],
        magic: b"",
        what: "a model in another framework's format, which is not supported",
        hint: "save it with transformers' save_pretrained",
    },
];

/// Files that trainers leave beside a model.
const TRAINER_FILES: [&str; 5] = ["optimizer", "scheduler", "rng_state", "scaler", "training_args"];

/// Describes the unsupported model file at `path`, or in the folder at `path`, with a hint; `None` if there is none.
pub fn hint(path: &Path) -> Option<String> {
    let file = if path.is_dir() {
        unsupported_file_in(path)?
    } else {
        path.to_owned()
    };
    let format = format_of(&file)?;
    Some(format!("{} is {}; {}", file.display(), format.what, format.hint))
}

/// A folder's first model file by name in an unsupported format. safetensors files, which the folder itself is read for, and
/// trainers' files don't count.
fn unsupported_file_in(folder: &Path) -> Option<PathBuf> {
    let is_model_file = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        !TRAINER_FILES.iter().any(|beside| name.starts_with(beside)) && !name.ends_with(".safetensors")
    };
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| is_model_file(file) && format_of(file).is_some())
        .collect();
    files.sort();
    files.into_iter().next()
}

fn format_of(file: &Path) -> Option<&'static UnsupportedFormat> {
    if !file.is_file() {
        return None;
    }
    let name = file.file_name()?.to_string_lossy().to_lowercase();
    let mut head = [0; 4];
    let known = File::open(file).and_then(|mut file| file.read_exact(&mut head)).is_ok();
    let begins = |format: &&UnsupportedFormat| known && !format.magic.is_empty() && format.magic == head;
    let ends = |format: &&UnsupportedFormat| format.extensions.iter().any(|extension| name.ends_with(extension));
    FORMATS.iter().find(begins).or_else(|| FORMATS.iter().find(ends))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_files_and_folders_are_described() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(hint(folder.path()), None);
        assert_eq!(hint(&folder.path().join("none.pt")), None);
        for (name, bytes, expected) in [
            ("model.safetensors", &b"12345678"[..], "give the folder"),
            ("z.gguf", b"GGUF", "llama.cpp"),
            ("model.ckpt.index", b"", "TensorFlow"),
            ("ckpt.pt", b"PK\x03\x04", "PyTorch pickle"),
            ("a.bin", b"GGUF....", "llama.cpp"),
            ("Optimizer.pt", b"PK\x03\x04", "PyTorch pickle"),
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
