//! Where the tests, and the learner's program, whose build script this is too, find MLX's library (on Linux).

fn main() {
    println!("cargo::rerun-if-env-changed=MLX_GPT_RPATH");
    if let Ok(folder) = std::env::var("MLX_GPT_RPATH") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
