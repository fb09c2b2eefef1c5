//! The panels, and the loop that shows frames on one of them.

use std::io::{self, Write};

use anyhow::{Context, Result, bail, ensure};
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{InputPin, OutputPin};
use embedded_hal::spi::SpiDevice;
use epd_waveshare::epd2in9_v2::{self, Epd2in9};
use epd_waveshare::epd2in13_v2::{self, Epd2in13};
use epd_waveshare::epd4in2::{self, Epd4in2};
use epd_waveshare::epd7in5_v2::{self, Epd7in5};
use epd_waveshare::prelude::{QuickRefresh, RefreshLut, WaveshareDisplay};

use crate::frame::Frame;
use crate::pins::{self, Pins};

/// A panel of Waveshare's, by its driver.
enum Panel<SPI, BUSY, DC, RST, DELAY> {
    Inch2_13(Epd2in13<SPI, BUSY, DC, RST, DELAY>),
    Inch2_9(Epd2in9<SPI, BUSY, DC, RST, DELAY>),
    Inch4_2(Epd4in2<SPI, BUSY, DC, RST, DELAY>),
    Inch7_5(Epd7in5<SPI, BUSY, DC, RST, DELAY>),
}

impl<SPI: SpiDevice, BUSY: InputPin, DC: OutputPin, RST: OutputPin, DELAY: DelayNs> Panel<SPI, BUSY, DC, RST, DELAY> {
    /// The panel of a name, which is reset and asked to start.
    fn new(name: &str, spi: &mut SPI, busy: BUSY, dc: DC, rst: RST, delay: &mut DELAY) -> Result<Self, SPI::Error> {
        Ok(match name {
            "2.13" => Self::Inch2_13(Epd2in13::new(spi, busy, dc, rst, delay, None)?),
            "2.9" => Self::Inch2_9(Epd2in9::new(spi, busy, dc, rst, delay, None)?),
            "4.2" => Self::Inch4_2(Epd4in2::new(spi, busy, dc, rst, delay, None)?),
            _ => Self::Inch7_5(Epd7in5::new(spi, busy, dc, rst, delay, None)?),
        })
    }

    /// Width and height of its memory in pixels.
    fn size(&self) -> (u32, u32) {
        match self {
            Self::Inch2_13(_) => (epd2in13_v2::WIDTH, epd2in13_v2::HEIGHT),
            Self::Inch2_9(_) => (epd2in9_v2::WIDTH, epd2in9_v2::HEIGHT),
            Self::Inch4_2(_) => (epd4in2::WIDTH, epd4in2::HEIGHT),
            Self::Inch7_5(_) => (epd7in5_v2::WIDTH, epd7in5_v2::HEIGHT),
        }
    }

    /// Shows what is in `new`, and puts the panel to sleep, as it must be between frames: its voltages wear it out. With what it
    /// shows now, `old`, only the pixels that change are refreshed, where the panel can do that.
    fn show(&mut self, spi: &mut SPI, delay: &mut DELAY, new: &[u8], old: Option<&[u8]>) -> Result<(), SPI::Error> {
        match (self, old) {
            (Self::Inch2_13(panel), None) => {
                panel.set_refresh(spi, delay, RefreshLut::Full)?;
                panel.wake_up(spi, delay)?;
                panel.update_and_display_frame(spi, new, delay)?;
                panel.sleep(spi, delay)
            }
            (Self::Inch2_13(panel), Some(old)) => {
                panel.set_refresh(spi, delay, RefreshLut::Quick)?;
                panel.wake_up(spi, delay)?;
                panel.set_partial_base_buffer(spi, delay, old)?;
                panel.update_and_display_frame(spi, new, delay)?;
                panel.sleep(spi, delay)
            }
            (Self::Inch2_9(panel), None) => {
                panel.wake_up(spi, delay)?;
                panel.update_and_display_frame(spi, new, delay)?;
                panel.sleep(spi, delay)
            }
            (Self::Inch2_9(panel), Some(old)) => {
                panel.wake_up(spi, delay)?;
                panel.update_old_frame(spi, old, delay)?;
                panel.update_and_display_new_frame(spi, new, delay)?;
                panel.sleep(spi, delay)
            }
            (Self::Inch4_2(panel), None) => {
                panel.wake_up(spi, delay)?;
                panel.set_lut(spi, delay, Some(RefreshLut::Full))?;
                panel.update_and_display_frame(spi, new, delay)?;
                panel.sleep(spi, delay)
            }
            (Self::Inch4_2(panel), Some(old)) => {
                panel.wake_up(spi, delay)?;
                panel.set_lut(spi, delay, Some(RefreshLut::Quick))?;
                panel.update_old_frame(spi, old, delay)?;
                panel.update_and_display_new_frame(spi, new, delay)?;
                panel.sleep(spi, delay)
            }
            (Self::Inch7_5(panel), _) => {
                panel.wake_up(spi, delay)?;
                panel.update_and_display_frame(spi, new, delay)?;
                panel.sleep(spi, delay)
            }
        }
    }
}

