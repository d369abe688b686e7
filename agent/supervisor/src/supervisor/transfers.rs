//! Backups and restores, one at a time: a socket for the daemon, a jailed child that reads or writes the volume, and for a
//! restore the change of places at the end. The socket comes into a folder of root's, which the daemon can only pass through:
//! what it could put in the socket's place the supervisor would have to clear away, on its one thread.

use super::Supervisor;
use super::volumes::FaultOf;
use crate::socket;
use crate::volumes::{self, Direction, Transfer, Volumes};
use coracle_protocol::local::{Answer, Verdict};
use coracle_protocol::names::VolumeName;
use coracle_runtime::Exit;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// For the daemon to come to the socket.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the daemon to notice that its tar is not wanted.
const DRAIN: Duration = Duration::from_secs(60);
/// For all of a transfer: the largest volume over the slowest link.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// A transfer from its request to its end.
#[derive(Debug)]
pub(super) struct TransferJob {
    direction: Direction,
    name: VolumeName,
    deadline: Instant,
    /// None while the daemon is waited for.
    work: Option<(Transfer, UnixStream)>,
}

impl TransferJob {
    pub(super) fn pid(&self) -> Option<i32> {
        self.work.as_ref().map(|(transfer, _)| transfer.child.pid)
    }

    pub(super) fn volume(&self) -> &VolumeName {
        &self.name
    }

    /// The volume whose contents are being replaced.
    pub(super) fn restored(&self) -> Option<&VolumeName> {
        (self.direction == Direction::Restore).then_some(&self.name)
    }

    pub(super) fn due(&self) -> Instant {
        self.deadline
    }
}

