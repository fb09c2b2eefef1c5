//! Frames: what is drawn, pixel by pixel; `board` and `generate --display` as their user runs them; the driver's side by a script.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::place::fixture;
use crate::common::{fail, folder, generate, mlx_gpt, says, stderr, stdout, succeed, trained, wait_until};
use mlx_gpt::frame::{Bitmap, Display, Panel, Target, draw};

const TEXTS: [(Panel, &str); 3] = [
    (
        Panel::Inch2_13,
        "ROMEO:\nIs the day so young?\n\nBENVOLIO:\nBut new struck nine.",
    ),
    (
        Panel::Inch4_2,
        "“Déjà vu” — ČAPEK, ΞΕΝΟΣ, ещё…\n\nTwo households, both alike in dignity,\nIn fair Verona, where we lay our scene,\n\
         From ancient grudge break to new mutiny,\nWhere civil blood makes civil hands unclean. 你好",
    ),
    (
        Panel::Inch7_5,
        "Now is the winter of our discontent\nMade glorious summer by this sun of York;",
    ),
];

/// The pixels of a PNG file: its width and height, and for each pixel whether it is black.
fn pixels(file: &Path) -> (u32, u32, Vec<bool>) {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(fs::read(file).unwrap()));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut grey = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut grey).unwrap();
    (info.width, info.height, grey.iter().map(|&grey| grey < 128).collect())
}

fn pixels_of(frame: &Bitmap) -> (u32, u32, Vec<bool>) {
    let rows = 0..frame.height();
    let black = rows.flat_map(|y| (0..frame.width()).map(move |x| frame.is_black(x, y)));
    (frame.width(), frame.height(), black.collect())
}

/// The pictures were looked at. `UPDATE_FRAMES=1` makes them again, to be looked at again.
#[test]
fn frames_of_three_panels_are_those_that_were_looked_at() {
    let folder = folder();
    for (panel, text) in TEXTS {
        let stored = fixture("frames").join(format!("{}.png", panel.name()));
        let drawn = folder.path().join("drawn.png");
        let mut display = Display::open(&Target::Png(drawn.clone()), panel, None).unwrap();
        display.show(&draw(text, panel)).unwrap();
        if std::env::var_os("UPDATE_FRAMES").is_some() {
            fs::copy(&drawn, &stored).unwrap();
        }
        assert!(
            pixels(&drawn) == pixels(&stored),
            "{}: see {}",
            panel.name(),
            stored.display()
        );
    }
}

/// `board` with the run in `folder`, and a home there.
fn board(folder: &Path, options: &[&str]) -> Command {
    let mut command = mlx_gpt(folder);
    command.args(["board", "--device", "cpu", "--max-new-tokens", "30"]);
    if !options.contains(&"--checkpoint") {
        command.args(["--checkpoint", "run"]);
    }
    command
        .env("XDG_DATA_HOME", folder.join("home"))
        .stdin(Stdio::null())
        .args(options);
    command
}

#[test]
fn a_generated_text_is_what_the_frame_shows() {
    let folder = folder();
    let path = folder.path();
    trained(path, "3");
    let on = ["--temperature", "0", "--prompt", "ROMEO:", "--max-new-tokens", "60"];
    let shown = ["--display", "png:frame.png", "--panel", "2.9"];
    let text = stdout(&succeed(&mut generate(path, &[&on[..], &shown].concat())));
    assert_eq!(pixels(&path.join("frame.png")), pixels_of(&draw(&text, Panel::Inch2_9)));
    // On a terminal, the same pixels as dots.
    let printed = stdout(&succeed(&mut generate(
        path,
        &[&on[..], &["--display", "term"]].concat(),
    )));
    let dots: u32 = printed
        .chars()
        .filter(|c| ('\u{2800}'..='\u{28ff}').contains(c))
        .map(|c| (c as u32 - 0x2800).count_ones())
        .sum();
    let (_, _, black) = pixels_of(&draw(&text, Panel::Inch2_13));
    assert_eq!(dots as usize, black.iter().filter(|&&black| black).count());
}

