//! The child that links unchanged files to the old layer's, after the one that read the blob has ended: that one could have
//! written to them through its links. This one reads nothing but names, of both trees.

use super::child::{Report, failed, most};
use super::{StageError, fault};
use coracle_images::Limits;
use coracle_images::unpack;
use coracle_runtime::{Capabilities, Capability, Child, JailSpec, SeccompProgram, spawn_jailed};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What the child is given.
pub(super) struct Linking {
    pub(super) old: OwnedFd,
    pub(super) tree: OwnedFd,
    pub(super) report: OwnedFd,
    pub(super) unpacked_size: u64,
    pub(super) from_delta: bool,
}

impl Linking {
    pub(super) fn spawn(self, empty_root: &Path) -> Result<Child, StageError> {
        let copy = |folder: &OwnedFd| folder.try_clone().map_err(|error| fault("jail", error));
        let seccomp = SeccompProgram::files_only().map_err(|error| fault("jail", error))?;
        let from_delta = self.from_delta;
        let jail = JailSpec {
            root_readonly: true,
            // A folder's mount of its own is where no link leads out of: these only say where the child may write.
            write_dirs: vec![copy(&self.old)?, copy(&self.tree)?],
            files: vec![self.old, self.tree, self.report],
            capabilities: linking(),
            rlimits: most(self.unpacked_size),
            oom_score_adj: Some(500),
            seccomp: Some(&seccomp),
            ..JailSpec::new(empty_root)
        };
        spawn_jailed(jail, |fds| {
            let Ok([old, tree, report]) = <[OwnedFd; 3]>::try_from(fds.files) else {
                return 1;
            };
            let said = match unpack::link_unchanged(old.as_fd(), tree.as_fd(), &Limits::default()) {
                Ok(linked) => Report::Linked {
                    links: linked.links,
                    copies: linked.copies,
                },
                Err(error) => failed(&error, from_delta),
            };
            said.tell(report)
        })
        .map_err(|failure| fault("jail", failure))
    }
}

/// Whose file it is does not matter to a link or a copy; a copy has owner, mode and file capabilities.
fn linking() -> Capabilities {
    [
        Capability::CHOWN,
        Capability::DAC_OVERRIDE,
        Capability::FOWNER,
        Capability::FSETID,
        Capability::SETFCAP,
    ]
    .into_iter()
    .fold(Capabilities::none(), Capabilities::with)
}
