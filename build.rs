//! Passes on what the build knows of MLX: its version, for `--version`, and where `scripts/setup.sh` put its shared
//! library, when it says so (on macOS MLX is linked in).

fn main() {
    println!("cargo:rerun-if-env-changed=MLX_GPT_RPATH");
    if let Ok(folder) = std::env::var("MLX_GPT_RPATH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
    let version = std::env::var("DEP_MLX_VERSION").unwrap_or_else(|_| "unknown".into());
    println!("cargo:rustc-env=MLX_VERSION={version}");
}
