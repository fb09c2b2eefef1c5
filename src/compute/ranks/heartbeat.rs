//! Whether the other ranks are alive, while this one is blocked in MLX's engine.
//!
//! A collective ends only when every rank takes part in it, and nothing can be asked over an engine that blocks. So each rank
//! has a thread beside it that says a word to rank 0 every second, and rank 0 one to each, over the connections of the
//! [meeting](super::meeting). It speaks while the rank compiles, evaluates or saves, however long that takes; so nothing
//! but the following is taken for a fault:
//!
//! - a connection that ends without a farewell: the rank was killed, or crashed;
//! - silence: it is stopped, its machine hangs, or a cable is out;
//! - all ranks wait in the engine, and have for longer than their message can take: the engine itself hangs;
//! - a rank says that it ended, and why.
//!
//! Rank 0 tells all the others which rank it was. What ends the process is up to the caller.

use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::meeting::{Link, line};

/// Between two words.
const BEAT: Duration = Duration::from_secs(1);
/// Silence that is taken for a fault. With a beat and the word to the others it stays below 30 seconds.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a message of no length may take, and the bytes a second of the slowest network for all others.
const ENGINE_TIME: Duration = Duration::from_secs(30);
const ENGINE_RATE: u64 = 1_000_000;

/// What is called, once and on a thread of its own, when another rank is lost: with a line that says which and why, and
/// whether rank 0 has said it already. It is to end the process.
pub type OnLost = fn(&str, bool);

/// The threads beside a rank; they end with the process.
pub struct Heartbeat(Arc<Shared>);

struct Shared {
    rank: usize,
    on_lost: OnLost,
    /// Collectives begun plus those ended: odd inside of one.
    phase: AtomicU64,
    /// Seconds that the present collective may take.
    allowed: AtomicU64,
    peers: Mutex<Vec<Peer>>,
    /// This rank has said farewell, or the loss of another.
    over: AtomicBool,
    /// What rank 0 advises if a rank is lost.
    remedy: Mutex<String>,
}

/// Another rank, as far as it was heard.
struct Peer {
    rank: usize,
    stream: TcpStream,
    heard: Instant,
    phase: u64,
    phase_since: Instant,
    left: bool,
}

impl Heartbeat {
    /// Starts to beat on these connections, and to listen.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(rank: usize, links: Vec<Link>, on_lost: OnLost) -> Result<Self> {
        let now = Instant::now();
        let peers = links.iter().map(|(rank, link)| {
            let stream = link.get_ref().try_clone()?;
            stream.set_write_timeout(Some(BEAT))?;
            Ok(Peer {
                rank: *rank,
                stream,
                heard: now,
                phase: 0,
                phase_since: now,
                left: false,
            })
        });
        let shared = Arc::new(Shared {
            rank,
            on_lost,
            phase: AtomicU64::new(0),
            allowed: AtomicU64::new(0),
            peers: Mutex::new(peers.collect::<Result<_>>()?),
            over: AtomicBool::new(false),
            remedy: Mutex::default(),
        });
        for (index, (_, link)) in links.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            spawn(move || shared.listen(index, link))?;
        }
        let beating = Arc::clone(&shared);
        spawn(move || beating.beat())?;
        Ok(Self(shared))
    }

    /// Runs what waits for all ranks: a message of so many bytes.
    pub fn during<T>(&self, bytes: usize, collective: impl FnOnce() -> T) -> T {
        let seconds = ENGINE_TIME.as_secs() + bytes as u64 / ENGINE_RATE;
        self.0.allowed.store(seconds, Ordering::Relaxed);
        self.0.phase.fetch_add(1, Ordering::Relaxed);
        let result = collective();
        self.0.phase.fetch_add(1, Ordering::Relaxed);
        result
    }

    /// After an error of the engine, which does not say whose fault it was: waits for the heartbeat to find out, which ends
    /// the process. It returns if no rank is lost.
    pub fn await_verdict(&self) {
        thread::sleep(SILENCE + 2 * BEAT);
    }

    /// What rank 0 is to advise if a rank is lost from now on.
    pub fn set_remedy(&self, remedy: String) {
        *lock(&self.0.remedy) = remedy;
    }

    /// Says farewell: the others go on without this rank.
    pub fn leave(&self) {
        self.0.over.store(true, Ordering::Relaxed);
        self.0.tell_all("bye");
    }

    /// Tells the others that this rank ends with an error, for which they end, too.
    pub fn fail(&self, why: &str) {
        self.0.over.store(true, Ordering::Relaxed);
        self.0.tell_all(&format!("failed {}", one_line(why)));
    }
}

impl Shared {
    fn beat(&self) {
        let mut last = Instant::now();
        let (mut phase, mut phase_since) = (0, last);
        loop {
            thread::sleep(BEAT);
            let now = Instant::now();
            if now.duration_since(last) > SILENCE / 2 {
                // This process itself was stopped, so that it could not have heard the others.
                lock(&self.peers).iter_mut().for_each(|peer| peer.heard = now);
            }
            last = now;
            let own = self.phase.load(Ordering::Relaxed);
            if own != phase {
                (phase, phase_since) = (own, now);
            }
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            self.tell_all(&format!("beat {phase}"));
            if let Some(why) = self.fault(now, phase, phase_since) {
                return self.lose(&why, false);
            }
        }
    }

