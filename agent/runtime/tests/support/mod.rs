//! A throw-away place for containers: a busybox image, an overlay, a cgroup parent of this process's own.
//!
//! The tests have no libtest: it runs each in a thread, and the runtime forks a process that must have one.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use coracle_runtime::cgroup::{CgroupError, Stats};
use coracle_runtime::launch::Running;
use coracle_runtime::{
    Capabilities, Cgroup, CgroupTree, DiskLimit, Exit, Failure, LaunchSpec, Limits, Means, Rootfs,
    SeccompProgram, Stdio, prepare, reap,
};

pub type Test = (&'static str, fn());

/// Test functions with their names.
macro_rules! tests {
    ($($test:path,)*) => { &[$((stringify!($test), $test as fn()),)*] };
}

/// Runs all tests, or those whose names contain the first argument. Those that `CORACLE_TESTS_WITHOUT` names, with spaces
/// between them, would take the kernel down: they are told as not here.
pub fn run(tests: &[Test]) -> ExitCode {
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_default();
    require_root_and_busybox();
    let without = std::env::var("CORACLE_TESTS_WITHOUT").unwrap_or_default();
    let mut failed = 0;
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(&filter)) {
        if without.split(' ').any(|left_out| left_out == *name) {
            println!("test {name} ... not here: this kernel does not survive it");
            continue;
        }
        let verdict = match std::panic::catch_unwind(test) {
            Ok(()) => "ok".to_owned(),
            Err(cause) => match cause.downcast::<NotHere>() {
                Ok(reason) => format!("not here: {}", reason.0),
                Err(_) => {
                    failed += 1;
                    "FAILED".to_owned()
                }
            },
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

/// Why a test makes no sense on this machine.
struct NotHere(&'static str);

/// Ends a test that makes no sense on this machine. Its name and the reason are told, and `make boards` holds a list of
/// the boards where that is right.
pub fn not_here(reason: &'static str) -> ! {
    std::panic::resume_unwind(Box::new(NotHere(reason)))
}

/// All controllers of this machine are in a v2 tree.
pub fn version_two() -> bool {
    cgroup_mounts().iter().all(|(kind, _)| kind == "cgroup2")
}

/// Type (`cgroup`, `cgroup2`) and folder.
fn cgroup_mounts() -> Vec<(String, PathBuf)> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (folder, kind) = (words.next()?, words.next()?);
            kind.starts_with("cgroup")
                .then(|| (kind.to_owned(), folder.into()))
        })
        .collect()
}

/// The peak lies in `expected`, or the kernel has no file for it: v2 got one with Linux 5.19.
pub fn assert_peak(place: &Place, stats: &Stats, expected: std::ops::RangeInclusive<u64>) {
    let files = ["memory.peak", "memory.max_usage_in_bytes"];
    match stats.memory_peak_bytes {
        Some(peak) => assert!(expected.contains(&peak), "{stats:?}"),
        None => assert!(files.iter().all(|file| place.cgroup_file(file).is_none())),
    }
}

/// Folders of our cgroups, in whatever hierarchy.
pub fn cgroups_left() -> Vec<PathBuf> {
    cgroup_mounts()
        .into_iter()
        .map(|(_, folder)| folder.join(parent()))
        .filter(|folder| folder.exists())
        .collect()
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
    /// Upper and work folder are in `layer`, as the supervisor has them.
    layered: bool,
    /// What holds all folders, when they are on a file system of their own.
    disk: Option<coracle_runtime::Place>,
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
        Place::in_tree(tree, "container", limits)
    }

    pub fn layered() -> Place {
        let mut place = Place::new();
        place.layered = true;
        place
    }

    pub fn layered_beside(other: &Place, name: &str, limits: &Limits) -> Place {
        let mut place = Place::beside(other, name, limits);
        place.layered = true;
        place
    }

    /// A second container, whose cgroup stands beside this one's.
    pub fn beside(other: &Place, name: &str, limits: &Limits) -> Place {
        Place::in_tree(other.tree.clone(), name, limits)
    }

    /// One below the cgroup of `outer`, which nobody is in.
    pub fn nested(outer: &Place, name: &str, limits: &Limits) -> Place {
        assert_eq!(outer.cgroup.processes().expect("processes"), []);
        let tree = CgroupTree::detect(&format!("{}/container", parent())).expect("cgroups");
        Place::in_tree(tree, name, limits)
    }

    /// All containers of this test together are to use no more than this: the kernel takes back what it can.
    pub fn squeeze(&self, mib: u64) {
        let folders = cgroups_left();
        let high = folders.iter().map(|folder| folder.join("memory.high"));
        let high = high.into_iter().find(|file| file.exists()).expect("v2");
        fs::write(high, (mib << 20).to_string()).expect("memory.high");
    }

    /// In the v2 tree, also that of a hybrid machine, where no controller is but everything else of v2.
    pub fn unified(limits: &Limits) -> Place {
        let mounts = cgroup_mounts();
        let Some((_, mount)) = mounts.iter().find(|(kind, _)| kind == "cgroup2") else {
            not_here("no cgroup2 is mounted");
        };
        let tree = CgroupTree::unified(mount, &parent()).expect("cgroups");
        Place::in_tree(tree, "container", limits)
    }

    fn in_tree(tree: CgroupTree, name: &str, limits: &Limits) -> Place {
        let folder = tempfile::tempdir().expect("a temporary folder");
        make_folders(folder.path());
        let cgroup = match tree.create(name, limits) {
            Err(CgroupError::Devices {
                source: nix::errno::Errno::EINVAL,
                ..
            }) => {
                tree.remove_parent().expect("its parent can be removed");
                not_here("before Linux 4.15 there are no device rules on cgroup v2");
            }
            other => other.expect("a cgroup"),
        };
        Place {
            folder,
            tree,
            cgroup,
            layered: false,
            disk: None,
        }
    }

    /// Everything of it on an ext4 of its own: what is in memory can do less.
    pub fn on_ext4(mut self) -> Place {
        let at = |name: &str| self.folder.path().join(name);
        let disk = coracle_runtime::Place::new(at("disk"), at("disk.ext4"));
        let made = disk.make(Means::Image, DiskLimit::of_bytes(32 << 20));
        made.and_then(|()| disk.open()).expect("an image");
        make_folders(disk.folder());
        self.disk = Some(disk);
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        let disk = self.disk.as_ref();
        disk.map_or(self.folder.path(), |disk| disk.folder())
            .join(name)
    }

    /// This very program goes into the image as `/bin/own`, with the libraries that it has loaded.
    pub fn bring_own_program(&self) {
        let image = self.path("image");
        fs::copy("/proc/self/exe", image.join("bin/own")).expect("this program");
        let maps = fs::read_to_string("/proc/self/maps").expect("what is loaded");
        for library in maps
            .lines()
            .filter_map(|line| line.split_whitespace().nth(5))
        {
            if !library.contains(".so") {
                continue;
            }
            let inside = image.join(library.trim_start_matches('/'));
            fs::create_dir_all(inside.parent().expect("a folder")).expect("a folder");
            fs::copy(library, &inside).expect("a library");
            // The program names its loader by a path that is a link on most machines.
            let name = inside.file_name().expect("a name");
            if name.to_string_lossy().starts_with("ld-") {
                fs::create_dir_all(image.join("lib64")).expect("a folder");
                fs::copy(library, image.join("lib64").join(name)).expect("the loader");
            }
        }
    }

    pub fn rootfs(&self) -> Rootfs {
        let above = if self.layered { "layer" } else { "" };
        Rootfs::Overlay {
            lower: vec![self.path("image")],
            upper: self.path(above).join("upper"),
            work: self.path(above).join("work"),
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

    /// Starts a script that goes on by itself.
    pub fn start(&self, script: &str) -> (Running, Output) {
        let (output, stdio) = output_pipe();
        (self.start_on(script, stdio), Output::of(output))
    }

    /// As [`Place::start`], with a pipe for its standard input.
    pub fn start_with_input(&self, script: &str) -> (Running, PipeWriter, Output) {
        let (output, mut stdio) = output_pipe();
        let (reader, input) = std::io::pipe().expect("a pipe");
        stdio.stdin = OwnedFd::from(reader);
        (self.start_on(script, stdio), input, Output::of(output))
    }

    fn start_on(&self, script: &str, stdio: Stdio) -> Running {
        let mut spec = self.spec(script);
        spec.stdio = stdio;
        let created = prepare(&spec, &|| Ok(())).expect("a container");
        created.start().expect("a launch")
    }

    /// Kills all of it.
    pub fn stop(&self, running: Running) {
        self.cgroup.kill_all().expect("a kill");
        assert_eq!(reap::wait(running.pid), Some(Exit::Signal(9)));
    }

    /// A file of the container's cgroup, in whichever hierarchy has it.
    pub fn cgroup_file(&self, name: &str) -> Option<String> {
        cgroups_left()
            .iter()
            .find_map(|folder| fs::read_to_string(folder.join("container").join(name)).ok())
    }
}

/// A file of the folder that this program's cgroups are in.
pub fn parent_file(name: &str) -> Option<String> {
    let folders = cgroups_left();
    let mut files = folders.iter().map(|folder| folder.join(name));
    files.find_map(|file| fs::read_to_string(file).ok())
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
            .and_then(|()| match self.tree.list()[..] {
                [] => self.tree.remove_parent(),
                _ => Ok(()),
            });
        let closed = self.disk.take().map_or(Ok(()), |disk| disk.remove());
        if !std::thread::panicking() {
            removed.expect("the cgroups can be removed");
            closed.expect("the image can be unmounted");
        }
    }
}

/// What a container says, line by line.
pub struct Output(BufReader<File>);

impl Output {
    pub fn of(file: File) -> Output {
        Output(BufReader::new(file))
    }

    /// The next line, with its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("text");
        line
    }
}

/// Lets a script that reads go on.
pub fn say_next(input: &mut PipeWriter) {
    input.write_all(b"next\n").expect("a reader");
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

fn make_folders(folder: &Path) {
    for part in [
        "image",
        "upper",
        "work",
        "layer/upper",
        "layer/work",
        "merged",
    ] {
        fs::create_dir_all(folder.join(part)).expect("a folder");
    }
    make_image(&folder.join("image"));
}

pub fn make_image(root: &Path) {
    fs::create_dir_all(root.join("bin")).expect("a folder");
    fs::create_dir_all(root.join("tmp")).expect("a folder");
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox");
    for applet in [
        "sh", "cat", "echo", "hostname", "ls", "mount", "true", "sleep", "id", "dd", "head",
        "tail", "wc", "rm",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    for applet in [
        "grep", "touch", "mkdir", "mknod", "chown", "ip", "kill", "ps", "pwd", "env", "test",
        "stat", "unshare", "nc", "ping",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
}
