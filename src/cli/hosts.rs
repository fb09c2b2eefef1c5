//! `mlx-gpt train --hosts`: starts the ranks of a run on the machines of a host file, in MLX's ring.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use signal_hook::consts::SIGINT;
use signal_hook::low_level::raise;

use super::signals::Signals;
use crate::terminal::console::say;
use crate::terminal::shell::quoted;
use crate::train::Interrupt;

/// In the environment of a rank that was started here: its standard input ends when it is to stop, and what it would say of
/// errors rank 0 says.
pub const LAUNCHED: &str = "MLX_GPT_LAUNCHED";

/// The first port of machines elsewhere, as mlx.launch chooses it.
const FIRST_PORT: u16 = 32323;
/// Until ranks are killed that have not ended after another one has failed: they are told at once, unless they hang.
const END_TIME: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// A rank's machine: how ssh reaches it, and the addresses that it has for the others.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Host {
    ssh: String,
    #[serde(default)]
    ips: Vec<String>,
}

/// The forms of MLX's host files.
#[derive(Deserialize)]
#[serde(untagged)]
enum HostFile {
    /// Of the ring itself. It comes first: a list of texts would pass for a host.
    Addresses(Vec<Vec<String>>),
    /// Of mlx.launch.
    Hosts(Vec<Host>),
    /// Of mlx.launch, with settings.
    WithSettings { hosts: Vec<Host> },
}

/// Starts a rank on each host, with this command's other options, and waits for all.
///
/// # Errors
/// No ssh, or a rank that cannot be started.
pub fn launch(hosts: &[Host], signals: &Signals) -> Result<ExitCode> {
    let addresses = addresses(hosts)?;
    let ring = serde_json::to_string(&addresses.iter().map(|address| [address]).collect::<Vec<_>>())?;
    let folder = tempfile::tempdir().context("no temporary folder can be made for the host file")?;
    let ring_file = folder.path().join("ring.json");
    fs::write(&ring_file, &ring).with_context(|| format!("{} cannot be written", ring_file.display()))?;
    let program = std::env::current_exe().context("this program's own path is not known")?;
    let options = options(std::env::args_os().skip(1));
    say(format_args!("ranks    {}: {}", hosts.len(), addresses.join(", ")));
    let mut ranks = Ranks(Vec::with_capacity(hosts.len()));
    for (rank, host) in hosts.iter().enumerate() {
        let mut command = if host.is_local() {
            let mut command = Command::new(&program);
            command.args(&options).env("MLX_HOSTFILE", &ring_file);
            command.env("MLX_RANK", rank.to_string()).env(LAUNCHED, "1");
            command
        } else {
            let mut command = Command::new("ssh");
            let remote = remote(rank, &ring, &program, &options)?;
            command.args(["-o", "BatchMode=yes", &host.ssh, &remote]);
            command
        };
        // In a group of its own: a Ctrl-C at this terminal is passed on from here, once.
        command.stdin(Stdio::piped()).process_group(0);
        ranks
            .0
            .push(command.spawn().map_err(|error| start_error(&error, rank, host))?);
    }
    signals.set_unsaved_work(Some("what rank 0 has not saved yet".into()));
    ranks.wait(signals)
}

impl Host {
    fn is_local(&self) -> bool {
        matches!(self.ssh.as_str(), "127.0.0.1" | "localhost")
    }
}

fn start_error(error: &io::Error, rank: usize, host: &Host) -> anyhow::Error {
    let ssh = &host.ssh;
    if !host.is_local() && error.kind() == io::ErrorKind::NotFound {
        return anyhow::anyhow!(
            "rank {rank} is on {ssh}, and there is no ssh here to start it with; install it, or start each rank on its machine with MLX_RANK and MLX_HOSTFILE"
        );
    }
    anyhow::anyhow!("rank {rank} on {ssh} could not be started: {error}")
}

