//! Which backend of MLX's connects this process with others, from what the program that started it left in the environment.

use std::fs;

use anyhow::{Context, Result, bail, ensure};

/// A backend of MLX's distributed engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Backend {
    /// Whichever one this process was started for; none if it was started alone
    #[default]
    Any,
    /// Open MPI: started by mpirun
    Mpi,
    /// A ring of TCP connections: MLX_RANK and MLX_HOSTFILE, or --hosts
    Ring,
    /// Thunderbolt between Macs: MLX_RANK, MLX_JACCL_COORDINATOR and MLX_IBV_DEVICES
    Jaccl,
    /// NVIDIA's cards: MLX_RANK, MLX_WORLD_SIZE, NCCL_HOST_IP and NCCL_PORT
    Nccl,
}

impl Backend {
    /// MLX's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Mpi => "mpi",
            Self::Ring => "ring",
            Self::Jaccl => "jaccl",
            Self::Nccl => "nccl",
        }
    }
}

/// How this process is to find the others.
#[derive(Debug, PartialEq)]
pub struct Launched {
    /// The backend.
    pub backend: Backend,
    /// What is known before it connects; of MPI nothing is.
    pub place: Option<Place>,
}

/// A process among others.
#[derive(Debug, PartialEq)]
pub struct Place {
    /// Its number, from 0.
    pub rank: usize,
    /// Number of processes.
    pub size: usize,
    /// Where rank 0 can be reached: `address:port`.
    pub first: String,
    /// The address that this rank is to listen on, if the backend needs one.
    pub own: Option<String>,
}

/// What `environment` says of a variable.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How this process was started; `None` if it was started alone and `asked` is [`Backend::Any`]. Nothing is started or opened
/// in that case.
///
/// # Errors
/// A variable, or the host file that it names, that cannot be used.
pub fn detect(asked: Backend, environment: Environment) -> Result<Option<Launched>> {
    let has = |names: &[&str]| names.iter().all(|name| environment(name).is_some());
    let backend = match asked {
        Backend::Any if has(&["MLX_RANK", "NCCL_HOST_IP", "NCCL_PORT", "MLX_WORLD_SIZE"]) => Backend::Nccl,
        Backend::Any if has(&["MLX_RANK", "MLX_JACCL_COORDINATOR"]) => Backend::Jaccl,
        Backend::Any if has(&["MLX_RANK", "MLX_HOSTFILE"]) => Backend::Ring,
        Backend::Any if has(&["OMPI_COMM_WORLD_SIZE"]) => Backend::Mpi,
        Backend::Any => return Ok(None),
        asked => asked,
    };
    let place = match backend {
        Backend::Ring if has(&["MLX_RANK", "MLX_HOSTFILE"]) => Some(ring(environment)?),
        Backend::Nccl if has(&["MLX_RANK", "MLX_WORLD_SIZE", "NCCL_HOST_IP", "NCCL_PORT"]) => {
            let text = |name| environment(name).unwrap_or_default();
            Some(Place {
                rank: number(environment, "MLX_RANK")?,
                size: number(environment, "MLX_WORLD_SIZE")?,
                first: format!("{}:{}", text("NCCL_HOST_IP"), text("NCCL_PORT")),
                own: None,
            })
        }
        // MPI's ranks, JACCL's size, and what is missing are known to MLX alone.
        _ => None,
    };
    Ok(Some(Launched { backend, place }))
}

fn ring(environment: Environment) -> Result<Place> {
    let path = environment("MLX_HOSTFILE").unwrap_or_default();
    let rank = number(environment, "MLX_RANK")?;
    let hosts = ring_addresses(&path)?;
    let size = hosts.len();
    let Some(own) = hosts.get(rank) else {
        bail!("MLX_RANK is {rank}, and the host file {path} has {size} rank(s), counted from 0; correct one of them");
    };
    Ok(Place {
        rank,
        size,
        first: hosts[0].clone(),
        own: Some(own.clone()),
    })
}

/// The first address of each rank in a host file of MLX's ring: `[["10.0.0.1:5000"], ["10.0.0.2:5000"]]`.
fn ring_addresses(path: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("host file {path} cannot be read"))?;
    let hosts: Vec<Vec<String>> = serde_json::from_str(&text)
        .with_context(|| format!("host file {path} is not of the form [[\"10.0.0.1:5000\"], [\"10.0.0.2:5000\"]]"))?;
    ensure!(!hosts.is_empty(), "host file {path} names no rank");
    hosts
        .into_iter()
        .enumerate()
        .map(|(rank, addresses)| {
            let first = addresses.into_iter().next();
            let address = first.with_context(|| format!("host file {path} has no address of rank {rank}"))?;
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            ensure!(
                port.is_some_and(|port| port > 0),
                "host file {path}: {address:?}, of rank {rank}, is no address:port"
            );
            Ok(address)
        })
        .collect()
}

fn number(environment: Environment, name: &str) -> Result<usize> {
    let value = environment(name).unwrap_or_default();
    value
        .parse()
        .with_context(|| format!("{name} is {value:?} in the environment, which is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_started_alone_asks_nobody() {
        assert_eq!(detect(Backend::Any, &|_| None).unwrap(), None);
        let mpi = detect(Backend::Any, &|name| {
            (name == "OMPI_COMM_WORLD_SIZE").then(|| "2".into())
        });
        assert_eq!(mpi.unwrap().unwrap().backend, Backend::Mpi);
    }

    #[test]
    fn a_host_file_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts.json").to_str().unwrap().to_owned();
        for (text, rank, said) in [
            (r#"[["127.0.0.1:5000"]]"#, "1", "MLX_RANK is 1"),
            (r#"[["127.0.0.1:5000"]]"#, "one", "is no number"),
            (r#"[["127.0.0.1"]]"#, "0", "is no address:port"),
            (r#"[[]]"#, "0", "no address of rank 0"),
            (r#"[]"#, "0", "names no rank"),
            (r#"{"hosts": 1}"#, "0", "is not of the form"),
        ] {
            std::fs::write(&path, text).unwrap();
            let environment = |name: &str| match name {
                "MLX_RANK" => Some(rank.to_owned()),
                "MLX_HOSTFILE" => Some(path.clone()),
                _ => None,
            };
            let error = detect(Backend::Any, &environment).unwrap_err();
            assert!(format!("{error:#}").contains(said), "{error:#}");
        }
    }
}
