//! The ranks of a training: processes, each on a machine or a GPU of its own, that compute together over MLX's distributed
//! engine. Nothing outside of this module and its users in `train` knows that there are several.
//!
//! To be read in this order: [`launched`] (how this process was started), [`meeting`] (the ranks find each other), `engine`
//! (MLX's collectives), [`heartbeat`] (what ends all when one is lost), [`Ranks`].

mod engine;
pub mod heartbeat;
pub mod launched;
pub mod meeting;

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use anyhow::{Context, Result, ensure};
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype, ops};
use sha2::{Digest, Sha256};
use sysinfo::System;

use self::engine::Group;
use self::heartbeat::{Heartbeat, OnLost};
pub use self::launched::Backend;
use self::meeting::Hello;

/// The most bytes of a host's name.
const NAME_BYTES: usize = 256;

/// This process and the others that it computes with.
pub struct Ranks {
    group: Group,
    rank: usize,
    size: usize,
    /// None where there is one rank.
    heartbeat: Option<Heartbeat>,
    wants_stop: Cell<bool>,
    stopping: Cell<bool>,
}

impl Ranks {
    /// Connects to the other ranks, if this process was started as one of several; it waits for those that start later.
    /// `on_lost` is called when one is lost after that, and is to end the process.
    ///
    /// # Errors
    /// An environment or a host file that cannot be used, an address that cannot be listened on, a rank of another program,
    /// or the words of MLX's engine.
    pub fn join(asked: Backend, on_lost: OnLost) -> Result<Option<Self>> {
        let Some(launched) = launched::detect(asked, &|name| std::env::var(name).ok())? else {
            return Ok(None);
        };
        if launched.place.as_ref().is_some_and(|place| place.size == 1) && launched.backend == Backend::Ring {
            return Ok(None); // a ring of one rank would wait for itself
        }
        let mut heartbeat = None;
        if let Some(place) = launched.place.filter(|place| place.size > 1) {
            let hello = hello(place.rank, place.size, 0);
            let links = if place.rank == 0 {
                meeting::await_others(meeting::listen(&place.first, 0)?, &hello)?
            } else {
                if let Some(own) = &place.own {
                    drop(meeting::listen(own, place.rank)?); // the engine would not say which address is taken
                }
                meeting::find_first(&place.first, &hello)?
            };
            heartbeat = Some(Heartbeat::start(place.rank, links, on_lost)?);
        }
        let backend = launched.backend;
        let group = Group::init(backend).map_err(|error| {
            let said = format!("MLX's backend {} cannot connect: {}", backend.name(), error.what());
            let said = said.split(" at /").next().unwrap_or_default().to_owned();
            heartbeat.iter().for_each(|heartbeat| heartbeat.fail(&said));
            anyhow::anyhow!(said)
        })?;
        let mut ranks = Self {
            rank: group.rank(),
            size: group.size(),
            group,
            heartbeat,
            wants_stop: Cell::new(false),
            stopping: Cell::new(false),
        };
        if ranks.heartbeat.is_none() && ranks.size > 1 {
            ranks.heartbeat = Some(ranks.meet_over_engine(on_lost)?);
        }
        Ok(Some(ranks))
    }

    /// The meeting, where the engine alone knows how to reach the others.
    fn meet_over_engine(&self, on_lost: OnLost) -> Result<Heartbeat> {
        let mut name = System::host_name().unwrap_or_default().into_bytes();
        name.resize(NAME_BYTES, 0);
        let names = self.gather(&name)?;
        let one_machine = names.iter().all(|other| *other == names[0]);
        let mut listener = None;
        let mut at = [0; 12];
        if self.rank == 0 {
            // Other machines reach rank 0 by the name of its host, whatever address that is.
            let address = if one_machine { "127.0.0.1:0" } else { "0.0.0.0:0" };
            let listening = meeting::listen(address, 0)?;
            at[..2].copy_from_slice(&listening.local_addr()?.port().to_le_bytes());
            at[4..].copy_from_slice(&token().to_le_bytes());
            listener = Some(listening);
        }
        let at = self.broadcast_bytes(&at)?;
        let port = u16::from_le_bytes([at[0], at[1]]);
        let token = at[4..12]
            .iter()
            .rev()
            .fold(0, |token, byte| token << 8 | u64::from(*byte));
        let hello = hello(self.rank, self.size, token);
        let links = match listener {
            Some(listener) => meeting::await_others(listener, &hello)?,
            None if one_machine => meeting::find_first(&format!("127.0.0.1:{port}"), &hello)?,
            None => {
                let first = String::from_utf8_lossy(&names[0]);
                meeting::find_first(&format!("{}:{port}", first.trim_end_matches('\0')), &hello)?
            }
        };
        Heartbeat::start(self.rank, links, on_lost)
    }

