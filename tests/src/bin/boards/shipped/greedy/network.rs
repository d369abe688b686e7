//! Rates of the network, against a listener of this machine's.

use super::{Attempt, Seen, look::first};
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const KIB_PER_SECOND: u64 = 256;
const WANTED_KIB: u64 = 2048;
/// What may pass at once, after a pause: out of the app what a second brings and 128 KiB (nft_limit.c counts both as the size of
/// its bucket), less into it; and something for clocks and for what waits in queues.
const AT_ONCE_KIB: u64 = 448;
/// This machine, as QEMU's user network shows it to the board.
const HERE: &str = "10.0.2.2";

/// Where this machine listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// For what the app sends.
    pub takes: u16,
    /// For an app that wants bytes.
    pub gives: u16,
}

/// What passed, by this machine's clock.
#[derive(Debug, Clone, Copy)]
struct Passed {
    bytes: u64,
    seconds: f64,
}

/// Both listeners.
pub struct Wire {
    ports: Ports,
    taken: Receiver<std::io::Result<Passed>>,
    given: Receiver<std::io::Result<Passed>>,
}

impl Wire {
    pub fn open() -> Result<Wire> {
        let (takes, taken) = serve(take)?;
        let (gives, given) = serve(give)?;
        Ok(Wire {
            ports: Ports { takes, gives },
            taken,
            given,
        })
    }

    pub fn ports(&self) -> Ports {
        self.ports
    }
}

type Serve = fn(&TcpListener) -> std::io::Result<Passed>;

/// Serves until nobody wants to know of it.
fn serve(one: Serve) -> Result<(u16, Receiver<std::io::Result<Passed>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a port for the app to talk to")?;
    let port = listener.local_addr()?.port();
    let (tell, told) = channel();
    std::thread::spawn(move || while tell.send(one(&listener)).is_ok() {});
    Ok((port, told))
}

fn accept(listener: &TcpListener) -> std::io::Result<TcpStream> {
    let (stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    Ok(stream)
}

fn take(listener: &TcpListener) -> std::io::Result<Passed> {
    let mut stream = accept(listener)?;
    let (start, mut buffer, mut bytes) = (Instant::now(), [0; 16384], 0);
    // The app's end waits for ours.
    while bytes < WANTED_KIB << 10 {
        match stream.read(&mut buffer)? {
            0 => break,
            count => bytes += count as u64,
        }
    }
    Ok(Passed {
        bytes,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// What was written may lie in buffers between here and the app: it says itself, by a second connection, that it has all.
fn give(listener: &TcpListener) -> std::io::Result<Passed> {
    let mut stream = accept(listener)?;
    let start = Instant::now();
    stream.write_all(&vec![0; (WANTED_KIB << 10) as usize])?;
    stream.shutdown(Shutdown::Write)?;
    let mut said = String::new();
    accept(listener)?.take(64).read_to_string(&mut said)?;
    let bytes = said.trim().parse().map_err(std::io::Error::other)?;
    Ok(Passed {
        bytes,
        seconds: start.elapsed().as_secs_f64(),
    })
}

pub fn limits() -> String {
    format!("ingress_rate = \"{KIB_PER_SECOND}KiB\"\negress_rate = \"{KIB_PER_SECOND}KiB\"\n")
}

pub fn attempts(ports: Ports) -> Vec<Attempt> {
    let Ports { takes, gives } = ports;
    vec![
        Attempt {
            name: "send",
            script: format!(
                "dd if=/dev/zero bs=64k count={} 2>/dev/null | nc {HERE} {takes}; echo ended $?",
                WANTED_KIB / 64
            ),
            judge: sent,
        },
        Attempt {
            name: "receive",
            script: format!(
                "n=$(nc {HERE} {gives} < /dev/null | wc -c); echo $n | nc {HERE} {gives}; echo came $n"
            ),
            judge: received,
        },
    ]
}

fn sent(seen: &mut Seen<'_>) -> Result<String> {
    at_rate("sending", &seen.wire.taken)
}

fn received(seen: &mut Seen<'_>) -> Result<String> {
    let came = first::<u64>(seen.said, "came ");
    ensure!(came == Some(WANTED_KIB << 10), "{came:?} bytes came");
    at_rate("receiving", &seen.wire.given)
}

fn at_rate(what: &str, passed: &Receiver<std::io::Result<Passed>>) -> Result<String> {
    let passed = passed.recv_timeout(Duration::from_secs(30));
    let Passed { bytes, seconds } = passed.context("no bytes of the app's on this machine")??;
    let least = (WANTED_KIB - AT_ONCE_KIB) as f64 / KIB_PER_SECOND as f64;
    ensure!(
        bytes >= WANTED_KIB << 10 && seconds >= least,
        "{bytes} bytes in {seconds:.2} s"
    );
    Ok(format!(
        "{what}: {} KiB in {seconds:.2} s, {KIB_PER_SECOND} KiB a second allowed",
        bytes >> 10
    ))
}
