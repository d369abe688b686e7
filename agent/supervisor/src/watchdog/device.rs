//! A watchdog's node (watchdog-api.rst): opening arms it, any byte feeds it, `V` before closing
//! disarms it. A supervisor that dies without the `V` leaves it armed, and the next one feeds on.

use crate::kernel;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a watchdog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// Not there, or somebody else has it (EBUSY).
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The node.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It does not count so long.
    #[error("{} does not take a timeout of {seconds} s: {source}", path.display())]
    Timeout {
        /// The node.
        path: PathBuf,
        /// What was asked for.
        seconds: u64,
        /// What the kernel said.
        source: io::Error,
    },
}

/// An armed watchdog.
#[derive(Debug)]
pub struct Device {
    node: File,
    timeout: Duration,
}

impl Device {
    /// Opens and arms it. Where the driver takes another timeout than it was asked for, its own
    /// counts; one that cannot be asked (ENOTTY, EOPNOTSUPP) is believed to count as asked.
    pub fn open(path: &Path, timeout: Duration) -> Result<Self, WatchdogError> {
        let node = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(path)
            .map_err(|source| WatchdogError::Open {
                path: path.to_owned(),
                source,
            })?;
        let mut device = Self { node, timeout };
        let seconds = timeout.as_secs();
        match kernel::watchdog_timeout(device.node.as_fd(), seconds as libc::c_int) {
            Ok(taken) => device.timeout = Duration::from_secs(taken.max(1) as u64),
            Err(source) => match source.raw_os_error() {
                Some(libc::ENOTTY | libc::EOPNOTSUPP) => {
                    tracing::warn!(path = %path.display(), "its timeout cannot be set");
                }
                _ => {
                    // It is armed by now, and nobody would feed it.
                    let _ = device.disarm();
                    return Err(WatchdogError::Timeout {
                        path: path.to_owned(),
                        seconds,
                        source,
                    });
                }
            },
        }
        Ok(device)
    }

    /// How long it waits for a meal.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Feeds it.
    pub fn feed(&mut self) -> io::Result<()> {
        self.node.write_all(b"\0")
    }

    /// Disarms it; with CONFIG_WATCHDOG_NOWAYOUT the kernel keeps it armed all the same.
    pub fn disarm(mut self) -> io::Result<()> {
        self.node.write_all(b"V")
    }
}
