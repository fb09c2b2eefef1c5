//! How ranks find each other: every other rank connects to rank 0, which waits for all of them.
//!
//! These connections stay: they are what the [heartbeat](super::heartbeat) goes over. MLX's engine has connections of its own,
//! made later, on the same addresses: rank 0 stops listening here before any rank turns to the engine.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long ranks are waited for.
const PATIENCE: Duration = Duration::from_secs(600);
/// Until the first message that says who is missing, and between two of them.
const SAY_AFTER: Duration = Duration::from_secs(3);
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Until a connection is taken for one that nobody answers on.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// The most bytes that are read of a line.
const LINE_BYTES: u64 = 4096;

const GREETING: &str = "mlx-gpt-rank";
const START: &str = "start";
const REFUSED: &str = "refused ";

/// What a rank says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// Its number.
    pub rank: usize,
    /// The number of ranks, as it was told.
    pub size: usize,
    /// A number that only ranks of one start know, where the engine could tell it to them; otherwise 0.
    pub token: u64,
    /// Its program and that program's version.
    pub program: String,
}

/// A connection to another rank: its number, and what it says.
pub type Link = (usize, BufReader<TcpStream>);

impl Hello {
    fn line(&self) -> String {
        let Self {
            rank,
            size,
            token,
            program,
        } = self;
        format!("{GREETING} {token} {rank} {size} {program}\n")
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.trim_end().splitn(5, ' ');
        (words.next()? == GREETING).then_some(())?;
        Some(Self {
            token: words.next()?.parse().ok()?,
            rank: words.next()?.parse().ok()?,
            size: words.next()?.parse().ok()?,
            program: words.next()?.to_owned(),
        })
    }

    /// Why `other` cannot be another rank of this one's run.
    fn objection(&self, other: &Self, known: &BTreeMap<usize, BufReader<TcpStream>>) -> Option<String> {
        let (rank, size) = (other.rank, other.size);
        if other.program != self.program {
            return Some(format!(
                "rank {rank} is {}, rank 0 is {}; start the same program everywhere",
                other.program, self.program
            ));
        }
        if size != self.size {
            return Some(format!(
                "rank {rank} was told of {size} ranks, rank 0 of {}; give all the same host file",
                self.size
            ));
        }
        if rank == 0 || rank >= size || known.contains_key(&rank) {
            return Some(format!(
                "two processes are rank {rank}; give each rank a number of its own"
            ));
        }
        None
    }
}

/// Listens on an address for the other ranks.
///
/// # Errors
/// One line that says why nobody can listen there.
pub fn listen(address: &str, rank: usize) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "is used by another program; choose another port in the host file".into(),
            io::ErrorKind::AddrNotAvailable => {
                "is no address of this machine; correct the host file, or the number of this rank".into()
            }
            _ => format!("cannot be listened on: {error}"),
        };
        anyhow::anyhow!("address {address} of rank {rank} {why}")
    })
}

/// Rank 0: waits until all others have connected, then lets them start.
///
/// # Errors
/// A rank of another program or another start, which is named; one that does not come, or leaves again.
pub fn await_others(listener: TcpListener, own: &Hello) -> Result<Vec<Link>> {
    listener.set_nonblocking(true)?;
    let mut links = BTreeMap::new();
    let mut patience = Patience::new();
    while links.len() + 1 < own.size {
        let missing = || {
            let missing = (1..own.size).filter(|rank| !links.contains_key(rank));
            let missing: Vec<String> = missing.map(|rank| rank.to_string()).collect();
            format!("rank {}", missing.join(", "))
        };
        patience.check(missing)?;
        let gone = links.iter().find(|(_, link)| has_left(link)).map(|(rank, _)| *rank);
        if let Some(gone) = gone {
            return Err(refuse(links, &format!("rank {gone} ended before all were there")));
        }
        match listener.accept() {
            Ok((stream, _)) => {
                let Some((hello, link)) = greeted(stream) else {
                    continue; // no rank, but something that tries all ports
                };
                if hello.token != own.token {
                    continue;
                }
                if let Some(objection) = own.objection(&hello, &links) {
                    links.entry(usize::MAX).or_insert(link); // it is told, too
                    return Err(refuse(links, &objection));
                }
                links.insert(hello.rank, link);
            }
            Err(_) => sleep(PAUSE),
        }
    }
    drop(listener); // the engine listens there next
    for (rank, link) in &mut links {
        let said = writeln!(link.get_mut(), "{START}");
        said.with_context(|| format!("rank {rank} ended before all were there"))?;
    }
    Ok(links.into_iter().collect())
}

/// Another rank: connects to rank 0, and waits until all are there.
///
/// # Errors
/// Rank 0's objection, or an address that does not lead to it.
pub fn find_first(address: &str, own: &Hello) -> Result<Vec<Link>> {
    let mut patience = Patience::new();
    let mut failed = String::new();
    let stream = loop {
        patience.check(|| format!("rank 0 at {address}{failed}"))?;
        let found = address
            .to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next())
            .with_context(|| format!("address {address} of rank 0 leads nowhere; correct the host file"))?;
        match TcpStream::connect_timeout(&found, ANSWER_TIME) {
            Ok(stream) => break stream,
            Err(error) => failed = format!(" ({error})"),
        }
        sleep(PAUSE);
    };
    stream.set_nodelay(true)?;
    let mut link = BufReader::new(stream);
    link.get_mut().write_all(own.line().as_bytes())?;
    let answer = line(&mut link).unwrap_or_default();
    match answer.trim_end() {
        START => Ok(vec![(0, link)]),
        other => match other.strip_prefix(REFUSED) {
            Some(objection) => bail!("{objection}"),
            None => bail!("rank 0 at {address} ended, or another program answers there; look at what rank 0 says"),
        },
    }
}