    /// This process's number, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether this rank writes the run and reports.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// This rank's part of `rows`: from the first up to, but not including, the second. The parts differ by one row at most.
    ///
    /// # Errors
    /// There are fewer rows than ranks.
    pub fn share(&self, rows: usize) -> Result<[usize; 2]> {
        share(rows, self.rank, self.size)
    }

    /// The sums over all ranks of each array, of one shape and type everywhere; computed one after another, so that all ranks
    /// send the same messages in the same order. The same to the bit on each rank.
    ///
    /// # Errors
    /// MLX's. If a rank is lost, the process ends.
    pub fn sum(&self, arrays: &[Array]) -> Result<Vec<Array>> {
        eval(arrays)?; // not under the watch: it may compile for minutes
        arrays
            .iter()
            .map(|array| self.collective(self.group.all_sum(array)?))
            .collect()
    }

    /// Rank 0's arrays, on each rank; the others give arrays of the same shapes and types, of four bytes an element.
    ///
    /// # Errors
    /// MLX's. If a rank is lost, the process ends.
    pub fn broadcast(&self, arrays: &[Array]) -> Result<Vec<Array>> {
        self.broadcast_from(0, arrays)
    }

    /// As [`broadcast`](Self::broadcast), from another rank.
    ///
    /// # Errors
    /// MLX's. If a rank is lost, the process ends.
    pub fn broadcast_from(&self, rank: usize, arrays: &[Array]) -> Result<Vec<Array>> {
        let sent = arrays.iter().map(|array| {
            // As integers, because a sum with -0.0 would be 0.0.
            let bits = array.view_dtype(Dtype::Uint32)?;
            let bits = if self.rank == rank {
                bits
            } else {
                ops::zeros_like(&bits)?
            };
            let sum = self.sum(&[bits])?;
            let received = sum.first().context("a message was lost")?.view_dtype(array.dtype())?;
            eval([&received])?;
            anyhow::Ok(received)
        });
        sent.collect()
    }

    /// Rank 0's bytes, on each rank, whatever the others give.
    ///
    /// # Errors
    /// MLX's. If a rank is lost, the process ends.
    pub fn broadcast_bytes(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let length = self.broadcast(&[Array::from_slice(&[bytes.len() as u32], &[1])])?;
        let length = length.first().context("a message was lost")?.try_item_exact::<u32>()? as usize;
        let words = if self.rank == 0 {
            words_of(bytes)
        } else {
            vec![0; length.div_ceil(4)]
        };
        let sent = self.broadcast(&[Array::from_slice(&words, &[words.len() as i32])])?;
        let mut received = bytes_of(sent.first().context("a message was lost")?)?;
        received.truncate(length);
        Ok(received)
    }

