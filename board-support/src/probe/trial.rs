//! What the kernel does when it is asked to: each part is used once, in a scratch cgroup and on a
//! scratch thread with namespaces of its own, and everything is taken away again. What this finds
//! wins over what [`super::KernelFacts`] concluded from procfs, and over the profile.
//!
//! | file | what is tried |
//! |---|---|
//! | `limits` | each limit, written to a cgroup and read back |
//! | `apart` | namespaces and filters, on a thread that then ends |
//! | `overlay` | layers, on the file system of the state folder |
//! | `users` | layers that belong to others than on disk, for users of apps' own |
//! | `storage` | whether the state folder can be written, project quotas, disk images, noise for keys |
//! | `needs` | what only some releases need: rates and lists of networks, links on a wire |
//! | `netlink` | links, rates and NAT, in an empty network namespace |

mod apart;
mod limits;
mod needs;
mod netlink;
mod overlay;
mod storage;
mod users;

pub use needs::Need;
pub use overlay::remove_left;

use crate::storage::Disk;
use crate::text::{Text, cut};
use heapless::Vec;
use serde::Serialize;
use std::io;
use std::path::Path;

/// That anything can be kept on the board.
pub(super) const WRITABLE: &str = "writable state folder";
/// Parts that are tried.
pub const TRIAL_LIMIT: usize = 40;

/// What came of trying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "why")]
pub enum Outcome {
    /// It did what it should.
    Works,
    /// It did not; what the kernel said.
    Fails(Text),
    /// It could not be tried here; why.
    NotTried(Text),
}

/// Where something is lacking that comes back, and says nothing of the kernel.
const NOT_NOW: &str = "cannot be tried now: ";

impl Outcome {
    fn of(result: io::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Works,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Self::NotTried(cut("it needs root"))
            }
            Err(error) if is_short(&error) => Self::NotTried(cut(&format!("{NOT_NOW}{error}"))),
            Err(error) => Self::Fails(cut(&error.to_string())),
        }
    }

    /// What was lacking, where it could not be tried for that and may be another time.
    pub fn not_now(&self) -> Option<&str> {
        match self {
            Self::NotTried(why) => why.strip_prefix(NOT_NOW),
            _ => None,
        }
    }
}

/// Room, memory or descriptors.
fn is_short(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let short = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::NOMEM,
        Errno::MFILE,
        Errno::NFILE,
        Errno::AGAIN,
    ];
    short
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// One part and what came of trying it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// As the gap of the same subject names it: `CPU quota`.
    pub subject: Text,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Everything that was tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Trials(Vec<Trial, TRIAL_LIMIT>);

impl Trials {
    /// Tries everything on this machine. `state`: the state folder or the nearest one above it that
    /// exists; `disk`: what IO limits are set on. Without root nothing is tried, and each part says so.
    /// Makes a thread, which ends before this returns.
    pub fn run(state: &Path, disk: Option<&Disk>) -> Self {
        let mut trials = Self::default();
        limits::run(Path::new("/"), disk, &mut trials);
        trials.note(WRITABLE, storage::writable(state));
        apart::run(state, &mut trials);
        trials.note("disk quota", storage::project_quota(Path::new("/"), state));
        trials.note("disk image", storage::image(Path::new("/")));
        trials.note("entropy", storage::noise());
        trials
    }

    /// Tries the limits alone: no thread and no mount, for a process that has to stay single-threaded.
    pub fn limits(disk: Option<&Disk>) -> Self {
        let mut trials = Self::default();
        limits::run(Path::new("/"), disk, &mut trials);
        trials
    }

    /// What came of one.
    pub fn outcome(&self, subject: &str) -> Option<&Outcome> {
        let found = self.0.iter().find(|t| t.subject.as_str() == subject);
        found.map(|trial| &trial.outcome)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Trial> {
        self.0.iter()
    }

    /// Adds one.
    pub fn note(&mut self, subject: &str, outcome: Outcome) {
        // The subjects are this module's own and fewer than the limit; a test counts them.
        let _ = self.0.push(Trial {
            subject: cut(subject),
            outcome,
        });
    }

    fn note_result(&mut self, subject: &str, result: io::Result<()>) {
        self.note(subject, Outcome::of(result));
    }
}

#[cfg(test)]
mod tests;
