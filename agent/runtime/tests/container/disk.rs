//! Whoever fills a disk meets the limit, by an image on any kernel and by project quota where `/quota` has it: `make boards`
//! boots kernels that do.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use coracle_runtime::disk::Trial;
use coracle_runtime::{
    DiskLimit, Exit, LaunchSpec, Means, Mount, Place as Room, Rootfs, SeccompProgram, prepare,
    spawn_plain,
};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::statvfs::statvfs;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::support::{Outcome, Place, launch, not_here, output_pipe};

const MIB: u64 = 1 << 20;
pub const LIMIT: DiskLimit = DiskLimit {
    bytes: 4 * MIB,
    inodes: 100,
};

/// A folder with a limit, which goes away with everything that holds it.
pub struct Limited {
    room: Room,
    above: tempfile::TempDir,
}

impl Limited {
    pub fn new(means: Means) -> Limited {
        let above = match means {
            Means::Image | Means::Memory => tempfile::tempdir(),
            Means::Quota => tempfile::tempdir_in(with_quotas()),
        };
        let above = above.expect("a folder");
        let room = Room::new(above.path().join("room"), above.path().join("image"));
        room.make(means, LIMIT).expect("a folder with a limit");
        room.open().expect("an open one");
        for name in ["upper", "work", "data"] {
            fs::create_dir(room.folder().join(name)).expect("a folder");
        }
        Limited { room, above }
    }

    pub fn inside(&self, name: &str) -> PathBuf {
        self.room.folder().join(name)
    }

    pub fn limit(&self) -> u64 {
        let used = self.room.usage().expect("figures");
        used.limit.expect("a limit").bytes
    }

    /// As each start does it.
    pub fn open(&self) {
        self.room.open().expect("an open one");
    }

    /// A script whose writable layer and whose /data are in here.
    pub fn spec<'a>(&self, place: &'a Place, script: &str) -> LaunchSpec<'a> {
        let mut spec = place.spec(script);
        spec.rootfs = Rootfs::Overlay {
            lower: vec![place.path("image")],
            upper: self.inside("upper"),
            work: self.inside("work"),
            merged: place.path("merged"),
        };
        spec.mounts = vec![Mount {
            owners_of_container: true,
            ..Mount::bind(self.inside("data"), "/data", false)
        }];
        spec
    }

    fn shell(&self, script: &str) -> Outcome {
        launch(self.spec(&Place::new(), script)).expect("a launch")
    }

    fn used(&self) -> (u64, u64) {
        let used = self.room.usage().expect("figures");
        (used.bytes, used.inodes)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let removed = self.room.remove();
        if !std::thread::panicking() {
            removed.expect("it can be removed");
            nothing_is_attached(self.above.path());
        }
    }
}

/// An image is filled by hand where bytes cannot be reserved, and gets its loop device in two steps where there is no call for
/// both.
pub fn on_an_old_kernel() {
    let limited = Limited::new(Means::Image);
    fs::write(limited.inside("data/file"), "kept").unwrap();
    assert_eq!(fs::read(limited.inside("data/file")).unwrap(), b"kept");
    drop(limited);
    // Also between those two steps.
    an_image_is_whole_wherever_its_making_is_cut();
}

/// Where this machine has project quotas.
pub fn with_quotas() -> &'static Path {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let held = |line: &str| line.contains(" /quota ") && line.contains("prjquota");
    if !mounts.lines().any(held) {
        not_here("no file system with project quotas is mounted on /quota");
    }
    Path::new("/quota")
}

/// Files below `folder` that are behind a loop device.
fn loops_below(folder: &Path) -> Vec<String> {
    let devices = fs::read_dir("/sys/block").expect("devices");
    devices
        .filter_map(|entry| {
            let file = entry.expect("a device").path().join("loop/backing_file");
            fs::read_to_string(file).ok()
        })
        .filter(|file| Path::new(file.trim_end()).starts_with(folder))
        .collect()
}