    /// The bytes of each rank, by rank; the same number on all.
    ///
    /// # Errors
    /// MLX's. If a rank is lost, the process ends.
    pub fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let words = words_of(bytes);
        let own = Array::from_slice(&words, &[words.len() as i32]);
        eval([&own])?;
        let all = bytes_of(&self.collective(self.group.all_gather(&own)?)?)?;
        Ok(all
            .chunks(4 * words.len())
            .map(|part| part[..bytes.len()].to_vec())
            .collect())
    }

    /// Compares something on all ranks by its SHA-256. All ranks learn the same.
    ///
    /// # Errors
    /// The first rank whose `value` is not rank 0's, by number, with `what` it differs in.
    pub fn ensure_same(&self, what: &str, value: impl AsRef<[u8]>) -> Result<()> {
        let hashes = self.gather(&Sha256::digest(value))?;
        let other = hashes.iter().position(|hash| *hash != hashes[0]);
        ensure!(
            other.is_none(),
            "rank {} has {what} than rank 0",
            other.unwrap_or_default()
        );
        Ok(())
    }

    /// Waits until all ranks are here.
    ///
    /// # Errors
    /// MLX's. If a rank is lost, the process ends.
    pub fn barrier(&self) -> Result<()> {
        self.gather(&[0]).map(drop)
    }

    /// Evaluates what all ranks take part in.
    fn collective(&self, result: Array) -> Result<Array> {
        let Some(heartbeat) = &self.heartbeat else {
            eval([&result])?;
            return Ok(result);
        };
        if let Err(error) = heartbeat.during(result.nbytes(), || eval([&result])) {
            heartbeat.await_verdict();
            return Err(error.into());
        }
        Ok(result)
    }

    /// Whether this rank was asked to stop: it is said with the next step's sums, after which all ranks stop at once.
    pub fn set_wants_stop(&self, wants: bool) {
        self.wants_stop.set(wants);
    }

    /// What to send of it: 1 if this rank is to stop, otherwise 0.
    pub fn stop_vote(&self) -> f32 {
        f32::from(u8::from(self.wants_stop.get()))
    }

    /// The sum of all votes: any rank's stops all.
    pub fn count_votes(&self, votes: f32) {
        self.stopping.set(votes > 0.0);
    }

    /// Whether a rank was asked to stop before the last sums: the same on all ranks.
    pub fn stopping(&self) -> bool {
        self.stopping.get()
    }

    /// What is advised if a rank is lost from now on.
    pub fn set_remedy(&self, remedy: String) {
        self.heartbeat
            .iter()
            .for_each(|heartbeat| heartbeat.set_remedy(remedy.clone()));
    }

    /// Leaves the others, for which this rank is not lost.
    pub fn leave(&self) {
        self.heartbeat.iter().for_each(Heartbeat::leave);
    }

    /// Tells the others that this rank ends with an error; they end, too.
    pub fn fail(&self, why: &str) {
        self.heartbeat.iter().for_each(|heartbeat| heartbeat.fail(why));
    }
}

fn hello(rank: usize, size: usize, token: u64) -> Hello {
    Hello {
        rank,
        size,
        token,
        program: concat!(
            "mlx-gpt ",
            env!("CARGO_PKG_VERSION"),
            " (MLX ",
            env!("MLX_VERSION"),
            ")"
        )
        .into(),
    }
}

/// A number that the system drew at random.
fn token() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn share(rows: usize, rank: usize, ranks: usize) -> Result<[usize; 2]> {
    ensure!(
        rows >= ranks,
        "a batch of {rows} row(s) cannot be shared among {ranks} ranks; raise --batch-size, or start fewer"
    );
    Ok([rank, rank + 1].map(|rank| rank * rows / ranks))
}

/// Four bytes to a word; the last one's missing bytes are 0.
fn words_of(bytes: &[u8]) -> Vec<u32> {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    bytes.chunks(4).map(word).collect()
}

fn bytes_of(words: &Array) -> Result<Vec<u8>> {
    let words: &[u32] = words.try_as_slice()?;
    Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_some_ranks_and_no_rank_is_idle() {
        for (rows, ranks) in [(12, 1), (12, 4), (7, 3), (5, 5)] {
            let shares: Vec<[usize; 2]> = (0..ranks).map(|rank| share(rows, rank, ranks).unwrap()).collect();
            assert_eq!((shares[0][0], shares[ranks - 1][1]), (0, rows));
            assert!(shares.windows(2).all(|two| two[0][1] == two[1][0]));
            assert!(
                shares
                    .iter()
                    .all(|[first, end]| (rows / ranks..=rows / ranks + 1).contains(&(end - first)))
            );
        }
        assert!(share(3, 0, 4).unwrap_err().to_string().contains("raise --batch-size"));
    }

    #[test]
    fn bytes_are_sent_as_words() {
        for bytes in [&b"abcdefg"[..], &[255, 0, 1, 2]] {
            let words = words_of(bytes);
            let back = bytes_of(&Array::from_slice(&words, &[words.len() as i32])).unwrap();
            assert_eq!(&back[..bytes.len()], bytes);
        }
    }
}
