//! Whether a container's first process still is what it was, and what it is doing.

use std::path::Path;
use std::sync::OnceLock;

use coracle_runtime::{Cgroup, CgroupTree};

use crate::failure::Failure;
use crate::state::{Record, Status};
use crate::store::Entry;

/// Field 22 of /proc/pid/stat; None for a process that is gone, or dead and not yet reaped.
pub fn start_time(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let rest = text.rsplit_once(')')?.1;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Below `parent`. The machine's mounts are looked at once in the life of a command.
pub fn cgroups(parent: &Path) -> Result<CgroupTree, Failure> {
    static TOP: OnceLock<CgroupTree> = OnceLock::new();
    let top = match TOP.get() {
        Some(top) => top,
        None => {
            let found = CgroupTree::detect_below(Path::new(""))?;
            TOP.get_or_init(|| found)
        }
    };
    Ok(top.below(parent)?)
}

/// With the folders by which systemd knows what is in a scope of its own.
pub fn tree(record: &Record) -> Result<CgroupTree, Failure> {
    let tree = cgroups(&record.cgroup_parent)?;
    Ok(match record.scope {
        Some(_) => tree.followed(),
        None => tree,
    })
}

pub fn cgroup(record: &Record) -> Result<Cgroup, Failure> {
    Ok(tree(record)?.open(&record.cgroup_name)?)
}

pub fn status(entry: &Entry, record: &Record) -> Result<Status, Failure> {
    if record.pid == 0 {
        return Ok(Status::Creating);
    }
    if start_time(record.pid) != Some(record.start_time) {
        return Ok(Status::Stopped);
    }
    if entry.waits_for_start() {
        return Ok(Status::Created);
    }
    if cgroup(record)?.is_frozen()? {
        return Ok(Status::Paused);
    }
    Ok(Status::Running)
}

/// A container with its record and status, or the reason why there is none.
pub fn read(entry: &Entry) -> Result<(Record, Status), Failure> {
    let Some(record) = entry.read()? else {
        return Err(Failure::WrongStatus {
            action: "use",
            id: entry.id().to_string(),
            status: Status::Creating,
        });
    };
    let status = status(entry, &record)?;
    Ok((record, status))
}
