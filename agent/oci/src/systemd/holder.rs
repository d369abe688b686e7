//! A process that does nothing: systemd makes no scope without one in it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use coracle_runtime::{Child, reap, spawn_plain};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::failure::{Doing, Failure};

/// Dropping it ends the process, as does the end of this one.
pub struct Holder {
    child: Child,
    alive: Option<OwnedFd>,
}

impl Holder {
    pub fn start() -> Result<Holder, Failure> {
        let (end, alive) = pipe2(OFlag::O_CLOEXEC).doing("making a pipe")?;
        let child = spawn_plain(vec![end], |ends| {
            // Nothing is ever written.
            for end in ends {
                let _ = File::from(end).read(&mut [0]);
            }
            0
        })?;
        Ok(Holder {
            child,
            alive: Some(alive),
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.pid.unsigned_abs()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.alive.take());
        reap::wait(self.child.pid);
    }
}
