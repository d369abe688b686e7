//! Two thousand boards that lose one broker in the same second, and lose it again before they have settled: with the real
//! back-off and MQTT client against a real Mosquitto. Without TLS, which two thousand clients of one machine would spend more time
//! on than on what is tested; when a board comes back does not depend on it.

use coracle_daemon::link::backoff::{End, Failures};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const BOARDS: usize = 2000;

struct Broker(Child);

impl Broker {
    async fn start(folder: &std::path::Path, port: u16) -> Self {
        let config = folder.join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n");
        std::fs::write(&config, text).unwrap();
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs `mosquitto` on PATH");
        let broker = Self(child);
        for _ in 0..400 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return broker;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("mosquitto does not open");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Default)]
struct Seen {
    connected: AtomicUsize,
    /// Each CONNACK since the list was taken.
    came: Mutex<Vec<Instant>>,
}

/// As `link::run` goes on, without what it carries.
async fn board(number: usize, port: u16, seen: Arc<Seen>) {
    let mut failures = Failures::default();
    // They were not switched on in the same moment.
    let spread = Duration::from_secs(5).mul_f64(number as f64 / BOARDS as f64);
    tokio::time::sleep(spread).await;
    loop {
        let broker = ("127.0.0.1".to_owned(), port);
        let mut options = MqttOptions::new(format!("acme.b{number}"), broker);
        options.set_keep_alive(30);
        options.set_clean_session(false);
        let (_client, mut eventloop) = AsyncClient::builder(options).build();
        let mut opened: Option<Instant> = None;
        while let Ok(event) = eventloop.poll().await {
            if let Event::Incoming(Packet::ConnAck(_)) = event {
                opened = Some(Instant::now());
                seen.came.lock().unwrap().push(Instant::now());
                seen.connected.fetch_add(1, Ordering::Relaxed);
            }
        }
        drop(eventloop);
        let end = opened.map_or(End::Unopened, |at| End::Kicked(at.elapsed()));
        if end != End::Unopened {
            seen.connected.fetch_sub(1, Ordering::Relaxed);
        }
        let wait = failures.wait(end, coracle_daemon::random::u64());
        tokio::time::sleep(wait).await;
    }
}

async fn all_back(seen: &Seen, limit: Duration) {
    let end = Instant::now() + limit;
    loop {
        // Each since the kick, and none of them gone again.
        let came = seen.came.lock().unwrap().len();
        let back = seen.connected.load(Ordering::Relaxed).min(came);
        if back == BOARDS {
            return;
        }
        assert!(
            Instant::now() < end,
            "{back} of {BOARDS} are back after {limit:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How many came in each tenth of `over`, counted from `kick`; later ones are in the last.
fn tenths(came: &[Instant], kick: Instant, over: Duration) -> [usize; 10] {
    let mut tenths = [0; 10];
    for at in came {
        let share = at.duration_since(kick).as_secs_f64() / over.as_secs_f64();
        tenths[((share * 10.0) as usize).min(9)] += 1;
    }
    tenths
}

#[tokio::test]
async fn a_fleet_that_was_kicked_comes_back_spread_out_and_twice_as_far_the_second_time() {
    // A socket each.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = 3 * BOARDS as u64;
    assert!(
        most >= wanted,
        "this test opens {wanted} files, and may open {most}: ulimit -Hn"
    );
    setrlimit(Resource::RLIMIT_NOFILE, wanted, most).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut broker = Broker::start(folder.path(), port).await;
    let seen = Arc::new(Seen::default());
    let mut boards = tokio::task::JoinSet::new();
    for number in 0..BOARDS {
        boards.spawn(board(number, port, seen.clone()));
    }
    all_back(&seen, Duration::from_secs(60)).await;

    for (kick, seconds) in [(1, 30), (2, 60)] {
        let over = Duration::from_secs(seconds);
        seen.came.lock().unwrap().clear();
        drop(broker);
        let kicked = Instant::now();
        broker = Broker::start(folder.path(), port).await;
        // Those that came while it was away have one more wait before them, which is not much longer.
        all_back(&seen, 3 * over).await;
        let came = std::mem::take(&mut *seen.came.lock().unwrap());
        let tenths = tenths(&came, kicked, over);
        eprintln!("kick {kick}: came back in each tenth of {seconds} s: {tenths:?}");
        assert_eq!(came.len(), BOARDS, "each came once");
        let mean = BOARDS / 10;
        for (at, count) in tenths.iter().enumerate() {
            assert!(
                *count <= 2 * mean,
                "kick {kick}: {count} in tenth {at}: {tenths:?}"
            );
        }
        // Nor do they wait for the end of it.
        let half: usize = tenths[..5].iter().sum();
        assert!((BOARDS / 3..BOARDS * 2 / 3).contains(&half), "{tenths:?}");
    }
}
