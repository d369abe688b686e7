//! A board that boots its disk as it ships: the disk, and the whole loop with it.

mod emulated;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const BUILD: &str = "images/boards/build.sh";

/// Builds a disk from `programs` with temporary files below `work`.
fn disk(programs: &Path, work: &Path, epoch: &str) -> Vec<u8> {
    let build = Command::new(Path::new(PROJECT).join(BUILD));
    disk_by(build, programs, work, epoch)
}

fn disk_by(mut build: Command, programs: &Path, work: &Path, epoch: &str) -> Vec<u8> {
    let output = work.join("disk.img");
    let outcome = build
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

/// Away at the end of a test, however that ends; readable for everybody.
fn folder_in(parent: &Path) -> TempDir {
    let mut folder = tempfile::Builder::new();
    folder.prefix("coracle-disk-");
    folder.permissions(fs::Permissions::from_mode(0o755));
    folder.tempdir_in(parent).expect("a folder")
}

fn made(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::create_dir(&path).expect("a folder");
    path
}

/// Names come in another order from each file system's folders, and files have other times each time.
#[test]
fn the_same_programs_give_the_same_disk() {
    let (folder, shm) = (
        folder_in(&std::env::temp_dir()),
        folder_in(Path::new("/dev/shm")),
    );
    let (programs, again) = (made(&folder, "programs"), made(&folder, "again"));
    for (at, name) in ["coracle-agent", "coracled", "coracle"].iter().enumerate() {
        fs::write(programs.join(name), vec![at as u8; 5000]).expect("a program");
    }
    for name in ["coracle", "coracled", "coracle-agent"] {
        fs::copy(programs.join(name), again.join(name)).expect("a copy");
    }
    let first = disk(&programs, &made(&folder, "one"), "1750000000");
    assert!(
        first == disk(&again, shm.path(), "1750000000"),
        "other bytes"
    );
    assert!(
        first != disk(&again, &made(&folder, "two"), "1760000000"),
        "the times are not in it"
    );
}

/// Somebody else's files do not come into it, nor does who that is. The script makes a user namespace where it is not root: nobody
/// has to be allowed one on this machine.
#[test]
fn a_disk_made_without_root_has_the_same_bytes() {
    let nobody = |program: &Path| {
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        nobody.arg(program);
        nobody
    };
    let mut tried = nobody(Path::new("unshare"));
    let tried = tried.args(["--map-root-user", "true"]).output();
    let tried = tried.expect("setpriv starts");
    assert!(
        tried.status.success(),
        "nobody may make no user namespace here (user.max_user_namespaces, kernel.unprivileged_userns_clone and \
         kernel.apparmor_restrict_unprivileged_userns of sysctl decide): {}",
        String::from_utf8_lossy(&tried.stderr)
    );
    let folder = folder_in(&std::env::temp_dir());
    let (programs, work) = (made(&folder, "programs"), made(&folder, "nobody"));
    let sources = made(&folder, "sources");
    for name in ["coracle-agent", "coracled", "coracle"] {
        fs::write(programs.join(name), name.repeat(700)).expect("a program");
    }
    // Where the project lies is not for everybody to read.
    fs::create_dir(sources.join("images")).expect("a folder");
    for part in [
        "Makefile",
        "README.md",
        "LICENSE",
        "config",
        "images/boards",
    ] {
        let (from, to) = (Path::new(PROJECT).join(part), sources.join(part));
        let mut copy = Command::new("cp");
        let copied = copy.args(["-r", "--"]).arg(from).arg(to).status();
        assert!(copied.expect("cp starts").success(), "{part}");
    }
    let rights = [(&sources, "a+rX"), (&programs, "a+rX"), (&work, "a+rwX")];
    for (folder, rights) in rights {
        let mut chmod = Command::new("chmod");
        let changed = chmod.args(["-R", rights]).arg(folder).status();
        assert!(changed.expect("chmod starts").success(), "{rights}");
    }
    let epoch = "1750000000";
    let by_root = disk(&programs, &made(&folder, "root"), epoch);
    let build = nobody(&sources.join(BUILD));
    assert!(
        disk_by(build, &programs, &work, epoch) == by_root,
        "other bytes"
    );
}

#[test]
fn a_board_boots_its_disk_enrols_updates_goes_back_and_takes_a_stick() {
    let told = emulated::boards(&["shipped", "x86-64"]);
    assert!(told.contains("the whole loop held"), "{told}");
}

/// Another architecture's processor and page tables, under the same emulator.
#[test]
fn a_64_bit_arm_board_boots_its_disk_enrols_updates_goes_back_and_comes_up_again() {
    let told = emulated::boards(&["shipped", "--quick", "arm64"]);
    assert!(told.contains("the quick loop held"), "{told}");
}
