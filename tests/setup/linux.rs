//! On Linux.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::common::disk::Disk;
use crate::common::{stderr, wait_until};
use crate::stage::Stage;

#[test]
fn all_parts_are_made_once() {
    let stage = Stage::new();
    let said = stage.succeed(&[]);
    assert!(said.contains("4/4 putting all in its place"), "{said}");
    for part in [
        "lib/libmlxc.a",
        "lib/bindings.rs",
        "bin/compile_kernel",
        "mlx/lib/libmlx.so",
    ] {
        assert!(stage.file(&format!(".mlx/{part}")).exists(), "{part}");
    }
    assert_eq!(stage.succeed(&[]), "", "all is there");
    // A part that went missing is made again, and what is there is not fetched again.
    fs::remove_file(stage.file(".mlx/lib/libmlxc.a")).unwrap();
    assert!(stage.succeed(&[]).contains("2/4 MLX and OpenBLAS are there"));
    assert_eq!(stage.fetched(), ["mlx-cpu", "scipy-openblas32"]);
}

/// What was being replaced when the power went is there again.
#[test]
fn an_interruption_in_the_middle_of_a_replacement_is_made_good() {
    let stage = Stage::new();
    stage.succeed(&[]);
    fs::rename(stage.file(".mlx/mlx"), stage.file(".mlx/mlx.before")).unwrap();
    fs::create_dir(stage.file(".mlx/lib.before")).unwrap();
    assert_eq!(
        stage.succeed(&[]),
        "setup: using MLX's cpu backend, which is in .mlx/\n"
    );
    assert!(stage.file(".mlx/mlx/lib/libmlx.so").exists() && !stage.file(".mlx/lib.before").exists());
}

#[test]
fn a_second_set_up_waits_and_may_be_stopped() {
    let stage = Stage::new();
    stage.tell("pip-waits", "");
    let mut first = stage.start("first");
    wait_until("pip", &mut first, || stage.told("pip-began"));
    let mut second = stage.start("second");
    wait_until("the second waits", &mut second, || {
        stage
            .said("second")
            .contains("another set-up is at work in this checkout; waiting for its end")
    });
    interrupt(&second);
    assert_eq!(second.wait().unwrap().code(), Some(130), "{}", stage.said("second"));

    // A third one that is not stopped finds all done.
    let mut third = stage.start("third");
    wait_until("the third waits", &mut third, || {
        stage.said("third").contains("waiting")
    });
    stage.forget("pip-waits");
    assert!(first.wait().unwrap().success(), "{}", stage.said("first"));
    assert!(third.wait().unwrap().success(), "{}", stage.said("third"));
    assert_eq!(stage.said("third").lines().count(), 1, "{}", stage.said("third"));
    assert_eq!(stage.succeed(&[]), "");
}

#[test]
fn ctrl_c_in_a_set_up_leaves_nothing_half_made() {
    let stage = Stage::new();
    stage.tell("pip-waits", "");
    let mut first = stage.start("first");
    wait_until("pip", &mut first, || stage.told("pip-began"));
    interrupt(&first);
    assert_eq!(first.wait().unwrap().code(), Some(130), "{}", stage.said("first"));
    let left = stage.list(".mlx");
    assert!(left.iter().all(|name| !name.contains("making")), "{left:?}");
    stage.forget("pip-waits");
    stage.succeed(&[]);
}

/// As Ctrl-C does: all processes of a group.
fn interrupt(child: &Child) {
    let command = format!("kill -INT -- -{}", child.id());
    assert!(Command::new("bash").args(["-c", &command]).status().unwrap().success());
}

/// What pip says where a name cannot be resolved, and where the contents are not what was published.
const NO_NETWORK: &str = "WARNING: Retrying (Retry(total=1, connect=None, read=None)) after connection broken by \
    'NewConnectionError('Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')'\n\
    ERROR: Could not find a version that satisfies the requirement mlx-cpu==0.32.2 (from versions: none)\n\
    ERROR: No matching distribution found for mlx-cpu==0.32.2\n";
const WRONG_HASH: &str = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n    mlx-cpu==0.32.2:\n\
    Expected sha256 00\n             Got        11\n";
const TOO_OLD: &str = "ERROR: Could not find a version that satisfies the requirement mlx-cpu==0.32.2 (from versions: none)\n\
    ERROR: No matching distribution found for mlx-cpu==0.32.2\n";

