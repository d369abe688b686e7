//! The session counter: each connection to the broker has a higher number than all before it, also
//! after a restart, so that a will that comes late is known to be old (Sparkplug's bdSeq).

use crate::disk::{self, DiskError};
use std::path::{Path, PathBuf};

/// Numbers that are taken with one write: a broker that kicks every second must not wear flash out.
const BLOCK: u64 = 64;

/// The counter. Its file holds the first number that nobody has used.
#[derive(Debug)]
pub struct Sessions {
    path: PathBuf,
    next: u64,
    reserved: u64,
}

impl Sessions {
    /// Reads the counter. One that cannot be read starts at the clock's seconds, which lie above
    /// any number that was counted up by connections.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let next = match disk::read(path, 64)? {
            None => 0,
            Some(text) => match String::from_utf8_lossy(&text).trim().parse() {
                Ok(number) => number,
                Err(e) => {
                    disk::set_aside(path, &e);
                    crate::clock::now()
                }
            },
        };
        Ok(Self {
            path: path.to_owned(),
            next,
            reserved: next,
        })
    }

    /// The next number.
    pub fn take(&mut self) -> Result<u64, DiskError> {
        if self.next >= self.reserved {
            let reserved = self.next + BLOCK;
            disk::write(&self.path, reserved.to_string().as_bytes())?;
            self.reserved = reserved;
        }
        let number = self.next;
        self.next += 1;
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_the_same_number_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session");
        let mut last = None;
        for _ in 0..3 {
            let mut sessions = Sessions::open(&path).unwrap();
            for _ in 0..100 {
                let number = sessions.take().unwrap();
                assert!(Some(number) > last);
                last = Some(number);
            }
        }
        std::fs::write(&path, "x").unwrap();
        assert!(Some(Sessions::open(&path).unwrap().take().unwrap()) > last);
    }
}