/// No file below `folder` is behind a loop device, unless a process of another mount namespace, of which this machine may have
/// any, has copied our mount and keeps it.
fn nothing_is_attached(folder: &Path) {
    let mounted = |mounts: &str| mounts.contains(folder.to_str().expect("text"));
    let own = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounted(&own), "{own}");
    for _ in 0..500 {
        let others = fs::read_dir("/proc").expect("processes");
        let held = others
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("mountinfo")).ok())
            .any(|mounts| mounted(&mounts));
        if held || loops_below(folder).is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("still attached: {:?}", loops_below(folder));
}

pub fn an_image_ends_a_disk_filler() {
    ends_a_disk_filler(Means::Image);
}

pub fn memory_ends_a_disk_filler() {
    ends_a_disk_filler(Means::Memory);
}

pub fn a_quota_ends_a_disk_filler() {
    ends_a_disk_filler(Means::Quota);
}

fn ends_a_disk_filler(means: Means) {
    let limited = Limited::new(means);
    assert_eq!(limited.room.means().unwrap(), Some(means));
    let seen = limited.room.usage().unwrap();
    assert_eq!(seen.limit.unwrap().bytes, LIMIT.bytes);
    assert!(seen.bytes <= 16 << 10 && seen.inodes <= 3, "{seen:?}");

    let free = || {
        let disk = statvfs(limited.above.path()).unwrap();
        disk.blocks_available() as u64 * disk.fragment_size() as u64
    };
    let before = free();
    let outcome = limited.shell(
        "dd if=/dev/zero of=/big bs=64k count=1000 2>&1 | grep -c 'space left\\|quota exceeded'; \
         cat /big | wc -c; dd if=/dev/zero of=/data/big bs=64k count=1000 2>/dev/null || echo full; \
         dd if=/dev/zero of=/bin/new bs=64k count=1 2>/dev/null || echo full; cat /bin/busybox | wc -c",
    );
    let lines: Vec<&str> = outcome.output.lines().collect();
    let written: u64 = lines[1].parse().unwrap();
    assert_eq!(lines[0], "1", "{}", outcome.output);
    assert!(
        written <= LIMIT.bytes && written > LIMIT.bytes / 20 * 18,
        "{written}"
    );
    // The image's own files can still be read, and both folders share what there is.
    assert_eq!(
        outcome.output.matches("full").count(),
        2,
        "{}",
        outcome.output
    );
    let (bytes, _) = limited.used();
    assert!(
        bytes <= LIMIT.bytes && bytes > LIMIT.bytes / 20 * 19,
        "{bytes}"
    );
    if means == Means::Image {
        // It had its bytes from the beginning: the filler takes none from the disk, whatever others do meanwhile.
        let file = fs::metadata(limited.above.path().join("image")).unwrap();
        let taken = std::os::unix::fs::MetadataExt::blocks(&file) * 512;
        assert!(taken >= file.len(), "{taken} of {}", file.len());
        assert_eq!(file.len(), LIMIT.image_bytes());
    } else {
        let lost = before.saturating_sub(free());
        assert!(lost <= LIMIT.bytes + (64 << 10), "{lost}");
    }

    // What is deleted can be used again.
    let outcome = limited.shell("rm -f /big /data/big; echo y > /data/small && echo room");
    assert_eq!(outcome.output, "room\n");
}

