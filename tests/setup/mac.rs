//! A Mac's, run on Linux: with the programs that it asks about the machine, and without those that a Mac does not have. Names of
//! options that only GNU's tools know are refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::common::stderr;
use crate::stage::Stage;

/// What of a Mac's programs the set-up calls; BSD's know no long options.
const TOOLS: [&str; 27] = [
    "ar", "basename", "cat", "chmod", "cksum", "cmp", "cp", "cut", "dirname", "gcc", "grep", "head", "ls", "mkdir",
    "mv", "paste", "rm", "rmdir", "sed", "sh", "sleep", "tail", "touch", "tr", "wc", "xargs", "as",
];

struct Mac {
    stage: Stage,
    path: String,
}

impl Mac {
    /// Apple silicon with macOS 15 and the Command Line Tools.
    fn new() -> Self {
        let stage = Stage::new();
        for (name, text) in [
            ("machine", "arm64"),
            ("arm64", "1"),
            ("version", "15.5"),
            ("host", "aarch64-apple-darwin"),
            ("device", "gpu 42"),
        ] {
            stage.tell(name, text);
        }
        fs::create_dir(stage.path.join("tools")).unwrap();
        let tools = stage.path.join("system");
        fs::create_dir(&tools).unwrap();
        for name in TOOLS {
            let tool = tools.join(name);
            let options = if ["gcc", "as"].contains(&name) { "none" } else { "--?*" };
            let script = format!(
                "#!/bin/sh\nfor word; do case $word in {options}) echo \"{name}: illegal option $word\" >&2; exit 64 ;; esac; done\n\
                 exec /usr/bin/{name} \"$@\"\n"
            );
            fs::write(&tool, script).unwrap();
            fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        }
        // Bash 3.2 where MAC_BASH names it.
        let bash = std::env::var("MAC_BASH").unwrap_or("/usr/bin/bash".into());
        std::os::unix::fs::symlink(bash, tools.join("bash")).unwrap();
        let programs = stage.programs();
        let folders = [programs.with_file_name("mac_programs"), programs, tools];
        let folders = folders.map(|folder| folder.to_str().unwrap().to_owned());
        Self {
            stage,
            path: folders.join(":"),
        }
    }

    fn with_xcode() -> Self {
        let mac = Self::new();
        mac.stage.tell("xcode", "");
        mac.stage.tell("metal", "");
        mac.add_cmake();
        mac
    }

