//! A program on the data partition: made ready from its layer, and opened for being executed.

use crate::disk;
use coracle_digest::{Hasher, Sha256Digest};
use coracle_protocol::release::AGENT_FILE;
use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A program by what the signed release says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// SHA-256 of its bytes.
    pub digest: Sha256Digest,
    /// In bytes.
    pub size: u64,
    /// diff_id of the layer that it came in.
    pub layer: Sha256Digest,
    /// For people.
    pub version: String,
    /// The assignment with which it was kept, by itself: it sets back the count of its starts.
    #[serde(default)]
    pub kept_with: Option<Sha256Digest>,
}

impl Chosen {
    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(self.digest.hex())
    }

    /// An open file with exactly the signed bytes, which nobody but root can change from then on: the check and the execution
    /// are of the same inode, whatever its name means by then.
    pub fn open(&self, folder: &Path) -> Result<File, String> {
        let path = self.path(folder);
        check(&path, self.digest, self.size).map_err(|fault| format!("{}: {fault}", path.display()))
    }

    /// A second name for the file in its layer, when that is what was signed. It takes no room, and stays when the layer goes.
    pub fn place(&self, folder: &Path, layers: &Path) -> Result<(), String> {
        let from = layers.join(self.layer.hex()).join(AGENT_FILE);
        let about = |fault: String| format!("`{AGENT_FILE}` of layer {}: {fault}", self.layer);
        let file = check(&from, self.digest, self.size).map_err(about)?;
        let facts = file.metadata().map_err(|e| about(e.to_string()))?;
        if facts.mode() & 0o5 != 0o5 {
            let fault = "the daemon's user cannot read and execute it (mode 0755)";
            return Err(about(fault.into()));
        }
        let to = self.path(folder);
        if self.open(folder).is_ok() {
            return Ok(());
        }
        disk::remove(&to).map_err(|e| e.to_string())?;
        std::fs::hard_link(&from, &to).map_err(|e| about(e.to_string()))?;
        disk::sync_parent(&to).map_err(|e| e.to_string())
    }
}

fn check(path: &Path, digest: Sha256Digest, size: u64) -> Result<File, String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty());
    let mut file = File::from(file.map_err(|errno| errno.to_string())?);
    let facts = file.metadata().map_err(|e| e.to_string())?;
    if !facts.is_file() || facts.uid() != 0 || facts.mode() & 0o6022 != 0 {
        return Err(
            "it is no file of root's that root alone can write (owner 0, mode 0755)".into(),
        );
    }
    if facts.mode() & 0o100 == 0 {
        return Err("it is not executable (mode 0755)".into());
    }
    if facts.len() != size {
        return Err(format!("it has {} bytes; {size} were signed", facts.len()));
    }
    let (mut begin, mut hasher) = ([0; 4], Hasher::default());
    file.read_exact(&mut begin).map_err(|e| e.to_string())?;
    // No interpreter is looked for: it would be another file than the one that is checked.
    if begin != *b"\x7fELF" {
        return Err("it is no ELF program".into());
    }
    hasher.update(&begin);
    io::copy(&mut file, &mut hasher).map_err(|e| e.to_string())?;
    match hasher.finish() {
        found if found == digest => Ok(file),
        found => Err(format!("its bytes are {found}; {digest} was signed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    #[test]
    fn only_the_signed_bytes_of_root_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = b"\x7fELF and the rest";
        let chosen = |bytes: &[u8]| Chosen {
            digest: Sha256Digest::of(bytes),
            size: bytes.len() as u64,
            layer: Sha256Digest::of(b"layer"),
            version: "2".into(),
            kept_with: None,
        };
        let (folder, two) = (folder.path(), chosen(bytes));
        let path = two.path(folder);
        let mode = |mode| std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let refused = |with: &str| {
            let fault = two.open(folder).unwrap_err();
            assert!(fault.contains(with), "{fault}");
        };
        refused("No such file");
        std::fs::write(&path, bytes).unwrap();
        mode(0o755);
        two.open(folder).unwrap();
        for wrong in [0o775, 0o757, 0o4755, 0o2755] {
            mode(wrong);
            refused("root alone");
        }
        mode(0o644);
        refused("not executable");
        mode(0o755);
        chown(&path, Some(1), None).unwrap();
        refused("root alone");
        chown(&path, Some(0), None).unwrap();
        std::fs::write(&path, &bytes[..9]).unwrap();
        refused("9 bytes");
        std::fs::write(&path, b"\x7fELF and the resT").unwrap();
        refused("was signed");
        std::fs::rename(&path, folder.join("other")).unwrap();
        symlink(folder.join("other"), &path).unwrap();
        refused("symbolic links");
        let layers = folder.join("layers");
        let from = layers.join(two.layer.hex()).join(AGENT_FILE);
        std::fs::create_dir_all(from.parent().unwrap()).unwrap();
        std::fs::write(&from, bytes).unwrap();
        std::fs::set_permissions(&from, Permissions::from_mode(0o750)).unwrap();
        let fault = two.place(folder, &layers).unwrap_err();
        assert!(fault.contains("the daemon's user cannot"), "{fault}");
        std::fs::set_permissions(&from, Permissions::from_mode(0o755)).unwrap();
        two.place(folder, &layers).unwrap();
        two.open(folder).unwrap();
        let script = chosen(b"#!/bin/sh\n");
        std::fs::write(script.path(folder), b"#!/bin/sh\n").unwrap();
        std::fs::set_permissions(script.path(folder), Permissions::from_mode(0o755)).unwrap();
        assert!(script.open(folder).unwrap_err().contains("no ELF"));
    }
}
