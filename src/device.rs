//! Which of MLX's devices computes.

use anyhow::{Result, bail};
use mlx_rs::{Device, DeviceType};
use serde::{Deserialize, Serialize};

/// MLX's two kinds of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    Cpu,
    Gpu,
}

impl Compute {
    /// The device that MLX computes on: what was selected, or else its GPU where it was built with Metal and finds one.
    pub fn current() -> Result<Self> {
        Ok(match Device::try_default()?.get_type()? {
            DeviceType::Gpu => Self::Gpu,
            DeviceType::Cpu => Self::Cpu,
        })
    }

    /// Makes this MLX's device for everything that follows.
    ///
    /// # Errors
    /// A GPU was asked for and MLX has none here.
    pub fn select(self) -> Result<()> {
        let current = Self::current()?;
        match self {
            Self::Gpu if current == Self::Cpu => {
                bail!("--device gpu: MLX has no GPU on this machine; leave it out or say --device cpu")
            }
            Self::Cpu if current == Self::Gpu => Device::set_default(&Device::cpu()),
            _ => {}
        }
        Ok(())
    }
}

impl std::fmt::Display for Compute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        })
    }
}