impl Supervisor {
    pub(super) fn not_transferred(&self, name: &VolumeName) -> Result<(), FaultOf> {
        match &self.transfer {
            Some(job) if job.name == *name => {
                let text = format!("volume `{name}` is being backed up or restored");
                Err(("busy", text).into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn begin_transfer(
        &mut self,
        direction: Direction,
        name: &VolumeName,
        uid: u32,
    ) -> Result<Answer, FaultOf> {
        self.is_owner(name, uid)?;
        if direction == Direction::Restore {
            self.is_at_rest(name)?;
        }
        if !self.machine.is_settled() && self.is_converted(name) {
            let text = format!("volume `{name}` is copied for a deployment that is under way");
            return Err(("busy", text).into());
        }
        if let Some(job) = &self.transfer {
            let text = format!("volume `{}` is being backed up or restored", job.name);
            return Err(("busy", text).into());
        }
        self.transfers += 1;
        let path = self
            .settings
            .transfers_dir()
            .join(format!("{}.sock", self.transfers));
        let own = self.settings.run_state_dir();
        let listener = socket::listen(&path, &own, self.settings.daemon_group())
            .map_err(|error| ("socket", error.to_string()))?;
        let daemon = self.settings.daemon.map(|owner| owner.uid);
        let (came, shown) = (self.transfer_came.clone(), path.clone());
        tokio::spawn(async move {
            let accepted = tokio::time::timeout(PATIENCE, socket::accept_one(&listener, daemon));
            let stream = accepted.await.ok().flatten();
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, "the socket of a transfer stays");
            }
            let _ = came.send(stream).await;
        });
        self.transfer = Some(TransferJob {
            direction,
            name: name.clone(),
            deadline: Instant::now() + LONGEST,
            work: None,
        });
        Ok(Answer::Transfer {
            socket: shown.to_string_lossy().into_owned(),
        })
    }

    /// The daemon has come to the socket, or has not.
    pub(super) fn transfer_begins(&mut self, stream: Option<UnixStream>) {
        let Some(mut job) = self.transfer.take() else {
            return;
        };
        let Some(stream) = stream else {
            tracing::warn!(volume = %job.name, "nobody came for the transfer");
            return;
        };
        match self.start_transfer(&job, &stream) {
            Ok(transfer) => {
                job.work = Some((transfer, stream));
                self.transfer = Some(job);
            }
            Err(FaultOf((code, reason))) => {
                tracing::warn!(volume = %job.name, code, reason, "no transfer");
                self.end_restore(&job, false);
                tell(&job, stream, Some((code.to_owned(), reason)));
            }
        }
    }

    fn start_transfer(&self, job: &TransferJob, stream: &UnixStream) -> Result<Transfer, FaultOf> {
        let volumes = Volumes::of(&self.settings);
        let data: PathBuf = match job.direction {
            Direction::Backup => {
                let opened = volumes.place(&job.name).open();
                opened.map_err(|error| ("volume", error.to_string()))?;
                volumes.data(&job.name)
            }
            Direction::Restore => {
                self.is_at_rest(&job.name)?;
                // The old contents and the new ones are there together for a while.
                if let Some(limit) = volumes.usage(&job.name)?.limit {
                    self.fits(volumes.cost(limit))?;
                }
                volumes.begin_restore(&job.name)?
            }
        };
        let limit = volumes.usage(&job.name)?.limit;
        // Contents, and for each file a head and its filling.
        let most = limit.map_or(1 << 50, |l| l.bytes + (l.inodes + 16) * 4096);
        let stream = stream
            .try_clone()
            .map_err(|error| ("socket", error.to_string()))?;
        volumes::start(job.direction, &data, stream, &self.empty_root, most)
            .map_err(|error| ("jail", error.to_string()).into())
    }

    /// Its child has ended.
    pub(super) fn transfer_ended(&mut self, exit: Exit) {
        let Some(mut job) = self.transfer.take() else {
            return;
        };
        let Some((transfer, stream)) = job.work.take() else {
            return;
        };
        let mut fault = transfer.fault(exit.success());
        if fault.is_none() && job.direction == Direction::Restore {
            fault = self.put_in_place(&job.name).err();
        }
        match &fault {
            None => tracing::info!(volume = %job.name, way = ?job.direction, "transferred"),
            Some((code, reason)) => {
                tracing::warn!(volume = %job.name, way = ?job.direction, code, reason, "not transferred");
            }
        }
        self.end_restore(&job, fault.is_none());
        tell(&job, stream, fault);
        self.sweep();
    }

    fn put_in_place(&self, name: &VolumeName) -> Result<(), (String, String)> {
        let outcome = self
            .is_at_rest(name)
            .and_then(|()| Ok(Volumes::of(&self.settings).replace(name)?));
        outcome.map_err(|FaultOf((code, reason))| (code.to_owned(), reason))
    }

    fn end_restore(&self, job: &TransferJob, done: bool) {
        if job.direction == Direction::Restore
            && !done
            && let Err(error) = Volumes::of(&self.settings).forget_new(&job.name)
        {
            tracing::warn!(volume = %job.name, %error, "what was restored in part stays until the next start");
        }
    }

    /// A transfer that takes too long is ended.
    pub(super) fn end_overdue_transfer(&mut self, now: Instant) {
        if let Some(job) = &mut self.transfer
            && job.deadline <= now
            && let Some((transfer, _)) = &job.work
        {
            // Its end comes as any child's.
            let _ = transfer.child.kill();
            job.deadline = now + PATIENCE;
        }
    }
}

/// The verdict on a restore. A tar that was refused is still coming: closing the socket then would take the verdict back.
fn tell(job: &TransferJob, stream: UnixStream, fault: Option<(String, String)>) {
    if job.direction == Direction::Backup {
        return;
    }
    let verdict = match fault {
        None => Verdict::Done,
        Some((code, reason)) => Verdict::Failed { code, reason },
    };
    let json = serde_json::to_vec(&verdict).unwrap_or_default();
    tokio::spawn(async move {
        let told = tokio::time::timeout(DRAIN, say_and_drain(stream, &json)).await;
        if !matches!(told, Ok(Ok(_))) {
            tracing::debug!(?told, "nobody waits for the end of the restore");
        }
    });
}

async fn say_and_drain(stream: UnixStream, words: &[u8]) -> std::io::Result<()> {
    stream.set_nonblocking(true)?;
    let mut stream = tokio::net::UnixStream::from_std(stream)?;
    stream.write_all(words).await?;
    stream.shutdown().await?;
    let mut unwanted = [0; 4096];
    while stream.read(&mut unwanted).await? > 0 {}
    Ok(())
}
