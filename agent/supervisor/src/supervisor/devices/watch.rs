//! When to look at the board's devices: the kernel tells when a node appears or disappears in a folder (inotify(7)). Only
//! folders of devices that the active set asks for are watched, and without such a set nothing is.

use crate::kernel;
use coracle_protocol::names::{AppName, DeviceName};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;

/// From a change to the look: a driver makes its nodes one after the other, and udev its links behind them.
const SETTLE: Duration = Duration::from_millis(500);
/// After what could not be done.
const AGAIN: Duration = Duration::from_secs(10);

/// What is watched, and what was told.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct DeviceWatch {
    changes: Option<AsyncFd<OwnedFd>>,
    look_at: Option<Instant>,
    /// What could not be done, or not yet. Changes are heard meanwhile.
    look_again_at: Option<Instant>,
    told_blind: bool,
    /// Devices that are not there, of apps that have them.
    pub(super) missing: BTreeSet<(AppName, DeviceName)>,
    /// Apps of which it was told that they are started again for a device, but not yet.
    pub(super) restarts_later: BTreeSet<AppName>,
}

impl DeviceWatch {
    /// Until a node has come or gone. Nothing is heard while a look is due anyway.
    pub(in crate::supervisor) async fn changed(&mut self) {
        let heard = match &self.changes {
            Some(changes) if self.look_at.is_none() => changes.readable().await.map(drop),
            _ => std::future::pending().await,
        };
        if let Err(error) = heard {
            self.blind(&error);
        }
    }

    pub(in crate::supervisor) fn look_soon(&mut self) {
        self.look_at.get_or_insert(Instant::now() + SETTLE);
    }

    /// Once more, although nothing changes.
    pub(super) fn look_later(&mut self) {
        self.look_by(Instant::now() + AGAIN);
    }

    pub(super) fn look_by(&mut self, at: Instant) {
        let before = self.look_again_at.get_or_insert(at);
        *before = at.min(*before);
    }

    pub(in crate::supervisor) fn due(&self) -> Option<Instant> {
        self.look_at.into_iter().chain(self.look_again_at).min()
    }

    /// Whether a look is due, which is no more from then on.
    pub(super) fn begin_look(&mut self, now: Instant) -> bool {
        if self.due().is_none_or(|at| at > now) {
            return false;
        }
        (self.look_at, self.look_again_at) = (None, None);
        true
    }

    /// Watches these folders from now on. What was heard of others is forgotten.
    pub(super) fn watch(&mut self, folders: &BTreeSet<PathBuf>) {
        self.changes = None;
        if folders.is_empty() {
            return;
        }
        match watched(folders) {
            Ok(changes) => {
                self.changes = Some(changes);
                self.told_blind = false;
            }
            Err(error) => self.blind(&error),
        }
    }

    /// Looks now and then instead, and tries to watch again each time.
    fn blind(&mut self, error: &std::io::Error) {
        self.changes = None;
        self.look_later();
        if !std::mem::replace(&mut self.told_blind, true) {
            let seconds = AGAIN.as_secs();
            tracing::error!(%error, seconds, "changes of the board's devices are not heard, and looked for each so many seconds");
        }
    }
}

fn watched(folders: &BTreeSet<PathBuf>) -> std::io::Result<AsyncFd<OwnedFd>> {
    let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let events = WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ONLYDIR;
    for folder in folders {
        match inotify::add_watch(&changes, folder, events) {
            // The last adapter's folder went with it; the one above is watched too.
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            watched => drop(watched?),
        }
    }
    kernel::when_readable(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_goes_before_it_is_watched_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::write(root.join("file"), "").unwrap();
        let all = ["", "by-id", "file/by-id"];
        let all = all.iter().map(|name| root.join(name)).collect();
        let mut watch = DeviceWatch::default();
        watch.watch(&all);
        assert_eq!(watch.due(), None);
        std::fs::create_dir(root.join("by-id")).unwrap();
        watch.changed().await;
        assert!(watch.changes.is_some());
    }

    #[tokio::test]
    async fn what_cannot_be_watched_is_looked_at_now_and_then() {
        let folder = tempfile::tempdir().unwrap();
        // Of a name that no file can have.
        let all = BTreeSet::from([folder.path().join("x".repeat(300))]);
        let mut watch = DeviceWatch::default();
        let now = Instant::now();
        watch.watch(&all);
        let due = watch.due().unwrap();
        assert!(due > now + AGAIN / 2 && due <= Instant::now() + AGAIN);
        assert!(!watch.begin_look(now));
        assert!(watch.begin_look(due));
        assert_eq!(watch.due(), None);
    }
}