    fn add_cmake(&self) {
        let cmake = self.stage.path.join("system/cmake");
        fs::write(&cmake, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&cmake, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn succeed(&self, backend: &str) -> String {
        self.stage.succeed(&[("PATH", &self.path), ("BACKEND", backend)])
    }

    fn fail(&self, backend: &str) -> String {
        self.stage.fail(&[("PATH", &self.path), ("BACKEND", backend)])
    }

    fn config(&self) -> PathBuf {
        self.stage.file(".cargo/config.toml")
    }
}

#[test]
fn with_xcode_mlx_rs_builds_mlx_as_published() {
    let mac = Mac::with_xcode();
    assert_eq!(mac.succeed(""), "");
    assert!(!mac.config().exists());
    assert!(mac.stage.fetched().is_empty());
    assert_eq!(mac.stage.read(".mlx/backend"), "source");
}

#[test]
fn the_command_line_tools_alone_are_enough() {
    let mac = Mac::new();
    let said = mac.succeed("");
    assert!(
        said.contains("1/4 fetching MLX for macOS 15 (mlx-metal==0.32.2"),
        "{said}"
    );
    assert!(said.contains("4/4 trying the GPU"), "{said}");
    assert_eq!(mac.stage.fetched(), ["mlx-metal"]);
    let config = fs::read_to_string(mac.config()).unwrap();
    let folder = mac.stage.file(".mlx");
    for line in [
        format!("MLX_GPT_RPATH = \"{}/mlx/lib\"", folder.display()),
        "MACOSX_DEPLOYMENT_TARGET = \"15.0\"".into(),
        "[target.aarch64-apple-darwin.mlx]".into(),
        "rustc-link-lib = [\"static=mlxc\", \"mlx\", \"c++\"]".into(),
        "version = \"0.32.2\"".into(),
    ] {
        assert!(config.contains(&line), "{line} in {config}");
    }
    for part in [
        "lib/libmlxc.a",
        "lib/bindings.rs",
        "mlx/lib/libmlx.dylib",
        "mlx/lib/mlx.metallib",
    ] {
        assert!(folder.join(part).exists(), "{part}");
    }
    let compiled = fs::read_to_string(mac.stage.path.join("compiled")).unwrap();
    assert!(
        compiled.contains("clang++ -arch arm64 -mmacosx-version-min=15.0 -std=c++20"),
        "{compiled}"
    );
    let installed = fs::read_to_string(mac.stage.path.join("installed")).unwrap();
    assert!(
        installed.contains("--locked --root .tools --version 0.72.1 bindgen-cli"),
        "{installed}"
    );
    assert_eq!(mac.succeed(""), "", "all is there, and remembered");
}

#[test]
fn the_wheel_is_the_one_for_this_macos() {
    for (version, platform) in [
        ("14.7.1", "macosx_14_0_arm64"),
        ("15.0", "macosx_15_0_arm64"),
        ("26.1", "macosx_26_0_arm64"),
    ] {
        let mac = Mac::new();
        mac.stage.tell("version", version);
        mac.succeed("wheel");
        let pip = fs::read_to_string(mac.stage.path.join("pip-called")).unwrap();
        assert!(
            pip.contains(&format!("--platform {platform} ")) && pip.contains("--require-hashes"),
            "{pip}"
        );
    }
    let mac = Mac::new();
    mac.stage.tell("version", "13.6");
    assert!(
        mac.fail("")
            .contains("needs macOS 14 or newer, and this is 13.6; update macOS")
    );
}

#[test]
fn with_neither_the_command_line_tools_are_named() {
    let mac = Mac::new();
    fs::remove_dir(mac.stage.path.join("tools")).unwrap();
    let said = mac.fail("");
    assert!(
        said.contains("the Command Line Tools are missing; run: xcode-select --install"),
        "{said}"
    );
    assert_eq!(mac.fail("wheel"), said);
}

#[test]
fn intel_and_rosetta_are_told_so() {
    let mac = Mac::new();
    mac.stage.tell("arm64", "0");
    mac.stage.tell("machine", "x86_64");
    assert!(
        mac.fail("")
            .contains("MLX needs Apple silicon; this Mac has an Intel processor")
    );
    mac.stage.tell("arm64", "1");
    assert!(
        mac.fail("")
            .contains("runs under Rosetta, for Intel's processors; run: arch -arm64 make setup")
    );
    mac.stage.tell("machine", "arm64");
    mac.stage.tell("host", "x86_64-apple-darwin");
    let said = mac.fail("");
    assert!(
        said.contains(
            "this Rust is for x86_64-apple-darwin; run: rustup toolchain install stable-aarch64-apple-darwin"
        ),
        "{said}"
    );
}

#[test]
fn each_way_names_the_other() {
    // Without Xcode.
    let mac = Mac::new();
    let output = mac
        .stage
        .command(&[("PATH", &mac.path), ("BACKEND", "source")])
        .output()
        .unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("missing: Xcode") && said.contains("missing: cmake"),
        "{said}"
    );
    assert!(
        said.ends_with("it needs the Command Line Tools alone: BACKEND=wheel make setup\n"),
        "{said}"
    );
    assert!(
        mac.fail("cuda")
            .contains("BACKEND is \"cuda\"; say wheel (MLX as its authors built it) or source")
    );
    // Where what was fetched does not compute.
    mac.stage.tell("device", "cpu 42");
    let said = mac.fail("");
    assert!(
        said.contains("does not compute on this Mac's GPU (cpu 42)") && said.contains("BACKEND=source make setup"),
        "{said}"
    );
    assert!(!mac.config().exists(), "nothing is built with it");
    mac.stage.tell("device", "gpu 42");
    assert!(
        mac.succeed("").contains("1/4 MLX for macOS 15 is there"),
        "it is not fetched again"
    );
}

#[test]
fn one_way_after_the_other() {
    let mac = Mac::with_xcode();
    mac.succeed("wheel");
    assert!(mac.config().exists());
    assert_eq!(mac.succeed(""), "", "remembered");
    mac.succeed("source");
    assert!(!mac.config().exists());
    assert_eq!(
        mac.succeed("wheel"),
        "setup: using MLX as its authors built it, which is in .mlx/\n"
    );
    assert_eq!(mac.stage.fetched(), ["mlx-metal"]);
    // A configuration of somebody's own is left alone.
    fs::write(mac.config(), "[build]\n").unwrap();
    assert!(
        mac.fail("wheel")
            .contains(".cargo/config.toml is not this script's; move it away")
    );
}

#[test]
fn a_failed_fetch_leaves_what_worked() {
    let mac = Mac::new();
    mac.succeed("");
    let worked = fs::read(mac.config()).unwrap();
    mac.stage.tell("version", "26.0");
    fs::remove_file(mac.stage.file(".mlx/complete")).unwrap();
    mac.stage.tell(
        "pip-says",
        "ERROR: HTTPSConnectionPool: Failed to establish a new connection: Network is unreachable\n",
    );
    let said = mac.fail("");
    assert!(
        said.contains("MLX's library could not be fetched: the network or the package index cannot be reached"),
        "{said}"
    );
    assert_eq!(fs::read(mac.config()).unwrap(), worked);
    assert!(mac.stage.file(".mlx/mlx/lib/mlx.metallib").exists() && mac.stage.file(".mlx/lib/libmlxc.a").exists());
}

/// MLX for a newer macOS that does not compute on this GPU leaves the one that did.
#[test]
fn what_does_not_compute_replaces_nothing() {
    let mac = Mac::new();
    mac.succeed("");
    fs::write(mac.stage.file(".mlx/complete"), "of older sources").unwrap();
    let parts = [".mlx/build", ".mlx/complete", ".cargo/config.toml"];
    let before = parts.map(|part| fs::read(mac.stage.file(part)).unwrap());
    mac.stage.tell("version", "26.0");
    mac.stage.tell("device", "nothing");
    assert!(mac.fail("").contains("MLX does not compute on this Mac's GPU"));
    assert_eq!(parts.map(|part| fs::read(mac.stage.file(part)).unwrap()), before);
    assert!(!mac.stage.file(".mlx/making").exists());
}
