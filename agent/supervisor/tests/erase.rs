//! A process of its own: the limit of open files that it lowers is every thread's.

use coracle_supervisor::erase::erase;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

fn open_folder(at: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

#[test]
fn a_tree_deeper_than_paths_and_descriptors_is_erased() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let mut at = open_folder(CWD, tree.as_path()).unwrap();
    let name = "d".repeat(200);
    for _ in 0..1500 {
        mkdirat(&at, &name, Mode::RWXU).unwrap();
        mkdirat(&at, "side", Mode::RWXU).unwrap();
        at = open_folder(&at, name.as_str()).unwrap();
    }
    drop(at);
    // A board's usual limit, not this machine's. Soft, for the moment: it goes back up.
    let usual = getrlimit(Resource::Nofile);
    let small = Rlimit {
        current: Some(1024),
        ..usual
    };
    setrlimit(Resource::Nofile, small).unwrap();
    let by_std = fs::remove_dir_all(&tree);
    let ours = erase(&tree);
    setrlimit(Resource::Nofile, usual).unwrap();
    assert!(by_std.is_err(), "std can do it by now");
    ours.unwrap();
    assert!(!tree.exists());
}