/// The kernel makes a folder in `work` anew for each mount; with a full disk it has only what the one before had, which is
/// free once its mount is gone. Whoever reads the mounts of the dead container holds that up.
pub fn a_full_disk_is_writable_again_though_the_last_mount_lingers() {
    let limited = Limited::new(Means::Image);
    let place = Place::new();
    let (output, writer) = output_pipe();
    let mut spec = limited.spec(
        &place,
        "cat /dev/zero > /big 2>/dev/null; cat /dev/zero > /data/big 2>/dev/null; \
         i=0; while mkdir /data/f$i 2>/dev/null; do i=$((i+1)); done; echo full; exec sleep 1000",
    );
    spec.stdio = writer;
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    drop(spec);
    let mut line = [0; 5];
    io::Read::read_exact(&mut &output, &mut line).unwrap();
    assert_eq!(&line, b"full\n");
    let mounts = File::open(format!("/proc/{}/mountinfo", running.pid)).unwrap();
    kill(Pid::from_raw(running.pid), Signal::SIGKILL).unwrap();
    coracle_runtime::reap::wait(running.pid).unwrap();
    let reader = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(mounts);
    });

    // A kernel that mounts it at once (5.10) has what is deleted free when the mount before has gone.
    let outcome = limited.shell(
        "rm /big; i=0; until echo y 2>/dev/null > /small; do i=$((i+1)); [ $i -lt 50 ] || break; sleep 0.1; done; cat /small",
    );
    reader.join().unwrap();
    assert_eq!(outcome.output, "y\n");
}

pub fn an_image_ends_an_inode_filler() {
    ends_an_inode_filler(Means::Image);
}

pub fn memory_ends_an_inode_filler() {
    ends_an_inode_filler(Means::Memory);
}

pub fn a_quota_ends_an_inode_filler() {
    ends_an_inode_filler(Means::Quota);
}

fn ends_an_inode_filler(means: Means) {
    let limited = Limited::new(means);
    let outcome =
        limited.shell("i=0; while touch /data/f$i 2>/dev/null; do i=$((i+1)); done; echo $i");
    let made: u64 = outcome.output.trim().parse().unwrap();
    // An image has whole blocks of inodes.
    assert!((80..=LIMIT.inodes + 16).contains(&made), "{made}");
    let (bytes, inodes) = limited.used();
    assert!(inodes >= made && inodes <= LIMIT.inodes + 16, "{inodes}");
    assert!(bytes < MIB, "{bytes}");
}

pub fn an_image_keeps_what_is_in_it() {
    let limited = Limited::new(Means::Image);
    limited.shell("echo kept > /data/file");
    let folder = limited.room.folder();
    // Open means one mount on one device, however often.
    limited.room.open().unwrap();
    limited.room.open().unwrap();
    assert_eq!(loops_below(limited.above.path()).len(), 1);
    limited.room.close().unwrap();
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    let (_, inodes) = limited.used();
    assert!(inodes >= 3, "a closed one tells too: {inodes}");
    // Made already: nothing is made anew.
    limited.room.make(Means::Image, LIMIT).unwrap();
    limited.room.open().unwrap();
    assert_eq!(fs::read(limited.inside("data/file")).unwrap(), b"kept\n");

    // A container that has it mounted goes on, and so does its file system: it is the same one again.
    let place = Place::new();
    let mut spec = place.spec("true");
    spec.mounts = vec![Mount::bind(limited.inside("data"), "/data", false)];
    let created = coracle_runtime::prepare(&spec, &|| Ok(())).unwrap();
    limited.room.close().unwrap();
    limited.room.open().unwrap();
    assert_eq!(loops_below(limited.above.path()).len(), 1);
    created.kill_and_reap();
}

pub fn an_image_does_not_fit_where_there_is_no_room() {
    let limited = Limited::new(Means::Image);
    // Inside a full place there is no room for another one.
    let inner = Room::new(limited.inside("data/room"), limited.inside("data/image"));
    let failure = inner.make(Means::Image, LIMIT).unwrap_err();
    assert!(failure.is_no_space(), "{failure}");
    assert!(!limited.inside("data/image").exists() && !limited.inside("data/image.new").exists());
    let (bytes, _) = limited.used();
    assert!(bytes < 64 << 10, "{bytes}");
}

