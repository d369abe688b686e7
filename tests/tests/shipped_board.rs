//! A board that boots its disk as it ships: the disk, and the whole loop with it.

mod emulated;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a disk from `programs` with temporary files below `work`.
fn disk(programs: &Path, work: &Path, epoch: &str) -> Vec<u8> {
    fs::create_dir_all(work).expect("a folder");
    let output = work.join("disk.img");
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/boards/build.sh");
    let outcome = Command::new(build)
        .arg("--programs")
        .arg(programs)
        .arg("--busybox")
        .arg(programs.join("coracle"))
        .arg("--trust")
        .arg(programs.join("coracled"))
        .args(["--root-mib", "16", "--data-mib", "16", "--output"])
        .arg(&output)
        .env("TMPDIR", work)
        .env("SOURCE_DATE_EPOCH", epoch)
        .output()
        .expect("build.sh starts");
    let told = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(outcome.status.success(), "{told}");
    fs::read(output).expect("the disk")
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("coracle-disk-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Names come in another order from each file system's folders, and files have other times each time.
#[test]
fn the_same_programs_give_the_same_disk() {
    let (programs, again) = (folder("programs"), folder("again"));
    for (at, name) in ["coracle-agent", "coracled", "coracle"].iter().enumerate() {
        fs::write(programs.join(name), vec![at as u8; 5000]).expect("a program");
    }
    for name in ["coracle", "coracled", "coracle-agent"] {
        fs::copy(programs.join(name), again.join(name)).expect("a copy");
    }
    let shm = PathBuf::from(format!("/dev/shm/coracle-disk-{}", std::process::id()));
    let first = disk(&programs, &folder("one"), "1750000000");
    assert!(first == disk(&again, &shm, "1750000000"), "other bytes");
    assert!(
        first != disk(&again, &folder("two"), "1760000000"),
        "the times are not in it"
    );
    for made in ["programs", "again", "one", "two"] {
        fs::remove_dir_all(folder(made)).expect("removed");
    }
    fs::remove_dir_all(shm).expect("removed");
}

#[test]
fn a_board_boots_its_disk_enrols_updates_goes_back_and_takes_a_stick() {
    let told = emulated::boards(&["shipped", "x86-64"]);
    assert!(told.contains("the whole loop held"), "{told}");
}
