//! Which of MLX's devices computes.

use anyhow::{Result, bail};
use mlx_rs::DeviceType;

#[cfg(feature = "cli")]
pub(crate) use super::raw::disable_tf32;

use super::{limits, memory, raw};
use crate::config::Device;

impl Device {
    /// The device that MLX computes on: what was selected, or else its GPU where it was built with one and finds it.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn current() -> Result<Self> {
        Ok(match mlx_rs::Device::try_default()?.get_type()? {
            DeviceType::Gpu => Self::Gpu,
            DeviceType::Cpu => Self::Cpu,
        })
    }

    /// [Selects](Self::select) `asked`, or else the [current](Self::current) device, and returns it.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    pub fn select_or_current(asked: Option<Self>) -> Result<Self> {
        let device = asked.map_or_else(Self::current, Ok)?;
        device.select()?;
        Ok(device)
    }

    /// Makes this MLX's device for everything that follows.
    ///
    /// # Errors
    /// A GPU was asked for and MLX has none here; a limit leaves less memory than MLX takes; MLX's.
    pub fn select(self) -> Result<()> {
        limits::ensure_room_to_compute()?;
        // The current device says nothing of what there is: it is the one that was selected last.
        if self == Self::Gpu && !raw::has_gpu() {
            bail!("--device gpu: MLX has no GPU on this machine; leave it out or say --device cpu");
        }
        if self != Self::current()? {
            mlx_rs::Device::set_default(&match self {
                Self::Gpu => mlx_rs::Device::gpu(),
                Self::Cpu => mlx_rs::Device::cpu(),
            });
        }
        match self {
            Self::Gpu => memory::limit_gpu(),
            Self::Cpu => Ok(()),
        }
    }
}
