//! `delete`: nothing of a container stays but its bundle.

use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::hooks::{self, Moment};
use crate::id::ContainerId;
use crate::journal::Journal;
use crate::state::{Record, Status};
use crate::store::{Entry, Store};
use crate::{alive, kill, place};

/// A killed process with much memory takes a while.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn delete(
    store: &Store,
    id: &ContainerId,
    force: bool,
    journal: &Journal,
) -> Result<(), Failure> {
    let entry = match store.lock(id) {
        // What is not there is what was wanted.
        Err(Failure::Missing(_)) if force => return Ok(()),
        other => other?,
    };
    let Some(record) = entry.read()? else {
        // Left behind by a create that was cut short before it made anything.
        return entry.remove();
    };
    match alive::status(&entry, &record)? {
        Status::Stopped | Status::Creating => {}
        // The specification wants an error; containerd gives up a task that was never started by deleting it.
        Status::Created => end(&record)?,
        Status::Running | Status::Paused if force => end(&record)?,
        status => {
            return Err(Failure::WrongStatus {
                action: "delete",
                id: id.to_string(),
                status,
            });
        }
    }
    remove(entry, &record, journal)
}

/// Ends what runs. Waits until the first process is dead, or reaped by somebody else.
pub fn end(record: &Record) -> Result<(), Failure> {
    alive::cgroup(record)?.kill_all()?;
    // It may have left its cgroup.
    let _ = kill::to_first(record, libc::SIGKILL);
    let end = Instant::now() + PATIENCE;
    while alive::start_time(record.pid) == Some(record.start_time) {
        if Instant::now() > end {
            return Err(Failure::WrongStatus {
                action: "kill",
                id: record.id.clone(),
                status: Status::Running,
            });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// After its end: what it left running, its cgroup, its state; then the poststop hooks.
pub fn remove(entry: Entry, record: &Record, journal: &Journal) -> Result<(), Failure> {
    place::remove(record)?;
    entry.remove()?;
    let state = record.shown(Status::Stopped);
    for failure in hooks::run_all(record.hooks.as_ref(), Moment::Poststop, &state) {
        journal.warn(&failure.to_string());
    }
    Ok(())
}
