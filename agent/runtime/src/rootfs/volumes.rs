//! User mounts: volumes, host folders, single files, tmpfs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::fd_path;
use super::target::{Kind, find_or_make, lookup};
use crate::failure::{At, Failure, Step};
use crate::kernel::mounts::{move_to, set_readonly_recursive};
use crate::namespaces::Users;
use crate::spec::{Mount, MountKind};

pub(super) fn mount_volume(
    root: &OwnedFd,
    volume: &Mount,
    users: Option<&Users>,
) -> Result<(), Failure> {
    let target = &volume.target;
    if !target.is_absolute()
        || !target
            .components()
            .any(|part| matches!(part, Component::Normal(_)))
    {
        return Err(Failure::refused(
            Step::Mount,
            format!("{} cannot be mounted on", target.display()),
        ));
    }
    match &volume.kind {
        MountKind::Tmpfs { size_bytes, mode } => {
            let on = target_for(root, target, Kind::Folder)?;
            let mut options = format!("mode={mode:o}");
            if let Some(size) = size_bytes {
                options.push_str(&format!(",size={size}"));
            }
            let kind = Some("tmpfs");
            mount(
                kind,
                fd_path(&on).as_str(),
                kind,
                flags(volume),
                Some(options.as_str()),
            )
            .at(Step::Mount, target)
        }
        MountKind::Bind { source } => bind(
            root,
            source,
            volume,
            users.filter(|_| volume.owners_of_container),
        ),
    }
}

fn bind(
    root: &OwnedFd,
    source: &Path,
    volume: &Mount,
    users: Option<&Users>,
) -> Result<(), Failure> {
    let opened =
        open(source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at(Step::Mount, source)?;
    let mode = fstat(&opened).at(Step::Mount, source)?.st_mode;
    let is_folder = SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
    let on = target_for(
        root,
        &volume.target,
        if is_folder { Kind::Folder } else { Kind::File },
    )?;
    match users {
        Some(users) => {
            let tree = users.map(&opened, source)?;
            move_to(tree.as_fd(), on.as_fd())
        }
        None => mount(
            Some(fd_path(&opened).as_str()),
            fd_path(&on).as_str(),
            None::<&str>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&str>,
        ),
    }
    .at(Step::Mount, &volume.target)?;

    // A bind mount takes its flags only in a second call, on the top of the new mount.
    let top = lookup(root.as_fd(), &volume.target).at(Step::Mount, &volume.target)?;
    let flags = flags(volume);
    if !flags.is_empty() {
        let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags;
        mount(
            None::<&str>,
            fd_path(&top).as_str(),
            None::<&str>,
            again,
            None::<&str>,
        )
        .at(Step::Mount, &volume.target)?;
    }
    if volume.read_only {
        match set_readonly_recursive(top.as_fd()) {
            // Before 5.12 only the top can be made read-only without knowing what is below.
            Ok(()) | Err(Errno::ENOSYS) => {}
            Err(errno) => return Err(errno).at(Step::Mount, &volume.target),
        }
    }
    Ok(())
}

/// The target inside the root. Never in /proc: a process that trusts what it writes there (as this one does, for a
/// few steps yet) could be fed something else.
fn target_for(root: &OwnedFd, target: &Path, kind: Kind) -> Result<OwnedFd, Failure> {
    let on = find_or_make(root.as_fd(), target, kind).at(Step::Mount, target)?;
    if fstatfs(&on).at(Step::Mount, target)?.filesystem_type() == PROC_SUPER_MAGIC {
        return Err(Failure::refused(
            Step::Mount,
            format!("{} leads into /proc", target.display()),
        ));
    }
    Ok(on)
}

fn flags(volume: &Mount) -> MsFlags {
    let mut flags = MsFlags::empty();
    flags.set(MsFlags::MS_RDONLY, volume.read_only);
    flags.set(MsFlags::MS_NOSUID, volume.nosuid);
    flags.set(MsFlags::MS_NODEV, volume.nodev);
    flags.set(MsFlags::MS_NOEXEC, volume.noexec);
    flags
}
