//! What a layer hides: single names and whole folders of the layers below it.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, XattrFlags};
use rustix::io::Errno;

use super::node::make_device;
use super::{TreeWriter, io_error, is_folder, lossy};
use crate::beneath::{components, open_folder, seconds};
use crate::limits::Limits;
use crate::unpack::{Member, TarError, UnpackError};

/// Prefix of a whiteout (image-spec `layer.md`, "Whiteouts"). A member with it is never a file.
pub(crate) const WHITEOUT: &[u8] = b".wh.";

/// Name that makes its folder opaque, without the prefix.
pub(crate) const OPAQUE: &[u8] = b".wh..opq";

/// overlayfs: hides what the lower layers have in this folder.
const OPAQUE_XATTR: &std::ffi::CStr = c"trusted.overlay.opaque";

impl TreeWriter<'_> {
    /// `.wh.<hidden>` in `folder`.
    pub(super) fn whiteout(
        &mut self,
        member: &Member,
        folder: &[&[u8]],
        hidden: &[u8],
    ) -> Result<(), UnpackError> {
        let failed = |source: Errno| io_error("hiding", &member.path, source);
        if hidden == OPAQUE {
            self.walker.enter(folder).map_err(failed)?;
            return self.opaque(folder);
        }
        if hidden.starts_with(WHITEOUT) {
            // `.wh..wh.aufs`, `.wh..wh.plnk`: bookkeeping of aufs, in old images. It says nothing.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(UnpackError::Whiteout(lossy(&member.path)));
        }
        let parent = self.walker.enter(folder).map_err(failed)?;
        match make_device(parent, hidden, FileType::CharacterDevice, (0, 0)) {
            // Whiteouts apply to lower layers only: what this layer brings itself stays.
            Err(Errno::EXIST) if is_folder(parent, hidden).map_err(failed)? => {
                let mut parts = folder.to_vec();
                parts.push(hidden);
                self.walker.enter(&parts).map_err(failed)?;
                self.opaque(&parts)
            }
            Err(Errno::EXIST) => Ok(()),
            // Its time is the member's: a tree must not depend on when it was unpacked.
            Ok(()) => {
                let times = seconds(member.mtime, member.mtime_nanos);
                fs::utimensat(parent, hidden, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
            }
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Marks the folder that was entered last. Only CAP_SYS_ADMIN may; without it the caller's parent gets
    /// the path.
    pub(super) fn opaque(&mut self, parts: &[&[u8]]) -> Result<(), UnpackError> {
        let path = parts.join(&b'/');
        let fd = self
            .walker
            .enter(parts)
            .map_err(|e| io_error("opening", &path, e))?;
        match fs::fsetxattr(fd, OPAQUE_XATTR, b"y", XattrFlags::empty()) {
            Err(Errno::PERM | Errno::OPNOTSUPP) if self.opaque_pending.contains(&path) => Ok(()),
            Err(Errno::PERM | Errno::OPNOTSUPP) => {
                self.opaque_bytes += path.len();
                if self.opaque_pending.len() == self.limits.opaque_pending {
                    return Err(too_many("opaque folders", self.limits.opaque_pending));
                }
                if self.opaque_bytes > self.limits.opaque_bytes {
                    let what = "bytes of opaque folders' paths";
                    return Err(too_many(what, self.limits.opaque_bytes));
                }
                self.opaque_pending.push(path);
                Ok(())
            }
            other => other.map_err(|e| io_error("making opaque", &path, e)),
        }
    }
}

fn too_many(what: &'static str, limit: usize) -> UnpackError {
    let limit = limit as u64;
    TarError::Limit { what, limit }.into()
}

/// Marks folders opaque that [`apply_layer`](super::apply_layer) could not: for the parent of a jailed
/// child, which has CAP_SYS_ADMIN. The paths are walked as a layer's are.
pub fn mark_opaque(
    root: BorrowedFd<'_>,
    paths: &[Vec<u8>],
    limits: &Limits,
) -> Result<(), UnpackError> {
    for path in paths {
        let refused = |source| UnpackError::Path {
            path: lossy(path),
            source,
        };
        let parts = components(path, limits).map_err(refused)?;
        let mark = |fd: OwnedFd| fs::fsetxattr(fd, OPAQUE_XATTR, b"y", XattrFlags::empty());
        open_folder(root, &parts)
            .and_then(mark)
            .map_err(|e| io_error("making opaque", path, e))?;
    }
    Ok(())
}

/// Of these folders, those that are not marked so.
pub fn not_opaque(root: BorrowedFd<'_>, paths: Vec<Vec<u8>>, limits: &Limits) -> Vec<Vec<u8>> {
    let is_marked = |path: &[u8]| {
        let parts = components(path, limits).ok()?;
        let folder = open_folder(root, &parts).ok()?;
        let mut value = [0; 1];
        fs::fgetxattr(folder, OPAQUE_XATTR, &mut value[..]).ok()?;
        Some(value == *b"y")
    };
    let mut paths = paths;
    paths.retain(|path| is_marked(path) != Some(true));
    paths
}

pub(super) fn is_whiteout(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
}
