//! `start`: the waiting process executes its program.

use coracle_runtime::launch::read_report;

use crate::failure::Failure;
use crate::hooks::{self, Moment};
use crate::id::ContainerId;
use crate::journal::Journal;
use crate::state::Status;
use crate::store::Store;
use crate::{alive, kill};

pub fn start(store: &Store, id: &ContainerId, journal: &Journal) -> Result<(), Failure> {
    let entry = store.lock(id)?;
    let (record, status) = alive::read(&entry)?;
    if status != Status::Created {
        return Err(Failure::WrongStatus {
            action: "start",
            id: id.to_string(),
            status,
        });
    }
    let first_process = entry.connect()?;
    // From here on it runs or ends.
    entry.started()?;
    read_report(first_process.into())?;

    let hooks = record.hooks.as_ref();
    hooks::run(hooks, Moment::Poststart, &record.shown(Status::Running)).inspect_err(|_| {
        // The program runs by now; one whose hooks have failed must not (runtime.md, Lifecycle).
        if let Err(second) = kill::to_first(&record, libc::SIGKILL) {
            journal.warn(&second.to_string());
        }
    })
}
