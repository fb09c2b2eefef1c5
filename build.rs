//! Passes on what the build knows of MLX: its version, for `--version`; whether functions of it are replaced; and where its shared
//! library is, beside an installed program or in the checkout. Where mlx-rs built MLX there is none: it is linked in.

fn main() {
    println!("cargo:rerun-if-env-changed=MLX_GPT_RPATH");
    if let Ok(folder) = std::env::var("MLX_GPT_RPATH") {
        // Where `make install` puts it. First, so that an installed program does not depend on the checkout.
        let apple = std::env::var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|vendor| vendor == "apple");
        let beside_program = if apple { "@loader_path" } else { "$ORIGIN" };
        println!("cargo:rustc-link-arg=-Wl,-rpath,{beside_program}/../share/mlx-gpt/mlx/lib");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
    // Whether the library that is linked for MLX can be asked which of MLX's functions it replaces (src/compute/kernels.rs).
    println!("cargo:rustc-check-cfg=cfg(mlx_kernels)");
    if std::env::var_os("DEP_MLX_KERNELS").is_some() {
        println!("cargo:rustc-cfg=mlx_kernels");
    }
    let version = std::env::var("DEP_MLX_VERSION").unwrap_or_else(|_| "unknown".into());
    println!("cargo:rustc-env=MLX_VERSION={version}");
}