#[test]
fn a_seed_fixes_the_texts_and_each_is_another() {
    let folder = folder();
    let path = folder.path();
    trained(path, "3");
    let frames = |seed: &str| {
        let mut command = board(path, &["--frames", "2", "--seed", seed]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        stdout(&output)
    };
    let first = frames("1");
    let lines: Vec<&str> = first.lines().collect();
    assert_eq!(lines.len(), 2 * 122_usize.div_ceil(4));
    assert_ne!(lines[..31], lines[31..], "the next text");
    assert_eq!(frames("1"), first);
    assert_ne!(frames("2"), first);
}

/// A driver that writes the comments of frames into `folder/told` and keeps the last of them as `folder/panel`.
fn driver(folder: &Path) -> PathBuf {
    let script = "#!/bin/sh\ntrap '' PIPE\ncd \"$(dirname \"$0\")\"\necho \"$@\" > started\necho ready\n\
                  while read -r magic && read -r comment && read -r size; do\n\
                  head -c 3904 > panel.making && mv panel.making panel && echo \"$magic $comment $size\" >> told && echo shown\ndone\n\
                  echo asleep >> told\n";
    let path = folder.join("driver");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

const ON_DRIVER: [&str; 6] = ["--display", "/dev/spidev0.0", "--panel", "2.13", "--driver", "./driver"];

/// Asks for the next text as soon as there is one, so often.
fn keys(child: &mut Child, times: usize) {
    child
        .stdin
        .take()
        .unwrap()
        .write_all("\n".repeat(times).as_bytes())
        .unwrap();
}

#[test]
fn every_tenth_frame_refreshes_the_whole_panel() {
    let folder = folder();
    let path = folder.path();
    trained(path, "3");
    driver(path);
    let mut command = board(path, &[&ON_DRIVER[..], &["--frames", "12", "--seed", "1"]].concat());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    keys(&mut child, 11);
    assert!(child.wait().unwrap().success());
    assert_eq!(
        fs::read_to_string(path.join("started")).unwrap(),
        "--panel 2.13 --device /dev/spidev0.0\n"
    );
    let told = fs::read_to_string(path.join("told")).unwrap();
    let told: Vec<&str> = told.lines().collect();
    let full: Vec<usize> = (0..12).filter(|&frame| told[frame] == "P4 # full 250 122").collect();
    assert_eq!(full, [0, 10], "{told:?}");
    assert_eq!(told.iter().filter(|line| **line == "P4 # partial 250 122").count(), 10);
    assert_eq!(told[12..], ["asleep"]);
}

/// The frame that is kept for the panel in `folder`.
fn kept(folder: &Path) -> Option<Vec<u8>> {
    fs::read(folder.join("home/mlx-gpt/frame-2.13.pbm")).ok()
}

/// Waits for the driver, which outlives a program that is killed until it has read what came.
fn until_asleep(folder: &Path) {
    let told = folder.join("told");
    let waits = (0..60_000).find(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        says(&told, "asleep")
    });
    assert!(waits.is_some(), "the driver goes on: {:?}", fs::read_to_string(&told));
    fs::remove_file(told).unwrap();
}

#[test]
fn killed_at_any_instant_the_next_start_shows_a_whole_frame() {
    let folder = folder();
    let path = folder.path();
    trained(path, "3");
    driver(path);
    for kill in 0..6 {
        let mut command = board(path, &[&ON_DRIVER[..], &["--seed", &kill.to_string()]].concat());
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        keys(&mut child, 500);
        let before = kept(path);
        wait_until("a frame", &mut child, || kept(path) != before);
        // Frames follow each other as fast as they are drawn: it is killed while it draws, writes or shows one.
        std::thread::sleep(std::time::Duration::from_millis(7 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        until_asleep(path);
        let frame = kept(path).unwrap();
        assert_eq!(frame.len(), "P4\n# mlx-gpt\n250 122\n".len() + 3904);
        let _ = fs::remove_file(path.join("panel"));
        // What it shows first it shows without a model.
        let elsewhere = [&ON_DRIVER[..], &["--checkpoint", "nowhere"]].concat();
        assert!(fail(&mut board(path, &elsewhere)).contains("nowhere"));
        until_asleep(path);
        assert!(frame.ends_with(&fs::read(path.join("panel")).unwrap()));
    }
    let home = crate::common::names(&path.join("home/mlx-gpt"));
    assert!(
        home.contains(&"frame-2.13.pbm".to_owned()) && home.len() <= 2,
        "{home:?}"
    );
}

#[test]
fn a_panel_that_cannot_be_driven_is_one_line_with_the_remedy() {
    let folder = folder();
    let path = folder.path();
    trained(path, "3");
    let line = fail(&mut board(path, &["--display", "/dev/spidev0.0"]));
    assert!(
        line.contains("mlx-gpt-epd is not there") && line.contains("cargo build -p mlx-gpt-epd"),
        "{line}"
    );
    for (script, said) in [
        (
            "echo 'error: /dev/spidev0.0 is not there: SPI is off'",
            "error: /dev/spidev0.0 is not there: SPI is off",
        ),
        ("echo hello", "./driver did not say ready, but \"hello\""),
        ("exit 1", "./driver did not say ready, but \"\""),
        ("echo ready; exit 1", "./driver did not say shown"),
    ] {
        fs::write(driver(path), format!("#!/bin/sh\n{script}\n")).unwrap();
        let line = fail(&mut board(path, &[&ON_DRIVER[..], &["--frames", "1"]].concat()));
        assert!(line.contains(said), "{line}");
        let _ = fs::remove_dir_all(path.join("home"));
    }
    let output = board(path, &["--display", "frame.png"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("say term, png:FILE, or the device"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn it_stops_at_a_signal_with_its_code() {
    let folder = folder();
    let path = folder.path();
    trained(path, "3");
    let said = fs::File::create(path.join("said")).unwrap();
    let mut child = board(path, &[]).stdout(said).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the first frame", &mut child, || says(&path.join("said"), "⠀\n"));
    crate::common::signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}