/// Tells all why it does not go on.
fn refuse(links: BTreeMap<usize, BufReader<TcpStream>>, why: &str) -> anyhow::Error {
    for mut link in links.into_values() {
        let _ = writeln!(link.get_mut(), "{REFUSED}{why}"); // one that is gone needs no answer
    }
    anyhow::anyhow!("{why}")
}

/// A new connection's greeting, if it gives one in time.
fn greeted(stream: TcpStream) -> Option<(Hello, BufReader<TcpStream>)> {
    stream.set_nonblocking(false).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(ANSWER_TIME)).ok()?;
    let mut link = BufReader::new(stream);
    let hello = Hello::parse(&line(&mut link)?)?;
    link.get_ref().set_read_timeout(None).ok()?;
    Some((hello, link))
}

/// Whether the other end has closed a connection on which nothing is said yet.
fn has_left(link: &BufReader<TcpStream>) -> bool {
    let stream = link.get_ref();
    let silent = stream.set_nonblocking(true).is_ok();
    let ended = matches!(stream.peek(&mut [0]), Ok(0));
    silent && stream.set_nonblocking(false).is_ok() && ended
}

/// A line of another rank; `None` at the end, or for one that is too long.
pub fn line(link: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let read = link.by_ref().take(LINE_BYTES).read_line(&mut line);
    (read.is_ok() && line.ends_with('\n')).then_some(line)
}

/// Waiting, with a message now and then.
struct Patience {
    since: Instant,
    said: Option<Instant>,
}

impl Patience {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            said: None,
        }
    }

    /// # Errors
    /// It has taken too long.
    fn check(&mut self, whom: impl Fn() -> String) -> Result<()> {
        let waited = self.since.elapsed();
        ensure!(
            waited < PATIENCE,
            "waited {} minutes for {}; start it, or correct the host file",
            PATIENCE.as_secs() / 60,
            whom()
        );
        if waited > SAY_AFTER && self.said.is_none_or(|said| said.elapsed() > SAY_EVERY) {
            log::info!("waiting for {}", whom());
            self.said = Some(Instant::now());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn hello(rank: usize, size: usize) -> Hello {
        Hello {
            rank,
            size,
            token: 7,
            program: "mlx-gpt 1.2 (MLX 3)".into(),
        }
    }

    /// What rank 0 and the others come to, where these connect.
    fn meet(others: Vec<Hello>) -> (Result<Vec<Link>>, Vec<Result<Vec<Link>>>) {
        let listener = listen("127.0.0.1:0", 0).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let own = hello(0, others.len() + 1);
        let threads: Vec<_> = others
            .into_iter()
            .map(|other| {
                let address = address.clone();
                thread::spawn(move || find_first(&address, &other))
            })
            .collect();
        let mut stranger = TcpStream::connect(&address).unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let first = await_others(listener, &own);
        (
            first,
            threads.into_iter().map(|thread| thread.join().unwrap()).collect(),
        )
    }

    #[test]
    fn all_ranks_meet_and_strangers_are_left_out() {
        let (first, others) = meet(vec![hello(2, 3), hello(1, 3)]);
        let ranks: Vec<usize> = first.unwrap().iter().map(|(rank, _)| *rank).collect();
        assert_eq!(ranks, [1, 2]);
        assert!(others.iter().all(Result::is_ok));
    }

    #[test]
    fn a_rank_of_another_start_is_named_to_all() {
        let other_program = Hello {
            program: "mlx-gpt 1.3 (MLX 3)".into(),
            ..hello(1, 2)
        };
        for (other, said) in [
            (other_program, "rank 1 is mlx-gpt 1.3 (MLX 3), rank 0 is mlx-gpt 1.2"),
            (hello(1, 3), "rank 1 was told of 3 ranks, rank 0 of 2"),
            (hello(0, 2), "two processes are rank 0"),
        ] {
            let (first, others) = meet(vec![other]);
            let errors = [
                first.err().unwrap().to_string(),
                others[0].as_ref().err().unwrap().to_string(),
            ];
            assert!(errors.iter().all(|error| error.contains(said)), "{errors:?}");
        }
    }

    #[test]
    fn an_address_that_is_taken_or_elsewhere_is_named() {
        let taken = listen("127.0.0.1:0", 0).unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = listen(&address, 3).unwrap_err().to_string();
        assert!(
            error.contains(&format!("address {address} of rank 3 is used")),
            "{error}"
        );
        let error = listen("192.0.2.1:4000", 1).unwrap_err().to_string(); // an address for documentation
        assert!(error.contains("is no address of this machine"), "{error}");
        let error = find_first("nowhere.invalid:1", &hello(1, 2)).unwrap_err().to_string();
        assert!(error.contains("leads nowhere; correct the host file"), "{error}");
    }
}