pub fn an_image_grows_in_use() {
    let limited = Limited::new(Means::Image);
    let larger = DiskLimit {
        bytes: 200 * MIB,
        ..LIMIT
    };
    limited.shell("dd if=/dev/zero of=/data/big bs=64k 2>/dev/null");
    let smaller = limited.room.resize(DiskLimit::of_bytes(MIB)).unwrap_err();
    assert!(smaller.to_string().contains("cannot shrink"), "{smaller}");
    match limited.room.resize(larger) {
        Err(failure) if failure.to_string().contains("not permitted") => {
            not_here("root lacks CAP_SYS_RESOURCE, which resizing asks for")
        }
        other => other.unwrap(),
    }
    let limit = limited.room.usage().unwrap().limit.unwrap();
    assert!(limit.bytes >= larger.bytes, "{limit:?}");
    let grown =
        limited.shell("dd if=/dev/zero of=/data/more bs=1M count=100 2>/dev/null && echo room");
    assert_eq!(grown.output, "room\n");
    // As it is after the next start.
    limited.room.close().unwrap();
    limited.room.open().unwrap();
    assert!(limited.room.usage().unwrap().bytes > 100 * MIB);
}

pub fn a_quota_moves_in_use() {
    let limited = Limited::new(Means::Quota);
    let fill = "dd if=/dev/zero of=/data/more bs=64k count=32 2>/dev/null && echo room";
    limited.room.resize(DiskLimit::of_bytes(MIB)).unwrap();
    assert_eq!(limited.shell(fill).output, "");
    limited.room.resize(DiskLimit::of_bytes(5 * MIB)).unwrap();
    assert_eq!(limited.shell(fill).output, "room\n");
}

/// quotactl_fd (443 on every architecture) came with 5.14; before, the device's node is named.
pub fn a_quota_is_set_by_the_devices_node_too() {
    with_quotas();
    let old = SeccompProgram::deny(&[443], libc::ENOSYS).unwrap();
    let child = spawn_plain(Vec::new(), |_| {
        coracle_runtime::jail::confine_self(&old).expect("a filter");
        ends_a_disk_filler(Means::Quota);
        a_quota_moves_in_use();
        0
    });
    assert_eq!(child.unwrap().wait(), Some(Exit::Code(0)));
}

/// Overlay makes a folder at each start.
pub fn a_full_layer_starts_again_under_a_quota() {
    let limited = Limited::new(Means::Quota);
    limited.shell("dd if=/dev/zero of=/big bs=4k 2>/dev/null; dd if=/dev/zero of=/data/big bs=512 2>/dev/null");
    for _ in 0..3 {
        assert_eq!(limited.shell("echo up").output, "up\n");
        // Nothing of what was lent for that is left.
        assert_eq!(limited.limit(), LIMIT.bytes);
    }
    let (bytes, _) = limited.used();
    assert!(
        bytes <= LIMIT.bytes && bytes > LIMIT.bytes / 20 * 19,
        "{bytes}"
    );
}

pub fn a_limit_below_what_a_file_takes_is_refused_or_held() {
    let above = tempfile::tempdir_in(with_quotas()).unwrap();
    let room = Room::new(above.path().join("room"), above.path().join("image"));
    let least = DiskLimit {
        bytes: coracle_runtime::disk::LEAST_BYTES,
        ..LIMIT
    };
    match room.make(Means::Quota, least) {
        Err(refused) => {
            assert!(refused.to_string().contains("give 512 KiB"), "{refused}");
            assert_eq!(room.means().unwrap(), None, "it has no project then");
        }
        Ok(()) => {
            let limit = room.usage().unwrap().limit.expect("a limit");
            assert_eq!(limit.bytes, least.bytes);
            fs::write(room.folder().join("file"), [0; 32 << 10]).expect("a file");
        }
    }
    room.remove().unwrap();
}