#[test]
fn a_failed_fetch_is_one_line_and_leaves_what_worked() {
    let stage = Stage::new();
    stage.succeed(&[]);
    let before = [".mlx/mlx/lib/libmlx.so", ".mlx/lib/libmlxc.a", ".cargo/config.toml"].map(|file| stage.file(file));
    let contents = || before.each_ref().map(|file| fs::read(file).unwrap());
    let worked = contents();
    // Another version is wanted.
    let requirements = stage.file("scripts/linux/requirements.txt");
    fs::write(&requirements, fs::read_to_string(&requirements).unwrap() + "# newer\n").unwrap();
    for (pip, expected) in [
        (
            NO_NETWORK,
            "the network or the package index cannot be reached; mend the connection, then run this again",
        ),
        (WRONG_HASH, "what was fetched is not what was published"),
        (
            TOO_OLD,
            "the package index has none for this system; glibc must be 2.35 or newer",
        ),
    ] {
        stage.tell("pip-says", pip);
        let said = stage.fail(&[]);
        assert!(
            said.contains("could not be fetched: ") && said.contains(expected),
            "{said}"
        );
        assert!(contents() == worked, "what worked is there: {said}");
    }
    stage.forget("pip-says");

    // The crates' registry is out of reach after that: what was fetched is kept.
    stage.tell("no-network", "");
    let said = stage.fail(&[]);
    assert!(said.contains("Cargo could not fetch the crates: the network"), "{said}");
    assert!(contents() == worked, "what worked is there");
    stage.forget("no-network");
    fs::remove_file(stage.path.join("fetched")).unwrap();
    stage.succeed(&[]);
    assert!(!stage.told("fetched"), "it went on from there");
}

/// Compilers say pages where a disk is full.
#[test]
fn a_failed_compilation_is_one_line() {
    let stage = Stage::new();
    let page = "In file included from one.cpp:1:\none.h: At global scope:\none.h:1: warning: something\n".repeat(100);
    let full = "one.cpp: fatal error: error writing to /tmp/x.s: No space left on device\n";
    stage.tell("compiler-says", &format!("{page}{full}{page}"));
    let said = stage.fail(&[]);
    assert!(
        said.contains("the C interface did not compile: no space is left (one.cpp: fatal error"),
        "{said}"
    );
    stage.tell(
        "compiler-says",
        &format!("{page}one.cpp:7: error: no such thing\n{page}"),
    );
    let said = stage.fail(&[]);
    assert!(
        said.contains("the C interface did not compile: one.cpp:7: error: no such thing"),
        "{said}"
    );
}

#[test]
fn a_full_disk_is_one_line() {
    let disk = Disk::mount();
    if !disk.mounted {
        return;
    }
    let stage = Stage::in_folder(disk.path());
    for left in [0, 8 << 10, 64 << 10] {
        let _ = fs::remove_dir_all(stage.file(".mlx"));
        disk.empty();
        disk.fill(left);
        let said = stage.fail(&[]);
        assert!(said.contains("no space is left"), "{left} bytes: {said}");
    }
    disk.empty();
    stage.succeed(&[]);
}

#[test]
fn the_backend_is_chosen_by_the_driver_and_remembered() {
    for (driver, chosen) in [
        (None, "cpu"),
        (Some("535.104.05"), "cpu"),
        (Some("570.86.15"), "cuda-12"),
        (Some("580.95"), "cuda-13"),
    ] {
        let stage = Stage::new();
        if let Some(driver) = driver {
            stage.tell("driver", driver);
        }
        let said = stage.succeed(&[]);
        assert_eq!(stage.read(".mlx/backend"), chosen, "{said}");
        assert_eq!(
            said.contains("535 is too old for MLX, which needs 550"),
            driver == Some("535.104.05"),
            "{said}"
        );
        stage.forget("driver");
        if chosen != "cuda-12" {
            stage.succeed(&[]);
            assert_eq!(stage.read(".mlx/backend"), chosen, "remembered");
        }
    }
    let stage = Stage::new();
    stage.tell("driver", "535.104.05");
    let said = stage.fail(&[("BACKEND", "cuda")]);
    assert!(
        said.contains("needs NVIDIA's driver 550 or newer, and this is 535; update it, or run BACKEND=cpu make setup"),
        "{said}"
    );
    let said = stage.fail(&[("BACKEND", "metal")]);
    assert!(
        said.contains("BACKEND is \"metal\"; say cpu (MLX on the processor) or cuda"),
        "{said}"
    );
}