/// Shows the frames of standard input.
///
/// # Errors
/// Wrong arguments, a device that isn't there or may not be used, a panel that doesn't answer, input that is no frame.
pub fn run() -> Result<()> {
    let (name, device) = arguments(std::env::args().skip(1))?;
    let Pins {
        mut spi,
        busy,
        dc,
        rst,
        _power,
        patience,
    } = Pins::open(&device)?;
    let mut delay = linux_embedded_hal::Delay;
    let mut panel =
        Panel::new(&name, &mut spi, busy, dc, rst, &mut delay).map_err(|error| pins::bus_error(&device, &error))?;
    patience.check()?;
    say("ready")?;
    let (width, height) = panel.size();
    let mut shown: Option<Vec<u8>> = None;
    let mut input = io::stdin().lock();
    while let Some(frame) = Frame::read(&mut input).context("no whole frame came")? {
        ensure!(
            (frame.width, frame.height) == (width.max(height), width.min(height)),
            "the frame has {} × {} pixels, the panel {} × {}; give the panel's size with --panel",
            frame.width,
            frame.height,
            width.max(height),
            width.min(height)
        );
        let memory = frame.panel_memory(width, height);
        let old = shown.as_deref().filter(|_| !frame.full);
        panel
            .show(&mut spi, &mut delay, &memory, old)
            .map_err(|error| pins::bus_error(&device, &error))?;
        patience.check()?;
        shown = Some(memory);
        say("shown")?;
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush())?;
    Ok(())
}

/// The panel and the device of `--panel INCHES --device PATH`.
fn arguments(arguments: impl Iterator<Item = String>) -> Result<(String, String)> {
    let arguments: Vec<String> = arguments.collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--panel", panel @ ("2.13" | "2.9" | "4.2" | "7.5"), "--device", device] => {
            Ok((panel.to_owned(), device.to_owned()))
        }
        _ => bail!("it is started as mlx-gpt-epd --panel 2.13|2.9|4.2|7.5 --device /dev/spidev0.0"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::convert::Infallible;
    use std::rc::Rc;

    use embedded_hal::digital;
    use embedded_hal::spi::{self, Operation};

    use super::*;

    /// Commands with their data.
    type Told = Vec<(u8, Vec<u8>)>;

    /// What a panel is told, and whether data is next.
    #[derive(Clone, Default)]
    struct Wires(Rc<RefCell<(bool, Told)>>);

    impl spi::ErrorType for Wires {
        type Error = Infallible;
    }
    impl SpiDevice for Wires {
        fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Infallible> {
            let (is_data, told) = &mut *self.0.borrow_mut();
            for operation in operations {
                match operation {
                    Operation::Write(bytes) if *is_data => told.last_mut().unwrap().1.extend(&**bytes),
                    Operation::Write(bytes) => told.extend(bytes.iter().map(|&command| (command, Vec::new()))),
                    _ => {}
                }
            }
            Ok(())
        }
    }
    impl digital::ErrorType for Wires {
        type Error = Infallible;
    }
    /// The line that tells data from commands.
    impl OutputPin for Wires {
        fn set_low(&mut self) -> Result<(), Infallible> {
            self.0.borrow_mut().0 = false;
            Ok(())
        }
        fn set_high(&mut self) -> Result<(), Infallible> {
            self.0.borrow_mut().0 = true;
            Ok(())
        }
    }

    struct Reset;
    impl digital::ErrorType for Reset {
        type Error = Infallible;
    }
    impl OutputPin for Reset {
        fn set_low(&mut self) -> Result<(), Infallible> {
            Ok(())
        }
        fn set_high(&mut self) -> Result<(), Infallible> {
            Ok(())
        }
    }

    /// Never busy: high where that is said by low, and low where it is said by high.
    struct Idle(bool);
    impl digital::ErrorType for Idle {
        type Error = Infallible;
    }
    impl InputPin for Idle {
        fn is_high(&mut self) -> Result<bool, Infallible> {
            Ok(self.0)
        }
        fn is_low(&mut self) -> Result<bool, Infallible> {
            Ok(!self.0)
        }
    }

    struct NoDelay;
    impl DelayNs for NoDelay {
        fn delay_ns(&mut self, _: u32) {}
    }

    #[test]
    fn each_panel_is_told_all_pixels_and_then_sleeps() {
        // The commands of its controller that are followed by pixels, and deep sleep.
        for (name, idle, new_pixels, old_pixels, sleep) in [
            ("2.13", false, 0x24, Some(0x26), 0x10),
            ("2.9", false, 0x24, Some(0x26), 0x10),
            ("4.2", true, 0x13, Some(0x10), 0x07),
            ("7.5", true, 0x13, None, 0x07),
        ] {
            let wires = Wires::default();
            let mut spi = wires.clone();
            let mut panel = Panel::new(name, &mut spi, Idle(idle), wires.clone(), Reset, &mut NoDelay).unwrap();
            let (width, height) = panel.size();
            let memory = |seed: u32| -> Vec<u8> {
                (0..width.div_ceil(8) * height)
                    .map(|i| (i * seed % 251) as u8)
                    .collect()
            };
            let (first, second) = (memory(3), memory(7));
            let told = |command: u8, pixels: &[u8]| {
                wires
                    .0
                    .borrow()
                    .1
                    .iter()
                    .any(|(byte, data)| *byte == command && data == pixels)
            };
            panel.show(&mut spi, &mut NoDelay, &first, None).unwrap();
            assert!(told(new_pixels, &first), "{name}");
            assert_eq!(wires.0.borrow().1.last().unwrap().0, sleep, "{name}");
            wires.0.borrow_mut().1.clear();
            panel.show(&mut spi, &mut NoDelay, &second, Some(&first)).unwrap();
            assert!(told(new_pixels, &second), "{name}");
            assert!(old_pixels.is_none_or(|command| told(command, &first)), "{name}");
            assert_eq!(wires.0.borrow().1.last().unwrap().0, sleep, "{name}");
        }
    }

    #[test]
    fn other_arguments_are_refused() {
        let given = |text: &str| arguments(text.split(' ').map(str::to_owned));
        assert_eq!(
            given("--panel 4.2 --device /dev/spidev1.0").unwrap().1,
            "/dev/spidev1.0"
        );
        assert!(given("--panel 5 --device /dev/spidev1.0").is_err());
        assert!(given("--help").is_err());
    }
}
