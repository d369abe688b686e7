//! The part of a create that runs in the container's first process, and how it talks to the command outside.
//!
//! ```text
//! first process                          create                          start
//!      │  mounts are made ── M ──────────▶ prestart and createRuntime hooks
//!      │◀──────── pid ───────────────────│
//!      │  createContainer hooks, change of root
//!      │  ready ─────────── R ──────────▶ writes the state, ends
//!      │  waits at start.sock ◀──────────────────────────── connects
//!      │  startContainer hooks, execve; failures go down that connection
//! ```

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use coracle_runtime::{Failure as Ended, Inside, Step};

use crate::hooks::{self, Moment};
use crate::net_devices::{self, NetDevice};
use crate::state::{Record, Status};

pub const MOUNTED: u8 = b'M';
pub const READY: u8 = b'R';

/// What the first process takes with it.
pub struct FirstProcess<'a> {
    pub outside: UnixStream,
    pub listener: UnixListener,
    pub listener_metadata: Option<&'a str>,
    /// Its pid is not known in here before it is told.
    pub record: Record,
    pub net_devices: &'a [NetDevice],
    pub pid: std::cell::Cell<i32>,
    pub args: &'a [String],
    pub env: &'a [String],
    pub cwd: &'a Path,
}

impl Inside for FirstProcess<'_> {
    fn descriptors(&self) -> Vec<RawFd> {
        vec![self.outside.as_raw_fd(), self.listener.as_raw_fd()]
    }

    fn before_root(&self) -> Result<(), Ended> {
        net_devices::bring_up(self.net_devices)
            .map_err(|failure| Ended::refused(Step::Network, failure.to_string()))?;
        self.say(MOUNTED)?;
        let mut pid = [0; 4];
        (&self.outside)
            .read_exact(&mut pid)
            .map_err(|_| Ended::refused(Step::Pipe, "create ended early"))?;
        self.pid.set(i32::from_le_bytes(pid));
        self.run_hooks(Moment::CreateContainer)
    }

    fn before_program(&self) -> Result<Option<OwnedFd>, Ended> {
        self.look_for_program()?;
        self.say(READY)?;
        let (start, _) = self
            .listener
            .accept()
            .map_err(|error| Ended::new(Step::Pipe, "start", error.raw_os_error().unwrap_or(0)))?;
        Ok(Some(start.into()))
    }

    /// Their programs are the image's.
    fn as_program(&self) -> Result<(), Ended> {
        self.run_hooks(Moment::StartContainer)
    }

    fn listener_message(&self) -> Vec<u8> {
        let record = self.record();
        listener_message(&record, record.pid, self.listener_metadata)
    }
}

/// The specification's containerProcessState (config-linux.md, Seccomp), for one process of a container.
pub fn listener_message(record: &Record, pid: i32, metadata: Option<&str>) -> Vec<u8> {
    let message = serde_json::json!({
        "ociVersion": record.oci_version,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": metadata.unwrap_or_default(),
        "state": record.shown(Status::Running),
    });
    message.to_string().into_bytes()
}

impl FirstProcess<'_> {
    fn say(&self, word: u8) -> Result<(), Ended> {
        (&self.outside)
            .write_all(&[word])
            .map_err(|_| Ended::refused(Step::Pipe, "create ended early"))
    }

    fn run_hooks(&self, moment: Moment) -> Result<(), Ended> {
        let record = self.record();
        let env = (moment == Moment::StartContainer).then_some(self.env);
        hooks::run_with(
            record.hooks.as_ref(),
            moment,
            &record.shown(Status::Created),
            env,
        )
        .map_err(|failure| Ended::refused(Step::Hook, failure.to_string()))
    }

    fn record(&self) -> Record {
        Record {
            pid: self.pid.get(),
            ..self.record.clone()
        }
    }

    /// Told at create already, as runc does. It is looked for again by the execve.
    fn look_for_program(&self) -> Result<(), Ended> {
        let Some(program) = self.args.first() else {
            return Ok(());
        };
        let missing = |errno| {
            Err(Ended::new(
                Step::Exec,
                format!("{program:?}: executable file not found in $PATH"),
                errno,
            ))
        };
        let mut seen = false;
        let mut runs = |path: &Path| match fs::metadata(path) {
            Ok(found) if found.is_file() => {
                seen = true;
                found.permissions().mode() & 0o111 != 0
            }
            _ => false,
        };
        if program.contains('/') {
            let path = self.cwd.join(program);
            // Nothing of /proc, which differs for whoever runs it.
            if path.starts_with("/proc") {
                return Ok(());
            }
            // In Go's words, which the docker command looks for in the daemon's answer.
            let refused = |why: &str| {
                Err(Ended::refused(
                    Step::Exec,
                    format!("exec {program:?}: {why}"),
                ))
            };
            return match fs::metadata(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    refused("no such file or directory")
                }
                Ok(found) if !found.is_file() || found.permissions().mode() & 0o111 == 0 => {
                    refused("permission denied")
                }
                _ => Ok(()),
            };
        }
        let path = self
            .env
            .iter()
            .find_map(|variable| variable.strip_prefix("PATH="))
            .unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let found = path
            .split(':')
            .any(|folder| runs(&self.cwd.join(folder).join(program)));
        match (found, seen) {
            (true, _) => Ok(()),
            (false, true) => missing(libc::EACCES),
            (false, false) => missing(libc::ENOENT),
        }
    }
}
