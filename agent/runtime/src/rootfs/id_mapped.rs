//! Bind mounts whose files belong to others than on disk (mount_setattr(2), ID-mapped mounts).
//!
//! They are made outside and handed over as trees in nobody's namespace: the right to map owners lies with the users of the
//! file system, which a container with users of its own does not have.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::failure::{At, Failure, Step};
use crate::kernel::mounts;
use crate::namespaces::{self, UserNs};
use crate::spec::{FileSystem, LaunchSpec, Origin, Owners, View};

/// Those of a launch, by their place in the list.
#[derive(Debug, Default)]
pub(crate) struct IdMapped(Vec<(usize, OwnedFd)>);

impl IdMapped {
    /// In the process that launches.
    pub(crate) fn prepare(spec: &LaunchSpec<'_>) -> Result<IdMapped, Failure> {
        let View::Listed(listed) = &spec.view else {
            return Ok(IdMapped::default());
        };
        let mut made = Vec::new();
        for (place, one) in listed.file_systems.iter().enumerate() {
            if let Some(owners) = &one.owners {
                made.push((place, make(one, owners, &spec.namespaces.user)?));
            }
        }
        Ok(IdMapped(made))
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.0.iter().map(|(_, mount)| mount.as_raw_fd())
    }

    pub(super) fn at(&self, place: usize) -> Option<&OwnedFd> {
        let found = self.0.iter().find(|(one, _)| *one == place);
        found.map(|(_, mount)| mount)
    }
}

fn make(one: &FileSystem, owners: &Owners, container: &UserNs) -> Result<OwnedFd, Failure> {
    let Origin::Bind { source, recursive } = &one.origin else {
        let reason = format!(
            "{}: only bind mounts can have other owners",
            one.target.display()
        );
        return Err(Failure::refused(Step::Mount, reason));
    };
    let opened =
        open(source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at(Step::Mount, source)?;
    let tree = if *recursive {
        mounts::clone_whole_tree(opened.as_fd())
    } else {
        mounts::clone_tree(opened.as_fd())
    }
    .at(Step::Mount, source)?;
    let (users, below) = match owners {
        Owners::OfContainer { below } => (container.open(source)?, *below),
        Owners::Listed { uids, gids, below } => {
            let listed = UserNs::New {
                uids: uids.clone(),
                gids: gids.clone(),
            };
            (listed.open(source)?, *below)
        }
    };
    namespaces::map_owners(&tree, &users, below, source)?;
    Ok(tree)
}

impl UserNs {
    /// As a descriptor; a namespace that is yet to be made has its like in one that nobody lives in.
    fn open(&self, source: &Path) -> Result<OwnedFd, Failure> {
        match self {
            UserNs::Host => Err(Failure::refused(
                Step::Mount,
                format!(
                    "owners of {} are to be the container's, which has no user namespace",
                    source.display()
                ),
            )),
            UserNs::Join(namespace) => namespace.try_clone().at(Step::IdMap, "user namespace"),
            UserNs::New { .. } => namespaces::uninhabited(self, false).map(|(users, ..)| users),
            // Nobody lists mounts for those: `Mount::owners_of_container` is how they say it.
            UserNs::Range(_) => Err(Failure::refused(
                Step::Mount,
                format!("owners of {} are the range's", source.display()),
            )),
        }
    }
}
