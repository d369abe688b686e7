//! A throw-away place for containers: a busybox image, an overlay, a cgroup parent of this process's own.
//!
//! The tests have no libtest: it runs each in a thread, and the runtime forks a process that must have one.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use coracle_runtime::{
    Capabilities, Cgroup, CgroupTree, Exit, Failure, LaunchSpec, Limits, Rootfs, SeccompProgram,
    Stdio, prepare, reap,
};

pub type Test = (&'static str, fn());

/// Test functions with their names.
macro_rules! tests {
    ($($test:ident,)*) => { &[$((stringify!($test), $test as fn()),)*] };
}

/// Runs all tests, or those whose names contain the first argument.
pub fn run(tests: &[Test]) -> ExitCode {
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_default();
    require_root_and_busybox();
    let mut failed = 0;
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(&filter)) {
        let verdict = match std::panic::catch_unwind(test) {
            Ok(()) => "ok",
            Err(_) => {
                failed += 1;
                "FAILED"
            }
        };
        println!("test {name} ... {verdict}");
    }
    println!("{failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn require_root_and_busybox() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests make containers and must run as root"
    );
    assert!(
        Path::new("/bin/busybox").exists(),
        "these tests need /bin/busybox, statically linked: apt-get install busybox-static"
    );
}

pub fn seccomp() -> &'static SeccompProgram {
    static PROGRAM: OnceLock<SeccompProgram> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        SeccompProgram::docker(Capabilities::docker()).expect("the default profile")
    })
}

/// One per test: folders and a cgroup that go away with it.
pub struct Place {
    folder: tempfile::TempDir,
    pub tree: CgroupTree,
    pub cgroup: Cgroup,
}

pub struct Outcome {
    pub output: String,
    pub exit: Exit,
}

impl Place {
    pub fn new() -> Place {
        Place::with(&Limits::default())
    }

    pub fn with(limits: &Limits) -> Place {
        let tree = CgroupTree::detect(&parent()).expect("cgroups");
        Place::in_tree(tree, limits)
    }

    /// In the v2 tree of a hybrid machine, where no controller is but everything else of v2.
    pub fn unified(limits: &Limits) -> Place {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let line = mounts
            .lines()
            .find(|line| line.starts_with("cgroup2 "))
            .expect("cgroup2 must be mounted");
        let mount = Path::new(line.split(' ').nth(1).expect("a path"));
        Place::in_tree(
            CgroupTree::unified(mount, &parent()).expect("cgroups"),
            limits,
        )
    }

    fn in_tree(tree: CgroupTree, limits: &Limits) -> Place {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["image", "upper", "work", "merged"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        make_image(&folder.path().join("image"));
        let cgroup = tree.create("container", limits).expect("a cgroup");
        Place {
            folder,
            tree,
            cgroup,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn rootfs(&self) -> Rootfs {
        Rootfs::Overlay {
            lower: vec![self.path("image")],
            upper: self.path("upper"),
            work: self.path("work"),
            merged: self.path("merged"),
        }
    }

    pub fn spec(&self, script: &str) -> LaunchSpec<'_> {
        let mut spec = LaunchSpec::new("test", self.rootfs(), &self.cgroup).expect("a spec");
        spec.args = vec!["/bin/sh".into(), "-c".into(), script.into()];
        spec.seccomp = Some(seccomp());
        spec
    }

    /// Runs a script with the defaults.
    pub fn shell(&self, script: &str) -> Outcome {
        launch(self.spec(script)).expect("a launch")
    }
}

fn parent() -> String {
    format!("coracle-test-runtime-{}", std::process::id())
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.cgroup.kill_all();
        reap::reap_all();
        let removed = self
            .cgroup
            .remove()
            .and_then(|()| self.tree.remove_parent());
        if !std::thread::panicking() {
            removed.expect("the cgroups can be removed");
        }
    }
}

/// Runs a container to its end.
pub fn launch(mut spec: LaunchSpec<'_>) -> Result<Outcome, Failure> {
    let (output, writer) = output_pipe();
    spec.stdio = writer;
    let created = prepare(&spec, &|| Ok(()))?;
    drop(spec);
    let running = created.start()?;
    let output = read(output);
    let exit = reap::wait(running.pid).expect("a child of ours");
    Ok(Outcome { output, exit })
}

/// Standard output and error into one pipe.
pub fn output_pipe() -> (File, Stdio) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let writer = OwnedFd::from(writer);
    let stderr = writer.try_clone().expect("a descriptor");
    (
        File::from(OwnedFd::from(reader)),
        Stdio {
            stdout: writer,
            stderr,
            ..Stdio::null().expect("null")
        },
    )
}

pub fn read(mut from: File) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).expect("text");
    text
}

pub fn make_image(root: &Path) {
    fs::create_dir_all(root.join("bin")).expect("a folder");
    fs::create_dir_all(root.join("tmp")).expect("a folder");
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox");
    for applet in [
        "sh", "cat", "echo", "hostname", "ls", "mount", "true", "sleep", "id", "dd", "head",
        "tail", "wc",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    for applet in [
        "grep", "touch", "mkdir", "mknod", "chown", "ip", "kill", "ps", "pwd", "env", "test",
        "stat", "unshare",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
}
