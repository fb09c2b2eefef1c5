//! Checks of the environment.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use indicatif::HumanBytes;
use mlx_rs::transforms::compile::compile;
use mlx_rs::{Array, ops};
use serde::Serialize;
use sysinfo::System;

use crate::checkpoint::runs::run_of;
use crate::checkpoint::{self, Checkpoint};
use crate::compute::kernels::{self, BlasThroughput, Compiler, KernelState};
use crate::compute::numerics::processor;
use crate::compute::{GpuBackend, gpu_backend, memory};
use crate::config::Device;
use crate::terminal::amount::amount;
use crate::terminal::console::quoted;

/// The result of a check.
#[derive(Serialize)]
pub struct Check {
    /// What was checked.
    pub what: &'static str,
    /// What was found.
    pub found: String,
    /// The command that fixes it, if there is a problem.
    #[serde(rename = "remedy")]
    pub fix: Option<String>,
}

impl Check {
    fn good(what: &'static str, found: String) -> Self {
        Self { what, found, fix: None }
    }
}

/// Processor, memory, MLX's device, and whether MLX computes and compiles.
pub fn machine() -> Vec<Check> {
    let mut system = System::new();
    system.refresh_memory();
    let (name, cores) = processor();
    let mut checks = vec![
        Check::good("processor", format!("{name}, {cores} cores")),
        Check::good(
            "memory",
            format!(
                "{}, {} available",
                HumanBytes(system.total_memory()),
                HumanBytes(system.available_memory())
            ),
        ),
        match Device::current() {
            Ok(device) => Check::good("MLX device", device_words(device).into()),
            Err(error) => Check {
                what: "MLX device",
                found: format!("{error:#}"),
                fix: Some("make setup".into()),
            },
        },
    ];
    let gpu = memory::gpu_memory().filter(|_| matches!(Device::current(), Ok(Device::Gpu)));
    checks.extend(gpu.map(|memory| Check::good("GPU memory", format!("{} to use at once", HumanBytes(memory)))));
    let started = Instant::now();
    checks.push(match compute() {
        Ok(()) => Check::good(
            "MLX",
            format!("works, eager and compiled ({:.1} s)", started.elapsed().as_secs_f64()),
        ),
        Err(error) => Check {
            what: "MLX",
            found: format!("{error:#}"),
            fix: Some("make setup".into()),
        },
    });
    checks.push(float32_products());
    if matches!(Device::current(), Ok(Device::Cpu)) {
        checks.extend([replaced_kernels(), blas(), compiler()].into_iter().flatten());
    }
    checks
}

/// Which of MLX's CPU functions are replaced, after running each. `None` where MLX is linked as it comes.
fn replaced_kernels() -> Option<Check> {
    let setting = kernels::setting()?;
    let tried = kernels::run_all().map(|()| kernels::replaced());
    let what = "kernels";
    Some(match tried {
        Err(error) => Check {
            what,
            found: format!("{error:#}"),
            fix: Some("make setup".into()),
        },
        Ok(_) if setting == "off" => Check::good(what, "off (MLX_GPT_KERNELS): all CPU kernels are MLX's own".into()),
        Ok(kernels) => {
            let missed = kernels.iter().filter(|kernel| kernel.state == KernelState::Replaced);
            let missed: Vec<&str> = missed.map(|kernel| kernel.function.as_str()).collect();
            match missed.join(", ") {
                missed if missed.is_empty() => {
                    let replaced = kernels
                        .iter()
                        .filter(|kernel| kernel.state == KernelState::Called)
                        .count();
                    Check::good(
                        what,
                        format!("{setting}: {replaced} of MLX's CPU functions are replaced"),
                    )
                }
                missed => Check {
                    what,
                    found: format!("{setting}, but {missed} were not used"),
                    fix: Some("make setup && cargo build".into()),
                },
            }
        }
    })
}

/// The BLAS, and whether its kernels are made for this processor. `None` where MLX has no BLAS beneath it.
fn blas() -> Option<Check> {
    let (name, rate) = (kernels::blas()?, BlasThroughput::measure()?);
    Some(Check {
        what: "BLAS",
        found: format!("{name}: {rate}"),
        fix: rate.hint(),
    })
}