#[test]
fn both_backends_stand_side_by_side() {
    let stage = Stage::new();
    stage.succeed(&[("BACKEND", "cpu")]);
    let of_cpu = stage.read(".cargo/config.toml");
    // Without a driver NVIDIA's libraries, which are large, are stand-ins.
    let said = stage.succeed(&[("BACKEND", "cuda")]);
    assert!(
        said.contains("no driver answers: stand-ins for NVIDIA's libraries"),
        "{said}"
    );
    assert!(stage.read(".cargo/config.toml").contains("/.mlx/cuda/mlx/lib"));
    let expected = ["mlx-cpu", "scipy-openblas32", "mlx-cuda-13", "scipy-openblas32"];
    assert_eq!(stage.fetched(), expected);
    // Back and forth, nothing is fetched or built.
    for (backend, folder) in [("cpu", ".mlx/"), ("cuda", ".mlx/cuda/")] {
        let said = stage.succeed(&[("BACKEND", backend)]);
        assert!(
            said.starts_with("setup: using MLX's ") && said.ends_with(&format!("which is in {folder}\n")),
            "{said}"
        );
        assert_eq!(stage.succeed(&[]), "", "remembered");
    }
    stage.succeed(&[("BACKEND", "cpu")]);
    assert_eq!(stage.read(".cargo/config.toml"), of_cpu);
    assert_eq!(stage.fetched(), expected);
}

/// A stand-in gives the functions that MLX's library takes, and one line when one is called.
#[test]
fn stand_ins_link_and_say_what_is_missing() {
    let stage = Stage::new();
    stage.succeed(&[("BACKEND", "cuda")]);
    let code = stage.path.join("main.c");
    fs::write(&code, "int mlx_own(void); int main(void) { return mlx_own(); }").unwrap();
    let program = stage.path.join("main");
    let linked = Command::new("gcc")
        .arg(&code)
        .arg(stage.file(".mlx/cuda/mlx/lib/libmlx.so"))
        .arg(format!(
            "-Wl,-rpath,{0},-rpath-link,{0}",
            stage.file(".mlx/cuda/mlx_cuda_13.libs").display()
        ))
        .args(["-Wl,--allow-shlib-undefined", "-o"]) // the driver's functions, which the program has
        .arg(&program)
        .output()
        .unwrap();
    assert!(linked.status.success(), "{}", stderr(&linked));
    let output = Command::new(&program)
        .env("LD_LIBRARY_PATH", stage.file(".mlx/cuda/mlx_cuda_13.libs"))
        .output()
        .unwrap();
    assert_eq!(
        stderr(&output),
        "error: this build needs libnccl.so.2, which is missing; run: make setup\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn with_a_driver_what_nobody_has_of_nvidia_is_fetched() {
    let stage = Stage::new();
    stage.succeed(&[("BACKEND", "cuda")]);
    assert!(stage.file(".mlx/cuda/stand-ins").exists());
    // A driver has come, and PyTorch's wheels with some of the libraries.
    stage.tell("driver", "580.95.05");
    let python = stage.path.join("python/nvidia");
    for file in ["cudnn/lib/libcudnn.so.9", "nccl/lib/libnccl.so.2"] {
        fs::create_dir_all(python.join(file).parent().unwrap()).unwrap();
        fs::write(python.join(file), "").unwrap();
    }
    let path = stage.path.join("python");
    let has = [("PYTHONPATH", path.to_str().unwrap()), ("CUDA_HOME", "/nowhere")];
    let before = stage.fetched().len();
    stage.succeed(&has);
    assert_eq!(
        stage.fetched()[before..],
        [
            "nvidia-cublas",
            "nvidia-cuda-crt",
            "nvidia-cuda-nvrtc",
            "nvidia-cuda-runtime",
            "nvidia-cufft"
        ]
    );
    assert!(!stage.file(".mlx/cuda/stand-ins").exists());
    assert_eq!(
        fs::read_link(stage.file(".mlx/cuda/nvidia/nccl")).unwrap(),
        python.join("nccl")
    );
    assert!(stage.file(".mlx/cuda/nvidia/cu13/lib/libcublasLt.so.13").exists());
    assert_eq!(stage.succeed(&has), "");
}

/// Programs that the set-up calls are there, and none that it doesn't need.
#[test]
fn a_machine_without_packages_names_them() {
    let stage = Stage::new();
    let bare = stage.path.join("bare");
    fs::create_dir(&bare).unwrap();
    for name in [
        "bash",
        "cat",
        "cmp",
        "cp",
        "cut",
        "dirname",
        "flock",
        "grep",
        "head",
        "id",
        "mkdir",
        "mv",
        "rm",
        "sed",
        "sha256sum",
        "tail",
        "uname",
    ] {
        let found = ["/usr/bin", "/bin"]
            .iter()
            .map(|place| format!("{place}/{name}"))
            .find(|path| fs::exists(path).unwrap());
        std::os::unix::fs::symlink(found.unwrap(), bare.join(name)).unwrap();
    }
    for name in ["cargo", "rustc", "python3"] {
        std::os::unix::fs::symlink(stage.programs().join(name), bare.join(name)).unwrap();
    }
    let output = stage
        .command(&[("PATH", bare.to_str().unwrap())])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = stderr(&output);
    assert!(
        said.contains("this system has no apt-get; install what Debian calls g++ bindgen"),
        "{said}"
    );
}
