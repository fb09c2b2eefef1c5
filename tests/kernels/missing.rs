//! A library of MLX that lacks what is replaced.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::{fail, folder, mlx_gpt, succeed};

/// What is replaced, and how its symbol begins.
const SYMBOLS: [(&str, &str); 10] = [
    ("Scheduler::enqueue", "_ZN3mlx4core9scheduler9Scheduler7enqueueE"),
    (
        "Scheduler::signal_event",
        "_ZN3mlx4core9scheduler9Scheduler12signal_eventE",
    ),
    ("Scheduler::wait_event", "_ZN3mlx4core9scheduler9Scheduler10wait_eventE"),
    ("addmm", "_ZN3mlx4core5addmmE"),
    ("fast::layer_norm", "_ZN3mlx4core4fast10layer_normE"),
    ("fast::rms_norm", "_ZN3mlx4core4fast8rms_normE"),
    (
        "fast::scaled_dot_product_attention",
        "_ZN3mlx4core4fast28scaled_dot_product_attentionE",
    ),
    ("logsumexp", "_ZN3mlx4core9logsumexpERKNS0_5arrayEib"),
    ("matmul", "_ZN3mlx4core6matmulE"),
    ("take", "_ZN3mlx4core4takeERKNS0_5arrayES3_iSt"),
];

/// Gives a symbol another name of the same length, wherever it stands.
fn rename(library: &mut [u8], symbol: &str) -> usize {
    let starts: Vec<usize> = library
        .windows(symbol.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == symbol.as_bytes())
        .map(|(at, _)| at)
        .collect();
    for at in &starts {
        library[at + 1] = b'Y';
    }
    starts.len()
}

#[test]
fn a_missing_symbol_is_one_line_at_start() {
    let folder = folder();
    let prepared = Path::new(env!("MLX_GPT_RPATH"));
    let own = prepared.parent().unwrap().parent().unwrap();
    let libraries = folder.path().join("mlx/lib");
    std::fs::create_dir_all(&libraries).unwrap();
    let others = folder.path().join("mlx_cpu.libs");
    std::fs::create_dir(&others).unwrap();
    for entry in std::fs::read_dir(own.join("mlx_cpu.libs")).unwrap() {
        let entry = entry.unwrap();
        symlink(entry.path(), others.join(entry.file_name())).unwrap();
    }
    let whole = std::fs::read(prepared.join("libmlx.so")).unwrap();
    let start = |bytes: &[u8]| {
        std::fs::write(libraries.join("libmlx.so"), bytes).unwrap();
        let mut command = mlx_gpt(folder.path());
        command.arg("runs").env("LD_LIBRARY_PATH", &libraries);
        command
    };
    succeed(&mut start(&whole));
    for (function, symbol) in SYMBOLS {
        let mut library = whole.clone();
        assert!(rename(&mut library, symbol) > 0, "{symbol} is not in MLX's library");
        let said = fail(&mut start(&library));
        assert!(
            said.contains(&format!("MLX's library has no {function} ")) && said.contains("make setup"),
            "{said}"
        );
    }

    // The one function that is not MLX's own.
    let mut files = std::fs::read_dir(&others).unwrap().map(|entry| entry.unwrap().path());
    let blas = files
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("libblas"))
        .unwrap();
    let mut library = std::fs::read(&blas).unwrap();
    assert!(rename(&mut library, "cblas_sgemm") > 0);
    std::fs::remove_file(&blas).unwrap();
    std::fs::write(&blas, library).unwrap();
    let said = fail(&mut start(&whole));
    assert!(said.contains("MLX's library has no cblas_sgemm "), "{said}");
}