pub fn a_project_is_not_used_twice() {
    let first = Limited::new(Means::Quota);
    first.shell("dd if=/dev/zero of=/data/big bs=64k count=32 2>/dev/null");
    // Its limit is gone, its tree still waits for its deletion: whoever comes next does not inherit what it counts.
    first.room.remove().unwrap();
    let second = Limited::new(Means::Quota);
    let (bytes, _) = second.used();
    assert!(bytes < 64 << 10, "{bytes}");
}

pub fn the_means_are_tried_and_nothing_stays() {
    let folder = tempfile::tempdir().unwrap();
    let trial = Trial::run(folder.path());
    let image = trial.image.as_ref().expect("it was tried");
    image.as_ref().expect("images work on each board");
    let why = trial
        .quota
        .as_ref()
        .expect_err("/tmp has no project quotas");
    assert!(!why.to_string().is_empty());
    assert_eq!(trial.best(), Some(Means::Image));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    nothing_is_attached(folder.path());
}

pub fn quotas_are_found_by_trying() {
    let folder = tempfile::tempdir_in(with_quotas()).unwrap();
    let trial = Trial::run(folder.path());
    trial.quota.as_ref().expect("quotas work there");
    assert!(trial.image.is_none(), "one that works is enough");
    assert_eq!(trial.best(), Some(Means::Quota));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// SIGKILL at each system call of making and opening an image: afterwards it is whole or not there, and the next try ends
/// well whatever the first left.
pub fn an_image_is_whole_wherever_its_making_is_cut() {
    let mut cuts = 0;
    for at in 1.. {
        let above = tempfile::tempdir().unwrap();
        let room = Room::new(above.path().join("room"), above.path().join("image"));
        let cut = killed_at(at, || {
            room.make(Means::Image, LIMIT)?;
            room.open()
        });
        let image = above.path().join("image");
        if image.exists() {
            assert_eq!(
                fs::metadata(&image).unwrap().len(),
                LIMIT.image_bytes(),
                "cut {at}"
            );
            room.open()
                .unwrap_or_else(|failure| panic!("cut {at}: {failure}"));
        }
        room.make(Means::Image, LIMIT)
            .and_then(|()| room.open())
            .unwrap_or_else(|failure| panic!("cut {at}: {failure}"));
        fs::write(room.folder().join("file"), "x").unwrap();
        assert_eq!(loops_below(above.path()).len(), 1, "cut {at}");
        room.remove().unwrap();
        nothing_is_attached(above.path());
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 1, "cut {at}");
        if !cut {
            break;
        }
        cuts += 1;
    }
    assert!(
        cuts > 30,
        "{cuts} system calls are too few to make an image"
    );
}

/// Whether `body`, in a child, was killed before its n-th system call; false when it had ended by then.
fn killed_at<E: std::fmt::Display>(n: usize, body: impl FnOnce() -> Result<(), E>) -> bool {
    let child = spawn_plain(Vec::new(), |_| {
        let traced = || -> io::Result<()> {
            ptrace::traceme()?;
            raise(Signal::SIGSTOP)?;
            body().map_err(|error| io::Error::other(error.to_string()))
        };
        u8::from(traced().is_err())
    })
    .expect("a child");
    let pid = Pid::from_raw(child.pid);
    let wait = || waitpid(pid, Some(WaitPidFlag::__WALL)).expect("a state");
    assert!(matches!(wait(), WaitStatus::Stopped(_, Signal::SIGSTOP)));
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD).expect("tracing");
    let mut stops = 0;
    loop {
        ptrace::syscall(pid, None).expect("tracing");
        match wait() {
            // Each call stops twice: before and after it.
            WaitStatus::PtraceSyscall(_) => {
                stops += 1;
                if stops == 2 * n - 1 {
                    kill(pid, Signal::SIGKILL).expect("a kill");
                    wait();
                    return true;
                }
            }
            WaitStatus::Exited(_, code) => {
                assert_eq!(code, 0, "without a cut it ends well");
                return false;
            }
            other => panic!("cut {n}: {other:?}"),
        }
    }
}
