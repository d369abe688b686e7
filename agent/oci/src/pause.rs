//! `pause` and `resume`: every process of a container stops where it is, and goes on.

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
    Ok(alive::cgroup(&record)?.freeze()?)
}

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
