//! Layers over each other.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use super::{fd_path, open_folder};
use crate::failure::{At, Failure, Step};
use crate::namespaces::Users;

/// The folders go to the kernel as `/proc/self/fd/n`: all options must fit into one page, paths with 64 hexadecimal
/// digits would limit an image to some forty layers, and a `:` or `,` in a path needs no escaping this way.
///
/// With `users` they are id-mapped mounts first. `upper` and `work` must be on one mount then: they lie in one folder.
pub(crate) fn overlay(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    merged: &Path,
    users: Option<&Users>,
) -> Result<OwnedFd, Failure> {
    let mut open_folders = Vec::with_capacity(lower.len() + 3);
    let mut name = |folder: OwnedFd| {
        let name = fd_path(&folder);
        open_folders.push(folder);
        name
    };
    let mut names = Vec::with_capacity(lower.len());
    for path in lower {
        let folder = open_folder(path).at(Step::Overlay, path)?;
        names.push(name(match users {
            Some(users) => users.map(&folder, path)?,
            None => folder,
        }));
    }
    let (_tree, [upper, work]) = match users {
        Some(users) => writable(upper, work, users).map(|(tree, both)| (Some(tree), both))?,
        None => (
            None,
            [
                open_folder(upper).at(Step::Overlay, upper)?,
                open_folder(work).at(Step::Overlay, work)?,
            ],
        ),
    };
    // What an upper folder means must not depend on the kernel's defaults: it is read by diff and commit, and it may be
    // mounted again by another kernel.
    let options = format!(
        "lowerdir={},upperdir={},workdir={},index=off,metacopy=off",
        names.join(":"),
        name(upper),
        name(work)
    );
    mount(
        Some("overlay"),
        merged,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .at(Step::Overlay, merged)?;
    open_folder(merged).at(Step::Overlay, merged)
}

/// The tree goes when it is closed, and what is below it with it: overlay's own copy of the mount is made by then.
fn writable(upper: &Path, work: &Path, users: &Users) -> Result<(OwnedFd, [OwnedFd; 2]), Failure> {
    let both = match (upper.parent(), upper.file_name(), work.file_name()) {
        (Some(above), Some(upper), Some(work_name)) if work.parent() == Some(above) => {
            Some((above, upper, work_name))
        }
        _ => None,
    };
    let Some((above, upper, work)) = both else {
        let text = format!(
            "{} and {} are not in one folder",
            upper.display(),
            work.display()
        );
        return Err(Failure::refused(Step::Overlay, text));
    };
    let tree = users.map(&open_folder(above).at(Step::Overlay, above)?, above)?;
    let below = |name: &OsStr| {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&tree, name, flags, Mode::empty()).at(Step::Overlay, above.join(name))
    };
    let both = [below(upper)?, below(work)?];
    Ok((tree, both))
}
