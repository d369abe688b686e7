//! What the tests of this crate share.
#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Fails, with the reason, for an ordinary user.
pub fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test gives files to other users and makes devices: run it as root"
    );
}

/// A folder's descriptor.
pub fn fd(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

/// Everything that a layer can say about each path below `root`.
pub fn facts(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    walk(root, root, &mut all);
    all
}

fn walk(root: &Path, path: &Path, all: &mut BTreeMap<String, String>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let content = match meta.file_type() {
        kind if kind.is_file() => coracle_digest::Sha256Digest::of(&fs::read(path).unwrap()).hex(),
        kind if kind.is_symlink() => fs::read_link(path).unwrap().display().to_string(),
        _ => format!("{}", meta.rdev()),
    };
    let (mode, uid, gid, mtime) = (meta.mode(), meta.uid(), meta.gid(), meta.mtime());
    let name = path.strip_prefix(root).unwrap().display().to_string();
    all.insert(name, format!("{mode:o} {uid}:{gid} {mtime} {content}"));
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            walk(root, &entry.unwrap().path(), all);
        }
    }
}
