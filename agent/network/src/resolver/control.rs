//! What supervisor and resolver say to each other: a line of JSON each.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};

use super::Zone;

/// A zone's JSON: far more than a board's containers need.
const MAX_TOLD_BYTES: usize = 256 * 1024;
/// One line of the resolver's: a name of 254 bytes and sixteen addresses, with room.
pub const MAX_SAID_BYTES: usize = 2048;
/// Lines that wait for a supervisor that does not read.
const MAX_WAITING_BYTES: usize = 64 * 1024;

/// To the resolver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Told {
    /// All that it is to know; each time whole.
    Zone(Zone),
    /// Of what it found, what it may tell.
    Admitted { id: u32, addresses: Vec<IpAddr> },
}

/// From the resolver, whom nobody trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Said {
    /// A container with a list is about to be told these; it waits for `Admitted` with that number.
    Found {
        id: u32,
        client: Ipv4Addr,
        name: String,
        ttl_seconds: u32,
        addresses: Vec<IpAddr>,
    },
    /// A container asked for what is not on its list. Not each time.
    Forbidden { client: Ipv4Addr, name: String },
}

/// The resolver's end.
pub(super) struct Control {
    stream: UnixStream,
    coming: Vec<u8>,
    going: Vec<u8>,
}

impl Control {
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            coming: Vec::new(),
            going: Vec::new(),
        })
    }

    pub fn poll_fd(&self) -> PollFd<'_> {
        let what = match self.going.is_empty() {
            true => PollFlags::IN,
            false => PollFlags::IN | PollFlags::OUT,
        };
        PollFd::new(&self.stream, what)
    }

    /// What the supervisor says; none at the end.
    pub fn hear(&mut self) -> io::Result<Option<Vec<Told>>> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => self.coming.extend(&buffer[..length]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            // Lines come whole sooner or later; a long one is none of the supervisor's.
            if self.coming.len() > MAX_TOLD_BYTES && !self.coming.contains(&b'\n') {
                return Err(io::Error::other("a line of too many bytes"));
            }
        }
        let mut told = Vec::new();
        while let Some(end) = self.coming.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.coming.drain(..=end).collect();
            told.push(serde_json::from_slice(&line).map_err(io::Error::other)?);
        }
        Ok(Some(told))
    }

    /// Never waits; false where the supervisor has so much to read that this is not said at all.
    pub fn say(&mut self, what: &Said) -> bool {
        let Ok(mut line) = serde_json::to_vec(what) else {
            return false;
        };
        line.push(b'\n');
        if line.len() > MAX_SAID_BYTES || self.going.len() + line.len() > MAX_WAITING_BYTES {
            return false;
        }
        self.going.extend(line);
        self.go_on();
        true
    }

    pub fn go_on(&mut self) {
        while !self.going.is_empty() {
            match self.stream.write(&self.going) {
                Ok(length @ 1..) => drop(self.going.drain(..length)),
                // The end of the stream is seen where it is read.
                Ok(0) | Err(_) => return,
            }
        }
    }
}
