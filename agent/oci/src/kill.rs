//! `kill`: a signal to a container's first process, or to all of them.

use nix::sys::signal::Signal;

use crate::alive;
use crate::failure::{Doing, Failure};
use crate::id::ContainerId;
use crate::state::{Record, Status};
use crate::store::Store;

pub fn kill(store: &Store, id: &ContainerId, signal: &str, all: bool) -> Result<(), Failure> {
    let signal = number(signal)?;
    let entry = store.look(id)?;
    let (record, status) = alive::read(&entry)?;
    if all || (record.shares_pids && signal == libc::SIGKILL) {
        return to_all(&record, signal);
    }
    if !status.is_alive() {
        return Err(Failure::WrongStatus {
            action: "kill",
            id: id.to_string(),
            status,
        });
    }
    to_first(&record, signal)?;
    if signal == libc::SIGKILL && status == Status::Paused {
        // A frozen process dies when it is thawed.
        alive::cgroup(&record)?.thaw()?;
    }
    Ok(())
}

/// By a descriptor that is checked to be that process: its number may have gone to another meanwhile.
pub fn to_first(record: &Record, signal: i32) -> Result<(), Failure> {
    let process = coracle_runtime::ProcessHandle::open(record.pid).doing("kill")?;
    if alive::start_time(record.pid) != Some(record.start_time) {
        return Err(Failure::WrongStatus {
            action: "kill",
            id: record.id.clone(),
            status: Status::Stopped,
        });
    }
    process.signal(signal).doing("kill")
}

fn to_all(record: &Record, signal: i32) -> Result<(), Failure> {
    let cgroup = alive::cgroup(record)?;
    if signal == libc::SIGKILL {
        return Ok(cgroup.kill_all()?);
    }
    for pid in cgroup.processes()? {
        // SAFETY-relevant numbers come from the kernel's list just now; a process that has ended is what we want.
        let Ok(process) = coracle_runtime::ProcessHandle::open(pid) else {
            continue;
        };
        let _ = process.signal(signal);
    }
    Ok(())
}

/// `KILL`, `SIGKILL`, `9`, `RTMIN+3`.
fn number(text: &str) -> Result<i32, Failure> {
    let wrong = || Failure::Usage(format!("{text:?} is no signal"));
    if let Ok(number) = text.parse::<i32>() {
        let known = (0..=libc::SIGRTMAX()).contains(&number);
        return known.then_some(number).ok_or_else(wrong);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    for (prefix, base, sign) in [
        ("RTMIN", libc::SIGRTMIN(), 1),
        ("RTMAX", libc::SIGRTMAX(), -1),
    ] {
        let Some(rest) = name.strip_prefix(prefix) else {
            continue;
        };
        let offset: i32 = match rest.strip_prefix(['+', '-']) {
            None if rest.is_empty() => 0,
            None => return Err(wrong()),
            Some(offset) => offset.parse().map_err(|_| wrong())?,
        };
        let number = base + sign * offset;
        let known = (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number);
        return known.then_some(number).ok_or_else(wrong);
    }
    format!("SIG{name}")
        .parse::<Signal>()
        .map(|signal| signal as i32)
        .map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, wanted) in [
            ("KILL", 9),
            ("sigterm", 15),
            ("9", 9),
            ("0", 0),
            ("SIGRTMIN+3", libc::SIGRTMIN() + 3),
            ("RTMAX-1", libc::SIGRTMAX() - 1),
        ] {
            assert_eq!(number(text).unwrap(), wanted, "{text}");
        }
        for wrong in ["", "-1", "65", "SIGNOTHING", "RTMIN+99", "RTMINx"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
    }
}
