//! Namespaces of an engine's own, which end with it: its mounts, processes and links cannot outlive a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Bundle, Said, said};

const SCRIPT: &str = include_str!("room.sh");

pub struct Room {
    unshare: Child,
    /// Its first process.
    pid: u32,
    /// What its engine starts of its own.
    daemons: Vec<Child>,
    /// The cgroup that all its containers are below, in each hierarchy.
    pub group: String,
    /// Gives the root file system and a folder.
    bundle: Bundle,
}

impl Room {
    pub fn new() -> Room {
        let bundle = Bundle::new("");
        // An executable file is what `/etc/plain` is not.
        fs::write(bundle.root().join("etc/plain"), "plain").expect("a file");
        fs::create_dir(bundle.path("client")).expect("a folder");
        fs::write(bundle.path("client/config.json"), "{}").expect("a file");
        let group = format!("coracle-engine-{}-{}", std::process::id(), super::unique());
        let log = fs::File::create(bundle.path("room.log")).expect("a file");
        let mut unshare = Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--ipc", "--uts"])
            .args(["--fork", "--kill-child", "sh", "-c", SCRIPT, "sh"])
            .arg(bundle.path("."))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("unshare: apt-get install util-linux");
        let said = || fs::read_to_string(bundle.path("room.log")).unwrap_or_default();
        wait_until("namespaces", || {
            let ended = unshare.try_wait().expect("a child");
            assert!(ended.is_none(), "unshare ended with {ended:?}: {}", said());
            bundle.path("up").exists()
        });
        let of = unshare.id();
        let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
        let first = children.expect("a list");
        Room {
            pid: first.trim().parse().expect("a number"),
            unshare,
            daemons: Vec::new(),
            group,
            bundle,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.bundle.path(name)
    }

    /// Busybox, and `/etc/plain`, which nobody may execute.
    pub fn root(&self) -> PathBuf {
        self.bundle.root()
    }

    /// The same, packed.
    pub fn archive(&self) -> PathBuf {
        let file = self.path("rootfs.tar");
        let tar = Command::new("tar")
            .arg("-C")
            .arg(self.root())
            .arg("-cf")
            .args([&file, Path::new(".")])
            .status();
        assert!(tar.expect("tar").success());
        file
    }

    /// A folder to mount, in which everybody may write.
    pub fn volume(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        fs::create_dir(&folder).expect("a folder");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(&folder, mode).expect("a mode");
        folder
    }

    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.pid.to_string()])
            .args(["--mount", "--pid", "--net", "--ipc", "--uts"])
            .arg(program)
            // Nothing of the user's own is looked at.
            .env("HOME", self.path("."))
            .env("DOCKER_CONFIG", self.path("client"))
            .env_remove("DOCKER_HOST")
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, program: &str, args: &[&str]) -> Said {
        said(self.command(program).args(args).output().expect("nsenter"))
    }

    /// Runs on until the room ends. What it says goes to `NAME.log`.
    pub fn start(&mut self, name: &str, mut command: Command) {
        let log = fs::File::create(self.path(&format!("{name}.log"))).expect("a file");
        let child = command
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn();
        self.daemons.push(child.expect("nsenter"));
    }

    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// Folders of this container's, in all hierarchies.
    pub fn groups_of(&self, id: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for top in hierarchies() {
            named(&top.join(&self.group), id, &mut found);
        }
        found
    }

    /// A limit as the kernel has it.
    pub fn limit(&self, id: &str, v1: &str, v2: &str) -> String {
        let groups = self.groups_of(id);
        let read = |folder: &PathBuf| {
            let file = |name| fs::read_to_string(folder.join(name)).ok();
            file(v1).or_else(|| file(v2))
        };
        let found = groups.iter().find_map(read);
        let found = found.unwrap_or_else(|| panic!("no {v1} and no {v2} in {groups:?}"));
        found.trim().to_owned()
    }
}

/// The one tree, or each of them.
fn hierarchies() -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() {
        return vec![top.into()];
    }
    let below = fs::read_dir(top).into_iter().flatten().flatten();
    below.map(|entry| entry.path()).collect()
}

fn named(folder: &Path, id: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().contains(id) {
                found.push(entry.path());
            }
            named(&entry.path(), id, found);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Its first process ends with its input, and the kernel ends the others.
        drop(self.unshare.stdin.take());
        let _ = self.unshare.wait();
        for daemon in &mut self.daemons {
            let _ = daemon.wait();
        }
        for top in hierarchies() {
            let group = top.join(&self.group);
            wait_until("the cgroups to go", || {
                super::systemd::remove(&group);
                !group.exists()
            });
        }
    }
}

/// An engine on a machine that may be busy with others.
pub fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