/// The compiler of MLX's fused kernels. `None` where MLX compiles by other means.
fn compiler() -> Option<Check> {
    let what = "compiler";
    Some(match kernels::compiler()? {
        Compiler::Found(name) => Check::good(what, name),
        Compiler::Missing => Check {
            what,
            found: kernels::NO_COMPILER.into(),
            fix: Some("make setup".into()),
        },
    })
}

fn device_words(device: Device) -> &'static str {
    match (device, gpu_backend()) {
        (Device::Cpu, _) => "cpu",
        (Device::Gpu, Some(GpuBackend::Metal)) => "gpu (Metal)",
        (Device::Gpu, Some(GpuBackend::Cuda)) => "gpu (CUDA)",
        (Device::Gpu, None) => "gpu",
    }
}

/// Whether products of float32 keep its 24 bits. GPUs may round their factors to TF32, which has 11 and is faster: right
/// where it was asked for.
fn float32_products() -> Check {
    let asked = std::env::var("MLX_ENABLE_TF32").is_ok_and(|value| value != "0");
    let (found, fix) = match keeps_float32() {
        Ok(true) => ("products keep its 24 bits".into(), None),
        Ok(false) if asked => (
            "products round their factors to TF32, 11 bits, as MLX_ENABLE_TF32 asks".into(),
            None,
        ),
        Ok(false) => (
            "products round their factors to TF32, 11 bits".into(),
            Some("export MLX_ENABLE_TF32=0".into()),
        ),
        Err(error) => (format!("{error:#}"), Some("make setup".into())),
    };
    Check {
        what: "float32",
        found,
        fix,
    }
}

/// Whether `x I` is x where x is the float32 after 1. It has 24 bits and its products with 0 and 1 are exact, so that no
/// order of sums changes it; x rounded to fewer bits is 1. `[256, 256]`, since smaller products may take other kernels.
fn keeps_float32() -> Result<bool> {
    let x = 1.0 + f32::EPSILON;
    let product = Array::full::<f32>(&[256, 256], Array::from_f32(x))?.matmul(ops::identity::<f32>(256)?)?;
    Ok(product.try_as_slice::<f32>()?.iter().all(|&y| y == x))
}

/// A compiled function over small whole numbers, whose result is exact on every device.
fn compute() -> Result<()> {
    let mut function = compile(
        |inputs: &[Array]| {
            Ok(vec![
                inputs[0].matmul(&inputs[0])?.multiply(&inputs[0])?.add(&inputs[0])?,
            ])
        },
        false,
    );
    let ones = ops::ones::<f32>(&[16, 16])?;
    let result = function(&[ones])?;
    ensure!(
        result[0].try_as_slice::<f32>()?.iter().all(|&x| x == 17.0),
        "MLX computes wrong numbers"
    );
    Ok(())
}

/// Whether a checkpoint's hashes match, and whether it loads.
pub fn checkpoint(folder: &Path) -> Check {
    let hashes = if checkpoint::has_hashes(folder) {
        checkpoint::verify(folder).map(|files| format!("{files} files as they were written"))
    } else {
        Ok("no hashes were recorded to compare with".into())
    };
    let looked = hashes.and_then(|hashes| Ok((hashes, Checkpoint::load(folder)?)));
    match looked {
        Ok((hashes, checkpoint)) => Check::good(
            "checkpoint",
            format!(
                "{}: {hashes}, {} parameters",
                folder.display(),
                amount(checkpoint.parameters.count())
            ),
        ),
        Err(error) => Check {
            what: "checkpoint",
            found: format!("{error:#}"),
            fix: Some(put_aside(folder)),
        },
    }
}

/// The command that moves a damaged checkpoint out of a run that has others, from which training then goes on.
fn put_aside(folder: &Path) -> String {
    let again = "restoring it from its source, or training again";
    let Some((run, real)) = run_of(folder).zip(folder.canonicalize().ok()) else {
        return again.into();
    };
    match run.steps() {
        Ok(steps) if steps.len() > 1 => {
            let step = real.file_name().unwrap_or_default().to_string_lossy();
            let aside = run.folder.with_file_name(format!("{}-{step}-damaged", run.name()));
            format!("mv {} {}", quoted(&real), quoted(&aside))
        }
        _ => again.into(),
    }
}
