//! Drives an e-ink panel: shows the frames that come on standard input, in the protocol of `src/frame/driver.rs` of mlx-gpt.
//!
//! ```text
//! mlx-gpt-epd --panel 2.13|2.9|4.2|7.5 --device /dev/spidev0.0
//! ```
//!
//! Environment: `MLX_GPT_EPD_GPIO`, the GPIO chip [/dev/gpiochip0], and `MLX_GPT_EPD_PINS`, its lines
//! [reset=17,dc=25,busy=24,power=18], those of Waveshare's boards on a Raspberry Pi.

#[cfg(any(target_os = "linux", test))]
mod frame;
#[cfg(target_os = "linux")]
mod panel;
#[cfg(target_os = "linux")]
mod pins;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use std::io::Write;

    match panel::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be there to read it.
            let _ = writeln!(std::io::stdout(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("error: e-ink panels are on the SPI bus of a board with Linux; take --display term or png:FILE here");
    ExitCode::FAILURE
}
