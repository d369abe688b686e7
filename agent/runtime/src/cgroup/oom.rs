//! Being told when a cgroup runs out of memory.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Cgroup, CgroupError, Controller};

/// Six counters today.
const EVENTS_BYTES: usize = 1024;

/// Its descriptor wakes who polls it: readable on v1, with an exception (POLLPRI) on v2.
#[derive(Debug)]
pub struct OomWatch {
    cgroup: Cgroup,
    told: Told,
    kills: u64,
}

#[derive(Debug)]
enum Told {
    /// cgroup-v1/memory.rst, OOM Control; the second is what the first watches.
    ByEvent(
        EventFd,
        #[allow(dead_code, reason = "it must stay open")] File,
    ),
    /// cgroup-v2.rst: memory.events notifies whoever polls it, until it is read through the same descriptor.
    ByFile(File),
}

impl Cgroup {
    /// # Errors
    /// Without the memory controller, or when the kernel does not tell.
    pub fn watch_oom(&self) -> Result<OomWatch, CgroupError> {
        let told = if self.is_unified() {
            Told::ByFile(self.open_raw(Controller::Memory, "memory.events")?)
        } else {
            let watched = self.open_raw(Controller::Memory, "memory.oom_control")?;
            let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
                .map_err(|errno| CgroupError::Io {
                    path: "eventfd".into(),
                    source: errno.into(),
                })?;
            let pair = format!("{} {}", event.as_fd().as_raw_fd(), watched.as_raw_fd());
            self.write_raw(Controller::Memory, "cgroup.event_control", &pair)?;
            Told::ByEvent(event, watched)
        };
        let mut watch = OomWatch {
            kills: 0,
            cgroup: self.clone(),
            told,
        };
        watch.kills = watch.count().unwrap_or(0);
        Ok(watch)
    }

    fn open_raw(&self, controller: Controller, file: &str) -> Result<File, CgroupError> {
        let path = match self.folder(controller) {
            Some(folder) => folder.join(file),
            None => file.into(),
        };
        File::open(&path).map_err(|source| CgroupError::Io { path, source })
    }
}

impl OomWatch {
    /// POLLPRI rather than POLLIN.
    pub fn wakes_by_exception(&self) -> bool {
        matches!(self.told, Told::ByFile(_))
    }

    /// Whether memory ran out since the last question. On v1 also when nobody was killed for it, because the container's
    /// processes wait instead. None when the cgroup has gone: there is nothing to wait for any more.
    pub fn happened(&mut self) -> Option<bool> {
        let told = match &self.told {
            Told::ByEvent(event, _) => event.read().is_ok_and(|count| count > 0),
            Told::ByFile(_) => false,
        };
        // The end of the cgroup is told by the same event.
        let kills = self.count()?;
        let more = kills > self.kills;
        self.kills = kills;
        Some(told || more)
    }

    fn count(&self) -> Option<u64> {
        let Told::ByFile(file) = &self.told else {
            return self.cgroup.stats().ok()?.oom_kills;
        };
        let mut text = [0; EVENTS_BYTES];
        let length = file.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..length]).ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .and_then(|count| count.trim().parse().ok())
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.told {
            Told::ByEvent(event, _) => event.as_fd(),
            Told::ByFile(file) => file.as_fd(),
        }
    }
}
