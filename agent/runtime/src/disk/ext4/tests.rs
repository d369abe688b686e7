use super::*;
use crate::disk::{DiskLimit, DiskUse};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

fn image(limit: DiskLimit) -> (tempfile::NamedTempFile, Geometry) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let geometry = Geometry::of(limit);
    file.as_file().set_len(geometry.bytes()).unwrap();
    write(file.as_file(), &geometry).unwrap();
    (file, geometry)
}

fn head(file: &File) -> DiskUse {
    let mut bytes = [0; Head::BYTES];
    file.read_exact_at(&mut bytes, Head::AT).unwrap();
    Head::read(&bytes).unwrap().usage()
}

const MIB: u64 = 1 << 20;

/// From the smallest to one whose backups of the super block take several groups, and those that end just behind a group.
fn limits() -> Vec<DiskLimit> {
    let mut all: Vec<DiskLimit> = [64 << 10, MIB, 64 * MIB, 127 * MIB, 1000 * MIB, 20_000 * MIB]
        .map(DiskLimit::of_bytes)
        .to_vec();
    all.extend((118..124).map(|mib| DiskLimit::of_bytes(mib * MIB)));
    all.push(DiskLimit {
        bytes: 64 * MIB,
        inodes: 16,
    });
    all.push(DiskLimit {
        bytes: 512 * MIB,
        inodes: 131_072,
    });
    all
}

#[test]
fn e2fsck_finds_nothing_to_correct() {
    for limit in limits() {
        let (file, geometry) = image(limit);
        let checked = Command::new("e2fsck")
            .args(["-f", "-n"])
            .arg(file.path())
            .output()
            .expect("e2fsck, of e2fsprogs, is needed");
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{limit:?} {geometry:?}\n{said}");
    }
}

#[test]
fn the_limit_is_what_is_free() {
    for limit in limits() {
        let (file, geometry) = image(limit);
        let seen = head(file.as_file());
        let held = seen.limit.unwrap();
        assert_eq!(held.bytes, limit.bytes, "{geometry:?}");
        assert!(held.inodes >= limit.inodes, "{held:?}");
        assert!(
            held.inodes < limit.inodes + 16 * geometry.groups,
            "{held:?}"
        );
        assert_eq!((seen.bytes, seen.inodes), (0, 0), "{limit:?}");
    }
}

#[test]
fn a_grown_one_holds_what_was_asked_for() {
    let (file, _) = image(DiskLimit::of_bytes(64 * MIB));
    let mut bytes = [0; Head::BYTES];
    file.as_file().read_exact_at(&mut bytes, Head::AT).unwrap();
    let head = Head::read(&bytes).unwrap();
    assert_eq!(
        head.blocks_for(64 * MIB),
        Geometry::of(DiskLimit::of_bytes(64 * MIB)).bytes() / BLOCK
    );
    for mib in [65, 100, 122, 123, 124, 128, 500] {
        assert!(head.blocks_for(mib * MIB) * BLOCK > mib * MIB);
    }
}

#[test]
fn other_bytes_are_no_file_system_of_ours() {
    assert!(Head::read(&[0; Head::BYTES]).is_none());
    assert!(Head::read(&[0xff; Head::BYTES]).is_none());
}