/// That many ranks on this machine.
pub fn here(ranks: usize) -> Vec<Host> {
    let host = |_| Host {
        ssh: "127.0.0.1".into(),
        ips: Vec::new(),
    };
    (0..ranks).map(host).collect()
}

/// Reads a host file of MLX's, in any of its forms.
///
/// # Errors
/// It cannot be read, is of another form, or lacks a host.
pub fn read(file: &Path) -> Result<Vec<Host>> {
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("host file {name} cannot be read"))?;
    let parsed: HostFile = serde_json::from_str(&text).map_err(|_| {
        anyhow::anyhow!("host file {name} is not of the form [{{\"ssh\": \"mac1\", \"ips\": [\"10.0.0.1\"]}}, …]")
    })?;
    let hosts = match parsed {
        HostFile::Hosts(hosts) | HostFile::WithSettings { hosts } => hosts,
        HostFile::Addresses(ranks) => {
            let host = |ips: Vec<String>| Host {
                ssh: ips.first().map_or(String::new(), |ip| without_port(ip).to_owned()),
                ips,
            };
            ranks.into_iter().map(host).collect()
        }
    };
    ensure!(!hosts.is_empty(), "host file {name} names no host");
    if let Some(rank) = hosts
        .iter()
        .position(|host| host.ssh.is_empty() || host.ssh.starts_with('-'))
    {
        bail!("host file {name} does not say on which host rank {rank} is");
    }
    Ok(hosts)
}

fn without_port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// Each rank's address and port. Where the file has no port, machines get mlx.launch's, and ranks on this one a free port.
fn addresses(hosts: &[Host]) -> Result<Vec<String>> {
    let mut taken = Vec::new();
    let address = |(rank, host): (usize, &Host)| {
        let ip = host.ips.first().map_or(host.ssh.as_str(), String::as_str);
        if ip.contains(':') {
            return Ok(ip.to_owned());
        }
        if !host.is_local() {
            return Ok(format!("{ip}:{}", usize::from(FIRST_PORT) + rank));
        }
        let free = TcpListener::bind((ip, 0)).with_context(|| format!("no port of {ip} is free, for rank {rank}"))?;
        let address = free.local_addr()?.to_string();
        taken.push(free); // so that the next rank gets another
        Ok(address)
    };
    hosts.iter().enumerate().map(address).collect()
}

/// This command's arguments, without `--hosts FILE`.
fn options(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--hosts") => drop(arguments.next()),
            Some(other) if other.starts_with("--hosts=") => {}
            _ => kept.push(argument),
        }
    }
    kept
}

/// The shell's command for a rank elsewhere: the same program in the same folder.
fn remote(rank: usize, ring: &str, program: &Path, options: &[OsString]) -> Result<String> {
    let folder = std::env::current_dir().context("the current folder is not known")?;
    let options: Vec<String> = options.iter().map(|option| quoted(Path::new(option))).collect();
    Ok(format!(
        "cd {} && file=$(mktemp) && printf %s {} > \"$file\" && MLX_RANK={rank} MLX_HOSTFILE=\"$file\" {LAUNCHED}=1 {} {}; code=$?; unlink \"$file\"; exit $code",
        quoted(&folder),
        quoted(Path::new(ring)),
        quoted(program),
        options.join(" ")
    ))
}

/// The processes of all ranks, or of ssh; killed when this is dropped.
struct Ranks(Vec<Child>);