    /// What is wrong at `now`, where this rank has been in a phase since a time.
    fn fault(&self, now: Instant, phase: u64, since: Instant) -> Option<String> {
        let peers = lock(&self.peers);
        let silent = peers
            .iter()
            .find(|peer| !peer.left && now.duration_since(peer.heard) > SILENCE);
        if let Some(Peer { rank, .. }) = silent {
            return Some(format!(
                "rank {rank} has said nothing for {} seconds: it hangs or is stopped, or the network between is down",
                SILENCE.as_secs()
            ));
        }
        let allowed = Duration::from_secs(self.allowed.load(Ordering::Relaxed));
        let waits = |phase: u64, since: Instant| !phase.is_multiple_of(2) && now.duration_since(since) > allowed;
        let all_wait = waits(phase, since) && peers.iter().all(|peer| waits(peer.phase, peer.phase_since));
        (self.rank == 0 && all_wait).then(|| {
            format!(
                "MLX's engine hangs: all ranks have waited for each other for {} seconds in message {}",
                allowed.as_secs(),
                phase.div_ceil(2)
            )
        })
    }

    fn listen(&self, index: usize, mut link: BufReader<TcpStream>) {
        let rank = lock(&self.peers)[index].rank;
        while let Some(line) = line(&mut link) {
            let (word, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
            let mut peers = lock(&self.peers);
            let peer = &mut peers[index];
            peer.heard = Instant::now();
            match word {
                "beat" => {
                    if let Ok(phase) = rest.parse()
                        && phase != peer.phase
                    {
                        (peer.phase, peer.phase_since) = (phase, peer.heard);
                    }
                }
                "bye" => {
                    peer.left = true;
                    return;
                }
                "failed" => {
                    drop(peers);
                    return self.lose(&format!("rank {rank} ended: {rest}"), rank == 0);
                }
                "lost" => {
                    drop(peers);
                    return self.lose(rest, true);
                }
                _ => {}
            }
        }
        self.lose(
            &format!("rank {rank} ended without a word: it was killed, or crashed"),
            false,
        );
    }

    /// Ends all: rank 0 tells the others whom they have lost.
    fn lose(&self, why: &str, said_by_first: bool) {
        if self.over.swap(true, Ordering::Relaxed) {
            return;
        }
        if self.rank == 0 {
            self.tell_all(&format!("lost {}", one_line(why)));
        }
        let remedy = lock(&self.remedy).clone();
        (self.on_lost)(&format!("{why}{remedy}"), said_by_first);
    }

    /// Says a line to all that are connected. One that cannot be told is found out by its silence.
    fn tell_all(&self, text: &str) {
        for peer in lock(&self.peers).iter_mut().filter(|peer| !peer.left) {
            let _ = peer.stream.write_all(format!("{text}\n").as_bytes());
        }
    }
}

impl Drop for Heartbeat {
    /// Closes the connections, which ends the threads that listen.
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
        for peer in lock(&self.0.peers).iter() {
            let _ = peer.stream.shutdown(Shutdown::Write); // one that is gone needs no farewell
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = thread::Builder::new().name("heartbeat".into()).spawn(work);
    thread
        .map(drop)
        .context("a thread beside this rank could not be started")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Rank 0 of two, and the other's connection.
    fn pair(on_lost: OnLost) -> (Heartbeat, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (own, _) = listener.accept().unwrap();
        (
            Heartbeat::start(0, vec![(1, BufReader::new(own))], on_lost).unwrap(),
            other,
        )
    }

    fn wait_for(said: &Mutex<String>) -> String {
        let started = Instant::now();
        while lock(said).is_empty() {
            assert!(started.elapsed() < Duration::from_secs(60), "nothing was said");
            thread::sleep(Duration::from_millis(5));
        }
        lock(said).clone()
    }

    #[test]
    fn a_rank_that_is_killed_is_named_with_what_to_do() {
        static SAID: Mutex<String> = Mutex::new(String::new());
        let (heartbeat, other) = pair(|why, _| *lock(&SAID) = why.to_owned());
        heartbeat.set_remedy("; go on with --resume".into());
        drop(other);
        let said = wait_for(&SAID);
        assert!(
            said.starts_with("rank 1 ended without a word") && said.ends_with("--resume"),
            "{said}"
        );
    }

    #[test]
    fn a_rank_that_fails_says_why_and_one_that_leaves_is_not_lost() {
        static SAID: Mutex<String> = Mutex::new(String::new());
        let (_failing, mut other) = pair(|why, _| *lock(&SAID) = why.to_owned());
        other.write_all(b"beat 3\nfailed the disk is full\n").unwrap();
        assert_eq!(wait_for(&SAID), "rank 1 ended: the disk is full");

        let (leaving, mut other) = pair(|why, _| panic!("{why}"));
        other.write_all(b"bye\n").unwrap();
        drop(other);
        let started = Instant::now();
        while !lock(&leaving.0.peers)[0].left {
            assert!(started.elapsed() < Duration::from_secs(60));
        }
        assert!(!leaving.0.over.load(Ordering::Relaxed));
    }

    #[test]
    fn silence_and_an_engine_that_hangs_are_faults_and_a_long_message_is_none() {
        let (heartbeat, _other) = pair(|_, _| ());
        let shared = &heartbeat.0;
        let now = Instant::now();
        let fault = |later: u64, phase| shared.fault(now + Duration::from_secs(later), phase, now);
        assert_eq!(fault(19, 1), None);
        assert!(
            fault(40, 0)
                .unwrap()
                .starts_with("rank 1 has said nothing for 20 seconds")
        );

        let heard = |phase| {
            let mut peers = lock(&shared.peers);
            (peers[0].phase, peers[0].heard) = (phase, now + Duration::from_secs(999));
        };
        shared.allowed.store(60, Ordering::Relaxed);
        heard(5);
        assert!(fault(70, 5).unwrap().starts_with("MLX's engine hangs"));
        assert_eq!(fault(50, 5), None, "a message that may take as long");
        assert_eq!(fault(70, 4), None, "this rank is computing");
        heard(4);
        assert_eq!(fault(70, 5), None, "the other is computing");
    }
}
