//! The bus and the lines that a panel is connected to.

use std::cell::Cell;
use std::fmt::Debug;
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, ensure};
use embedded_hal::digital::{self, InputPin};
use linux_embedded_hal::gpio_cdev::{Chip, LineRequestFlags};
use linux_embedded_hal::spidev::{SpiModeFlags, SpidevOptions};
use linux_embedded_hal::{CdevPin, SpidevDevice};

/// Pulses a second. Panels take 10 MHz or more; long wires do not.
const SPI_HERTZ: u32 = 4_000_000;

/// A refresh takes up to 5 seconds at room temperature, and longer in the cold.
const LONGEST_REFRESH: Duration = Duration::from_secs(40);

/// What a panel is connected to.
pub struct Pins {
    /// The bus, with the panel's select line.
    pub spi: SpidevDevice,
    /// Says that the panel is at work.
    pub busy: Busy,
    /// Tells data from commands.
    pub dc: CdevPin,
    /// Resets the panel.
    pub rst: CdevPin,
    /// Supplies the panel, as long as it is held.
    pub _power: Option<CdevPin>,
    /// Whether the panel was busy for too long.
    pub patience: Patience,
}

impl Pins {
    /// Opens the bus of a panel and the lines that the environment names.
    ///
    /// # Errors
    /// A device isn't there or may not be used, or the environment names no lines.
    pub fn open(device: &str) -> Result<Self> {
        let chip = std::env::var("MLX_GPT_EPD_GPIO").unwrap_or_else(|_| "/dev/gpiochip0".into());
        let lines = Lines::from(&std::env::var("MLX_GPT_EPD_PINS").unwrap_or_default())?;
        ensure_usable(device, "SPI", "sudo raspi-config nonint do_spi 0", "spi")?;
        ensure_usable(
            &chip,
            "GPIO",
            "ls /dev/gpiochip*, and say which in MLX_GPT_EPD_GPIO",
            "gpio",
        )?;
        let mut spi = SpidevDevice::open(device).map_err(|error| bus_error(device, &error))?;
        let options = SpidevOptions::new()
            .max_speed_hz(SPI_HERTZ)
            .mode(SpiModeFlags::SPI_MODE_0)
            .build();
        spi.configure(&options)
            .with_context(|| format!("{device} is no SPI bus"))?;
        let mut chip = Chip::new(&chip).with_context(|| format!("{chip} is no GPIO chip"))?;
        let mut pin = |line: u32, flags: LineRequestFlags, value: u8| -> Result<CdevPin> {
            let handle = chip
                .get_line(line)
                .and_then(|line| line.request(flags, value, "mlx-gpt-epd"));
            handle.and_then(CdevPin::new).with_context(|| {
                format!("GPIO line {line} cannot be taken; end the program that holds it (gpioinfo says which), or say other lines in MLX_GPT_EPD_PINS")
            })
        };
        let patience = Patience::default();
        Ok(Self {
            spi,
            _power: lines
                .power
                .map(|line| pin(line, LineRequestFlags::OUTPUT, 1))
                .transpose()?,
            busy: Busy {
                pin: pin(lines.busy, LineRequestFlags::INPUT, 0)?,
                since: None,
                patience: patience.clone(),
            },
            dc: pin(lines.dc, LineRequestFlags::OUTPUT, 0)?,
            rst: pin(lines.reset, LineRequestFlags::OUTPUT, 1)?,
            patience,
        })
    }
}

/// A device that isn't there, or that this user may not use.
fn ensure_usable(device: &str, what: &str, enable: &str, group: &str) -> Result<()> {
    match std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(Path::new(device))
    {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(anyhow!(
            "{device} is not there: {what} is off, or has another name; on a Raspberry Pi: {enable}"
        )),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(anyhow!(
            "this user may not use {device}; run sudo usermod -aG {group} $USER, then log in again"
        )),
        Err(error) => Err(Error::new(error).context(format!("{device} cannot be opened"))),
        Ok(_) => Ok(()),
    }
}

/// A failed transfer.
pub fn bus_error(device: &str, error: &impl Debug) -> Error {
    anyhow!("{device} cannot be written: {error:?}")
}

/// The numbers of a chip's lines.
#[derive(Debug, PartialEq, Eq)]
struct Lines {
    reset: u32,
    dc: u32,
    busy: u32,
    power: Option<u32>,
}

impl Lines {
    /// Those of Waveshare's boards, but for what `text` says, as in `reset=17,dc=25,busy=24,power=none`.
    fn from(text: &str) -> Result<Self> {
        let mut lines = Self {
            reset: 17,
            dc: 25,
            busy: 24,
            power: Some(18),
        };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, number) = part.split_once('=').unwrap_or((part, ""));
            let number: Option<u32> = number.parse().ok();
            match (name, number) {
                ("reset", Some(number)) => lines.reset = number,
                ("dc", Some(number)) => lines.dc = number,
                ("busy", Some(number)) => lines.busy = number,
                ("power", number) if number.is_some() || part == "power=none" => lines.power = number,
                _ => ensure!(
                    false,
                    "MLX_GPT_EPD_PINS has {part:?}; say lines as in reset=17,dc=25,busy=24,power=none"
                ),
            }
        }
        Ok(lines)
    }
}

/// Whether a panel was busy for too long.
#[derive(Clone, Default)]
pub struct Patience(Rc<Cell<bool>>);

impl Patience {
    /// # Errors
    /// It was.
    pub fn check(&self) -> Result<()> {
        ensure!(
            !self.0.get(),
            "the panel stays busy for {} s; check its cable, its wiring, and that --panel is its size",
            LONGEST_REFRESH.as_secs()
        );
        Ok(())
    }
}

/// The line by which a panel says that it is busy. After a while it fails, which ends the driver's wait.
pub struct Busy {
    pin: CdevPin,
    since: Option<Instant>,
    patience: Patience,
}

impl Busy {
    /// Fails once the panel has been busy for too long since `since`: the driver asks until it is idle.
    fn ask(&mut self, busy_if: bool, level: bool) -> Result<bool, Impatient> {
        if level != busy_if {
            self.since = None;
        } else if self.since.get_or_insert_with(Instant::now).elapsed() > LONGEST_REFRESH {
            self.patience.0.set(true);
            return Err(Impatient);
        }
        Ok(level == busy_if)
    }
}

/// The panel was busy for too long.
#[derive(Debug)]
pub struct Impatient;

impl digital::Error for Impatient {
    fn kind(&self) -> digital::ErrorKind {
        digital::ErrorKind::Other
    }
}

impl digital::ErrorType for Busy {
    type Error = Impatient;
}

impl InputPin for Busy {
    fn is_high(&mut self) -> Result<bool, Impatient> {
        let level = self.pin.is_high().unwrap_or(false);
        self.ask(true, level)
    }

    fn is_low(&mut self) -> Result<bool, Impatient> {
        let level = self.pin.is_high().unwrap_or(true);
        self.ask(false, level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_named_and_others_refused() {
        let named = Lines::from("busy=5,power=none").unwrap();
        assert_eq!((named.reset, named.dc, named.busy, named.power), (17, 25, 5, None));
        for text in ["busy", "busy=", "led=4", "reset=x", "power=on"] {
            assert!(
                Lines::from(text).unwrap_err().to_string().contains("reset=17,dc=25"),
                "{text}"
            );
        }
    }
}
