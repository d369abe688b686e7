//! What resolvers say, read line by line, none longer than one may be, and all of them together no faster than it is good for
//! the supervisor: each line can mean a word with the kernel.

use coracle_network::resolver::{MAX_SAID_BYTES, Said};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

/// Lines that the supervisor reads at once, and how long it takes before each further one.
const BURST: u32 = 64;
const EACH: Duration = Duration::from_millis(10);

/// What a resolver says.
#[derive(Debug)]
pub struct Word {
    /// Its process id.
    pub pid: i32,
    /// What it says; none: it has said something else, and is not to go on.
    pub said: Option<Said>,
}

/// Where words go, for all resolvers; who waits longest is the next one.
#[derive(Debug, Clone)]
pub struct Words {
    to: mpsc::Sender<Word>,
    budget: Arc<Mutex<Budget>>,
}

impl Words {
    /// To there.
    pub fn new(to: mpsc::Sender<Word>) -> Self {
        let budget = Budget {
            left: BURST,
            since: Instant::now(),
        };
        Self {
            to,
            budget: Arc::new(Mutex::new(budget)),
        }
    }

    /// Until one more line may be read.
    async fn turn(&self) {
        let mut budget = self.budget.lock().await;
        while let Some(wait) = budget.take(Instant::now()) {
            tokio::time::sleep(wait).await;
        }
    }
}

#[derive(Debug)]
struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    /// Takes one, or says how long to wait.
    fn take(&mut self, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.since);
        let earned = u32::try_from(passed.as_millis() / EACH.as_millis()).unwrap_or(BURST);
        self.left = self.left.saturating_add(earned).min(BURST);
        self.since += EACH * earned.min(BURST);
        if earned >= BURST {
            self.since = now;
        }
        match self.left.checked_sub(1) {
            Some(fewer) => {
                self.left = fewer;
                None
            }
            None => Some((self.since + EACH).saturating_duration_since(now)),
        }
    }
}

/// Ends with the resolver that it listens to.
#[derive(Debug)]
pub(super) struct Reader(JoinHandle<()>);

impl Reader {
    pub fn of(stream: tokio::net::UnixStream, pid: i32, words: Words) -> Self {
        Self(tokio::spawn(listen(stream, pid, words)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(stream: tokio::net::UnixStream, pid: i32, words: Words) {
    let mut reader = BufReader::with_capacity(MAX_SAID_BYTES, stream);
    loop {
        let mut line = Vec::new();
        let most = MAX_SAID_BYTES as u64 + 1;
        match (&mut reader).take(most).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let said = match line.last() {
            Some(b'\n') => serde_json::from_slice(&line).ok(),
            _ => None,
        };
        words.turn().await;
        let more = said.is_some();
        if words.to.send(Word { pid, said }).await.is_err() || !more {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_each_time() {
        let start = Instant::now();
        let mut budget = Budget {
            left: BURST,
            since: start,
        };
        let mut taken = 0;
        // Whoever asks every millisecond, for two seconds.
        for ms in 0..2000 {
            let now = start + Duration::from_millis(ms);
            while budget.take(now).is_none() {
                taken += 1;
            }
        }
        assert!((262..=264).contains(&taken), "{taken}");
        assert_eq!(budget.take(start + Duration::from_secs(60)), None);
        assert_eq!(budget.left, BURST - 1);
        let wait = (0..BURST).find_map(|_| budget.take(start + Duration::from_secs(60)));
        assert_eq!(wait, Some(EACH));
    }

    #[tokio::test]
    async fn all_resolvers_share_one_budget() {
        let (to, mut heard) = mpsc::channel(8);
        let words = Words::new(to);
        let line = b"{\"forbidden\":{\"client\":\"10.0.0.1\",\"name\":\"a\"}}\n";
        let mut readers = Vec::new();
        for pid in 0..4 {
            let (ours, mut theirs) = tokio::net::UnixStream::pair().unwrap();
            let lines = line.repeat(200);
            tokio::spawn(
                async move { tokio::io::AsyncWriteExt::write_all(&mut theirs, &lines).await },
            );
            readers.push(Reader::of(ours, pid, words.clone()));
        }
        let start = Instant::now();
        let mut of = [0; 4];
        for _ in 0..164 {
            let word = heard.recv().await.unwrap();
            of[word.pid as usize] += 1;
        }
        // A hundred more than the burst.
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(950), "{took:?}");
        assert!(of.iter().all(|lines| *lines > 20), "{of:?}");
        drop(readers);
    }
    fn line(name: &str) -> Vec<u8> {
        let said = Said::Forbidden {
            client: std::net::Ipv4Addr::LOCALHOST,
            name: name.to_owned(),
        };
        let mut line = serde_json::to_vec(&said).unwrap();
        line.push(b'\n');
        line
    }

    #[tokio::test]
    async fn a_resolver_is_heard_line_by_line_until_it_talks_nonsense() {
        let long = line(&"x".repeat(MAX_SAID_BYTES));
        for (nonsense, good) in [
            (line("b"), true),
            (b"\n".to_vec(), false),
            (b"{}\n".to_vec(), false),
            (b"\xff\n".to_vec(), false),
            (b"{\"found\":{\"id\":-1}}\n".to_vec(), false),
            (long.clone(), false),
            (long[..MAX_SAID_BYTES + 9].to_vec(), false),
            (b"cut short".to_vec(), false),
        ] {
            let text = String::from_utf8_lossy(&nonsense[..nonsense.len().min(40)]).into_owned();
            let (to, mut heard) = mpsc::channel(8);
            let (ours, mut theirs) = tokio::net::UnixStream::pair().unwrap();
            let bytes = [line("a"), nonsense, line("c")].concat();
            tokio::spawn(async move {
                // Nobody reads what comes after nonsense.
                let _ = tokio::io::AsyncWriteExt::write_all(&mut theirs, &bytes).await;
            });
            let reader = Reader::of(ours, 7, Words::new(to));
            let mut said = Vec::new();
            while let Some(word) = heard.recv().await {
                said.push(word.said.is_some());
            }
            let wanted: &[bool] = if good { &[true; 3] } else { &[true, false] };
            assert_eq!(said, wanted, "{text}");
            drop(reader);
        }
    }
}
