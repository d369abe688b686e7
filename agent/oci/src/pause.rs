//! `pause` and `resume`: every process of a container stops where it is, and goes on.

use std::time::{Duration, Instant};

use crate::alive;
use crate::failure::Failure;
use crate::id::ContainerId;
use crate::state::Status;
use crate::store::Store;

pub fn pause(store: &Store, id: &ContainerId) -> Result<(), Failure> {
    let entry = store.lock(id)?;
    let (record, status) = alive::read(&entry)?;
    if !matches!(status, Status::Running | Status::Created) {
        return Err(wrong("pause", id, status));
    }
    let cgroup = alive::cgroup(&record)?;
    let end = Instant::now() + PATIENCE;
    loop {
        // On v1 a process that was being forked is caught by the next one.
        cgroup.freeze()?;
        if cgroup.is_at_rest()? {
            return Ok(());
        }
        if Instant::now() > end {
            cgroup.thaw()?;
            return Err(Failure::System {
                what: "pause",
                source: std::io::ErrorKind::TimedOut.into(),
            });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A process in the middle of reading from a slow disk stops when it has read.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn resume(store: &Store, id: &ContainerId) -> Result<(), Failure> {
    let entry = store.lock(id)?;
    let (record, status) = alive::read(&entry)?;
    let cgroup = alive::cgroup(&record)?;
    // One that was paused before its start shows as created.
    if status != Status::Paused && !(status == Status::Created && cgroup.is_frozen()?) {
        return Err(wrong("resume", id, status));
    }
    Ok(cgroup.thaw()?)
}

fn wrong(action: &'static str, id: &ContainerId, status: Status) -> Failure {
    Failure::WrongStatus {
        action,
        id: id.to_string(),
        status,
    }
}
