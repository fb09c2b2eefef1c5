//! How much memory this process may use, of what the machine has: `ulimit -v`, and the control groups that it is in.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Result, ensure};
use rustix::process::{Resource, getrlimit};

use crate::disk::bytes::Bytes;

/// Address space that the program takes before any model, for itself and for each of its threads (a stack, a heap of its
/// own, a buffer for matrix products): without a buffer, OpenBLAS retries forever or ends the process.
const BASE_BYTES: u64 = 256 << 20;
const BYTES_PER_THREAD: u64 = 128 << 20;

/// The least of all limits, in bytes, where there is one.
pub fn process_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let cgroup = cgroup_limit(&groups, Path::new("/sys/fs/cgroup"));
    cgroup.into_iter().chain(address_space_limit()).min()
}

/// Checks that the address-space limit leaves room for MLX.
///
/// # Errors
/// `ulimit -v` is less than MLX needs to start.
pub fn ensure_room_to_compute() -> Result<()> {
    let least = BASE_BYTES + BYTES_PER_THREAD * available_parallelism().map_or(1, |threads| threads.get() as u64);
    let limit = address_space_limit().unwrap_or(u64::MAX);
    ensure!(
        limit >= least,
        "this process may use {} of memory (ulimit -v), MLX takes {} before any model; raise the limit",
        Bytes(limit),
        Bytes(least)
    );
    Ok(())
}

/// What `ulimit -v` allows.
fn address_space_limit() -> Option<u64> {
    getrlimit(Resource::As).current
}

/// The least limit of the groups in `groups`, as `/proc/self/cgroup` lists them, and of those around them; their files are
/// below `root`. Linux alone has any.
fn cgroup_limit(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        let group = root.join(path.trim_start_matches('/'));
        let around = group.ancestors().take_while(|folder| folder.starts_with(&root));
        let limits = around.filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok());
        limits.min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_a_group_and_those_around_it_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("user/app/memory.max", "max\n");
        write("user/memory.max", "5000000\n");
        write("memory.max", "7000000\n");
        let of = |groups: &str| cgroup_limit(groups, root.path());
        assert_eq!(of("0::/user/app\n"), Some(5_000_000));
        assert_eq!(of("0::/\n"), Some(7_000_000));
        write("memory/jobs/9/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/jobs/memory.limit_in_bytes", "3000000\n");
        assert_eq!(of("4:cpu,memory:/jobs/9\n1:cpu:/\n0::/user\n"), Some(3_000_000));
        assert_eq!(of("1:cpu:/\n"), None);
        assert_eq!(of(""), None);
    }
}
