//! The device that MLX computes on.

use anyhow::{Result, bail};
use mlx_rs::DeviceType;

use crate::config::Device;

impl Device {
    /// The device that MLX computes on: what was selected, or else its GPU where it was built with one and finds it.
    ///
    /// # Errors
    /// MLX's.
    pub fn current() -> Result<Self> {
        Ok(match mlx_rs::Device::try_default()?.get_type()? {
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
            Self::Cpu if current == Self::Gpu => mlx_rs::Device::set_default(&mlx_rs::Device::cpu()),
            _ => {}
        }
        Ok(())
    }
}
