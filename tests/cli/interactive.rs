//! `generate --interactive`, from a pipe and at a terminal.

use std::io::Write;
use std::path::Path;
use std::process::Output;

use crate::common::{Start, folder, generate, stderr, stdout, succeed, trained};
use rexpect::session::{PtySession, spawn_command};

const GREEDY: [&str; 4] = ["--temperature", "0", "--max-new-tokens", "20"];

/// The same lines from a pipe.
fn piped(folder: &Path, options: &[&str], lines: &str) -> Output {
    let mut child = generate(folder, &[&["--interactive"], options].concat()).start();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

/// What the model writes after a text.
fn after(folder: &Path, prompt: &str) -> String {
    let output = succeed(&mut generate(folder, &[&GREEDY[..], &["--prompt", prompt]].concat()));
    let text = stdout(&output);
    text.strip_prefix(prompt)
        .unwrap()
        .strip_suffix('\n')
        .unwrap()
        .to_owned()
}

/// Text so far that ends a line, as a line that is typed begins a new one.
fn on_a_new_line(text: &str) -> String {
    text.to_owned() + if text.ends_with('\n') { "" } else { "\n" }
}

#[test]
fn each_line_goes_on_from_all_that_came_before() {
    let folder = folder();
    let path = folder.path();
    trained(path, "3");
    let output = piped(path, &GREEDY, "ROMEO:\nJULIET:\n\n");
    let first = after(path, "ROMEO:");
    let so_far = on_a_new_line(&format!("ROMEO:{first}")) + "JULIET:";
    let second = after(path, &so_far);
    // An empty line adds nothing: the model goes on.
    let third = after(path, &(so_far + &second));
    let expected: String = [first, second, third].iter().map(|text| on_a_new_line(text)).collect();
    assert_eq!(stdout(&output), expected);
    let said = stderr(&output);
    assert_eq!(
        said.lines().filter(|line| line.starts_with("20 tokens, ")).count(),
        3,
        "{said}"
    );
}

#[test]
fn a_prompt_is_the_first_line_and_no_line_is_a_new_text() {
    let folder = folder();
    let path = folder.path();
    trained(path, "3");
    let prompted = piped(path, &[&GREEDY[..], &["--prompt", "ROMEO:"]].concat(), "");
    assert_eq!(
        stdout(&prompted),
        on_a_new_line(&format!("ROMEO:{}", after(path, "ROMEO:")))
    );
    let from_nothing = piped(path, &GREEDY, "\n");
    let unprompted = stdout(&succeed(&mut generate(path, &GREEDY)));
    assert_eq!(
        stdout(&from_nothing),
        on_a_new_line(unprompted.strip_suffix('\n').unwrap())
    );
    assert_eq!(stdout(&piped(path, &GREEDY, "")), "");
}

#[test]
fn commands_are_obeyed_and_mistakes_end_nothing() {
    let folder = folder();
    let path = folder.path();
    trained(path, "3");
    let output = piped(
        path,
        &GREEDY,
        "/help\n/nonsense\n/set top-p 7\n/set temperature hot\n/set color red\nnaïve\nROMEO:\n/reset\n\
         /set max-new-tokens 5\n//\nROMEO:\n/quit\nunread\n",
    );
    let said = stderr(&output);
    for expected in [
        "/set NAME VALUE",
        "rejected: unknown command /nonsense",
        "rejected: top-p is 7",
        "rejected: temperature cannot be hot",
        "rejected: unknown setting color",
        "rejected: character 'ï'",
        "rejected: character '/'", // which Shakespeare does not use
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let romeo = after(path, "ROMEO:");
    let short: String = romeo.chars().take(5).collect();
    assert_eq!(stdout(&output), on_a_new_line(&romeo) + &on_a_new_line(&short));
}

/// A terminal with the program in it, whose history is below `folder`.
fn terminal(folder: &Path, options: &[&str]) -> PtySession {
    let mut command = generate(folder, &[&["--interactive"], options].concat());
    command
        .env("TERM", "xterm")
        .env("HOME", folder)
        .env_remove("XDG_DATA_HOME");
    // Long enough for any machine; only a program that hangs waits for it.
    let mut session = spawn_command(command, Some(120_000)).unwrap();
    session.exp_string("/help lists").unwrap();
    session.exp_string("> ").unwrap();
    session
}

fn type_keys(session: &mut PtySession, keys: &str) {
    session.send(keys).unwrap();
    session.flush().unwrap();
}

fn end(mut session: PtySession) {
    session.send_control('d').unwrap();
    session.exp_eof().unwrap();
    let status = format!("{:?}", session.process().wait().unwrap());
    assert!(status.starts_with("Exited(") && status.ends_with(", 0)"), "{status}");
}

#[test]
fn ctrl_c_stops_the_model_and_ctrl_d_ends_it() {
    let folder = folder();
    trained(folder.path(), "1");
    let mut session = terminal(folder.path(), &["--max-new-tokens", "1000000000"]);
    for line in ["ROMEO:", ""] {
        session.send_line(line).unwrap();
        // What was typed is the first line, what the model writes the others.
        (0..4).for_each(|_| _ = session.read_line().unwrap());
        session.send_control('c').unwrap();
        session.exp_string("a second, the first after").unwrap();
        session.exp_string("> ").unwrap();
    }
    session.send_control('c').unwrap();
    session.exp_string("press Ctrl-D to quit").unwrap();
    session.exp_string("> ").unwrap();
    end(session);
}

#[test]
fn lines_are_edited_and_kept_for_the_next_time() {
    let folder = folder();
    trained(folder.path(), "1");
    let mut session = terminal(folder.path(), &["--max-new-tokens", "3"]);
    type_keys(&mut session, "ROMERO\u{7f}\u{7f}O:\r"); // two backspaces
    session.exp_string("3 tokens").unwrap();
    session.exp_string("> ").unwrap();
    end(session);

    let mut session = terminal(folder.path(), &["--max-new-tokens", "3"]);
    type_keys(&mut session, "\u{1b}[A"); // up
    session.exp_string("ROMEO:").unwrap();
    type_keys(&mut session, "\r");
    session.exp_string("3 tokens").unwrap();
    session.exp_string("> ").unwrap();
    end(session);
}

#[test]
fn a_history_that_cannot_be_kept_is_none() {
    let folder = folder();
    trained(folder.path(), "1");
    let home = folder.path().join("file");
    std::fs::write(&home, "").unwrap();
    let mut command = generate(folder.path(), &["--interactive", "--max-new-tokens", "3"]);
    command
        .env("TERM", "xterm")
        .env("HOME", &home)
        .env_remove("XDG_DATA_HOME");
    let mut session = spawn_command(command, Some(120_000)).unwrap();
    session.exp_string("> ").unwrap();
    session.send_line("ROMEO:").unwrap();
    session.exp_string("3 tokens").unwrap();
    session.exp_string("> ").unwrap();
    end(session);
}