impl Ranks {
    fn wait(&mut self, signals: &Signals) -> Result<ExitCode> {
        let mut ended: Vec<Option<ExitStatus>> = vec![None; self.0.len()];
        let mut first_failure: Option<(usize, ExitStatus, Instant)> = None;
        while ended.iter().any(Option::is_none) {
            if signals.requested() {
                self.0.iter_mut().for_each(|child| drop(child.stdin.take())); // asks each to save and stop
            }
            for (rank, (child, ended)) in self.0.iter_mut().zip(&mut ended).enumerate() {
                if ended.is_none()
                    && let Some(status) = child.try_wait()?
                {
                    *ended = Some(status);
                    if !status.success() {
                        first_failure.get_or_insert((rank, status, Instant::now()));
                    }
                }
            }
            let late = first_failure.is_some_and(|(_, _, since)| since.elapsed() > END_TIME);
            if late && !signals.requested() {
                let left: Vec<String> = (0..ended.len())
                    .filter(|rank| ended[*rank].is_none())
                    .map(|rank| rank.to_string())
                    .collect();
                bail!(
                    "rank {} did not end after another rank had failed; killed",
                    left.join(", ")
                );
            }
            thread::sleep(POLL);
        }
        if signals.requested() {
            return Ok(signals.code());
        }
        match (first_failure, ended[0]) {
            (None, _) => Ok(ExitCode::SUCCESS),
            // It has said why.
            (Some(_), Some(status)) if status.code().is_some_and(|code| code != 0) => {
                Ok(ExitCode::from(status.code().unwrap_or(1) as u8))
            }
            (Some((rank, status, _)), _) => bail!("rank {rank} ended with {status}"),
        }
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill(); // one that has ended needs none
            let _ = child.wait();
        }
    }
}

/// In a rank that was started here: the end of its standard input is a Ctrl-C.
///
/// # Errors
/// A thread cannot be started.
pub fn heed_launcher() -> Result<()> {
    if std::env::var_os(LAUNCHED).is_none() {
        return Ok(());
    }
    let watch = || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink()); // however it ends
        let _ = raise(SIGINT);
    };
    let thread = thread::Builder::new().name("launcher".into()).spawn(watch);
    thread.map(drop).context("a thread could not be started")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_host_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts.json");
        let host = |ssh: &str, ip: &str| Host {
            ssh: ssh.into(),
            ips: vec![ip.into()],
        };
        for (text, expected) in [
            (
                r#"[{"ssh": "mac1", "ips": ["10.0.0.1"], "rdma": [null]}]"#,
                host("mac1", "10.0.0.1"),
            ),
            (
                r#"{"backend": "ring", "hosts": [{"ssh": "mac1", "ips": ["10.0.0.1"]}]}"#,
                host("mac1", "10.0.0.1"),
            ),
            (r#"[["10.0.0.1:5000"]]"#, host("10.0.0.1", "10.0.0.1:5000")),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap(), [expected], "{text}");
        }
        for text in [
            "{}",
            "[1]",
            "[]",
            r#"[{"ssh": ""}]"#,
            r#"[{"ssh": "-oProxyCommand=x"}]"#,
            "not JSON",
        ] {
            fs::write(&path, text).unwrap();
            assert!(read(&path).is_err(), "{text}");
        }
    }

    #[test]
    fn ranks_on_one_machine_get_ports_of_their_own() {
        let far = Host {
            ssh: "mac2".into(),
            ips: vec!["10.0.0.2".into()],
        };
        let mut hosts = here(2);
        hosts.push(far);
        let addresses = addresses(&hosts).unwrap();
        assert!(addresses[0].starts_with("127.0.0.1:") && addresses[0] != addresses[1]);
        assert_eq!(addresses[2], "10.0.0.2:32325");
    }

    #[test]
    fn ranks_get_the_same_options_without_the_host_file() {
        let given = [
            "train",
            "--hosts",
            "h.json",
            "--steps",
            "5",
            "--hosts=x",
            "--out",
            "a b",
        ];
        let kept = options(given.iter().map(OsString::from));
        assert_eq!(kept, ["train", "--steps", "5", "--out", "a b"]);
        let command = remote(1, r#"[["10.0.0.1:1"]]"#, Path::new("/bin/mlx-gpt"), &kept).unwrap();
        assert!(command.contains("MLX_RANK=1") && command.contains("'a b'"), "{command}");
    }
}
