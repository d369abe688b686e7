//! Locked-down children on this machine's kernel. Needs root.

#[macro_use]
mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use coracle_runtime::jail::confine_self;
use coracle_runtime::spec::Rlimit;
use coracle_runtime::{
    Capabilities, Capability, Exit, JailSpec, NetNs, SeccompProgram, Step, reap, spawn_jailed,
    spawn_plain,
};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, mknodat};

/// Set for the process that is to believe itself on an old kernel.
const OLD_KERNEL: &str = "CORACLE_TEST_OLD_KERNEL";

fn main() -> std::process::ExitCode {
    if std::env::var_os(OLD_KERNEL).is_some() {
        passed_folders_end_at_their_top();
        a_device_node_of_a_layer_leads_to_no_device();
        return std::process::ExitCode::SUCCESS;
    }
    support::run(tests![
        the_closure_sees_its_root_only,
        passed_folders_end_at_their_top,
        a_device_node_of_a_layer_leads_to_no_device,
        old_kernels_fence_folders_too,
        a_folder_that_was_not_passed_stays_shut,
        rights_are_what_was_given,
        memory_is_bounded,
        filters_bite,
        only_passed_descriptors_are_open,
        the_network_is_empty_or_joined,
        a_jail_that_cannot_be_shut_is_an_error,
        a_panic_stays_in_the_child,
    ])
}

/// Runs a closure that answers with text.
fn ask(mut spec: JailSpec<'_>, body: impl FnOnce(&[OwnedFd]) -> String) -> (String, Option<Exit>) {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    spec.files.insert(0, OwnedFd::from(writer));
    let child = spawn_jailed(spec, |fds| {
        let text = body(&fds.write_dirs);
        let mut out = File::from(fds.files.into_iter().next().expect("the pipe"));
        u8::from(out.write_all(text.as_bytes()).is_err())
    })
    .expect("a jail");
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    (text, child.wait())
}

fn the_closure_sees_its_root_only() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("inside")).unwrap();
    let (text, exit) = ask(JailSpec::new(root.path()), |_| {
        let names: Vec<_> = fs::read_dir("/")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let up = Path::new("/../../etc/passwd").exists();
        fs::write("/made", "x").unwrap();
        format!("{names:?} {up} {}", std::process::id())
    });
    assert_eq!(text, "[\"inside\"] false 1");
    assert_eq!(exit, Some(Exit::Code(0)));
    assert_eq!(fs::read_to_string(root.path().join("made")).unwrap(), "x");

    let mut spec = JailSpec::new(root.path());
    spec.root_readonly = true;
    let (text, _) = ask(spec, |_| {
        format!("{:?}", fs::write("/made", "y").unwrap_err().raw_os_error())
    });
    assert_eq!(text, format!("Some({})", libc::EROFS));
}

fn passed_folders_end_at_their_top() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["root", "read", "write"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("read/file"), "content").unwrap();
    let open = |name: &str| OwnedFd::from(File::open(folder.path().join(name)).unwrap());
    let mut spec = JailSpec::new(folder.path().join("root"));
    spec.read_dirs = vec![open("read")];
    spec.write_dirs = vec![open("write")];
    let child = spawn_jailed(spec, |fds| {
        let make = |dir: &OwnedFd, name: &str| {
            openat(dir, name, OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU)
        };
        let look = |dir: &OwnedFd, name: &str| openat(dir, name, OFlag::O_RDONLY, Mode::empty());
        let (read, write) = (&fds.read_dirs[0], &fds.write_dirs[0]);
        let good = look(read, "file").is_ok()
            && matches!(make(read, "new"), Err(nix::errno::Errno::EROFS))
            && make(write, "new").is_ok()
            && look(write, "../read/file").is_err()
            && look(read, "../write").is_err();
        u8::from(!good)
    })
    .unwrap();
    assert_eq!(child.wait(), Some(Exit::Code(0)));
    assert!(folder.path().join("write/new").exists());
}

/// An unpacking child may make nodes; one that a layer has taken over must not get at the disk through them.
fn a_device_node_of_a_layer_leads_to_no_device() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["root", "read", "write"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let null = libc::makedev(1, 3);
    let node = |dir: &OwnedFd| mknodat(dir, "node", SFlag::S_IFCHR, Mode::S_IRWXU, null);
    let open = |name: &str| OwnedFd::from(File::open(folder.path().join(name)).unwrap());
    let look = |dir: &OwnedFd| {
        openat(
            dir,
            "node",
            OFlag::O_RDONLY | OFlag::O_NONBLOCK,
            Mode::empty(),
        )
    };
    node(&open("read")).unwrap();
    look(&open("read")).expect("the file system itself allows devices");
    let mut spec = JailSpec::new(folder.path().join("root"));
    spec.read_dirs = vec![open("read")];
    spec.write_dirs = vec![open("write")];
    spec.capabilities = [Capability::MKNOD, Capability::DAC_OVERRIDE]
        .into_iter()
        .fold(Capabilities::none(), Capabilities::with);
    let child = spawn_jailed(spec, |fds| {
        let (read, write) = (&fds.read_dirs[0], &fds.write_dirs[0]);
        let shut = |dir| look(dir).err() == Some(nix::errno::Errno::EACCES);
        u8::from(!(node(write).is_ok() && shut(write) && shut(read)))
    })
    .unwrap();
    assert_eq!(child.wait(), Some(Exit::Code(0)));
}

/// Before 5.12 there is no mount_setattr, before 5.2 no open_tree.
fn old_kernels_fence_folders_too() {
    for newer in [
        &[libc::SYS_mount_setattr][..],
        &[libc::SYS_open_tree, libc::SYS_clone3],
    ] {
        let old = SeccompProgram::deny(newer, libc::ENOSYS).unwrap();
        let child = spawn_plain(Vec::new(), |_| {
            confine_self(&old).expect("a filter");
            let error = Command::new("/proc/self/exe").env(OLD_KERNEL, "1").exec();
            eprintln!("{error}");
            1
        });
        assert_eq!(child.unwrap().wait(), Some(Exit::Code(0)), "{newer:?}");
    }
}

/// A descriptor of a folder that came into the jail by another way than as one of its folders.
fn a_folder_that_was_not_passed_stays_shut() {
    // Whether the kernel has Landlock 2 (landlock_create_ruleset, LANDLOCK_CREATE_RULESET_VERSION).
    #[allow(unsafe_code, reason = "no crate here knows this call")]
    // SAFETY: with this flag the kernel reads nothing.
    let version = unsafe { libc::syscall(444, std::ptr::null::<u8>(), 0, 1) };
    let without = SeccompProgram::deny(&[444], libc::ENOSYS).unwrap();
    assert_eq!(leaked_folder_is_shut(), version >= 2);
    let child = spawn_plain(Vec::new(), |_| {
        confine_self(&without).expect("a filter");
        u8::from(leaked_folder_is_shut())
    });
    assert_eq!(child.unwrap().wait(), Some(Exit::Code(0)));
}

/// What a jail needs works in any case.
fn leaked_folder_is_shut() -> bool {
    let folder = tempfile::tempdir().unwrap();
    for name in ["root", "read", "write/one", "write/two", "leak"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    for name in ["read/file", "leak/file", "write/one/file"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    let open = |name: &str| OwnedFd::from(File::open(folder.path().join(name)).unwrap());
    let mut spec = JailSpec::new(folder.path().join("root"));
    spec.read_dirs = vec![open("read")];
    spec.write_dirs = vec![open("write")];
    spec.files = vec![open("leak")];
    let child = spawn_jailed(spec, |fds| {
        let (read, write, leak) = (&fds.read_dirs[0], &fds.write_dirs[0], &fds.files[0]);
        let look = |dir: &OwnedFd| openat(dir, "file", OFlag::O_RDONLY, Mode::empty());
        let make = |dir: &OwnedFd, name: &str| {
            let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_TRUNC;
            openat(dir, name, flags, Mode::S_IRWXU)
        };
        let linked = nix::unistd::linkat(
            write,
            "one/file",
            write,
            "two/file",
            nix::fcntl::AtFlags::empty(),
        );
        let moved = nix::fcntl::renameat(write, "one/file", write, "two/moved");
        let good = look(read).is_ok()
            && make(write, "new").and_then(|_| make(write, "new")).is_ok()
            && linked.is_ok()
            && moved.is_ok()
            && fs::write("/made", "x").is_ok();
        let denied = Some(nix::errno::Errno::EACCES);
        let shut = [look(leak).err(), make(leak, "new").err()];
        match (good, shut) {
            (true, [None, None]) => 10,
            (true, shut) if shut == [denied; 2] => 11,
            _ => 12,
        }
    });
    match child.unwrap().wait() {
        Some(Exit::Code(10)) => false,
        Some(Exit::Code(11)) => true,
        other => panic!("{other:?}"),
    }
}

fn rights_are_what_was_given() {
    let root = tempfile::tempdir().unwrap();
    let owned = root.path().join("file");
    fs::write(&owned, "").unwrap();
    let chown = |capabilities| {
        let mut spec = JailSpec::new(root.path());
        spec.capabilities = capabilities;
        ask(spec, |_| {
            format!(
                "{:?}",
                std::os::unix::fs::chown("/file", Some(77), Some(78)).is_ok()
            )
        })
        .0
    };
    assert_eq!(chown(Capabilities::none()), "false");
    assert_eq!(chown(Capabilities::none().with(Capability::CHOWN)), "true");

    let mut spec = JailSpec::new(root.path());
    (spec.uid, spec.gid) = (65534, 65534);
    let (text, _) = ask(spec, |_| {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        format!("{uid} {gid} {}", fs::write("/denied", "").is_err())
    });
    assert_eq!(text, "65534 65534 true");
}

fn memory_is_bounded() {
    let root = tempfile::tempdir().unwrap();
    let mut spec = JailSpec::new(root.path());
    spec.rlimits = vec![Rlimit {
        resource: libc::RLIMIT_AS,
        soft: 256 << 20,
        hard: 256 << 20,
    }];
    let (text, _) = ask(spec, |_| {
        let mut much: Vec<u8> = Vec::new();
        format!(
            "{} {}",
            much.try_reserve(1 << 20).is_ok(),
            much.try_reserve(1 << 30).is_ok()
        )
    });
    assert_eq!(text, "true false");
}

fn filters_bite() {
    let root = tempfile::tempdir().unwrap();
    let files = SeccompProgram::files_only().unwrap();
    let mut spec = JailSpec::new(root.path());
    spec.seccomp = Some(&files);
    let (text, exit) = ask(spec, |_| {
        fs::write("/file", "written").unwrap();
        format!(
            "{:?}",
            std::net::UdpSocket::bind("127.0.0.1:0")
                .unwrap_err()
                .raw_os_error()
        )
    });
    assert_eq!(
        (text, exit),
        (format!("Some({})", libc::EPERM), Some(Exit::Code(0)))
    );

    // 32-bit ARM has a second fcntl, for wide offsets, and its C library calls that one.
    #[cfg(not(target_arch = "arm"))]
    const FCNTL: libc::c_long = libc::SYS_fcntl;
    #[cfg(target_arch = "arm")]
    const FCNTL: libc::c_long = libc::SYS_fcntl64;
    let strict =
        SeccompProgram::allow_only(&[libc::SYS_exit_group, libc::SYS_close, FCNTL]).unwrap();
    let mut spec = JailSpec::new(root.path());
    spec.seccomp = Some(&strict);
    assert_eq!(
        spawn_jailed(spec, |_| 5).unwrap().wait(),
        Some(Exit::Code(5))
    );
    let mut spec = JailSpec::new(root.path());
    spec.seccomp = Some(&strict);
    let child = spawn_jailed(spec, |_| u8::from(fs::read_dir("/").is_ok())).unwrap();
    assert_eq!(child.wait(), Some(Exit::Signal(libc::SIGSYS)));
}

fn only_passed_descriptors_are_open() {
    let secret = File::open("/etc/passwd").unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let child = spawn_plain(vec![OwnedFd::from(writer)], |files| {
        let open: Vec<_> = fs::read_dir("/proc/self/fd")
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        let targets: Vec<_> = open
            .iter()
            .filter_map(|path| fs::read_link(path).ok())
            .collect();
        let found = targets
            .iter()
            .any(|target| target == Path::new("/etc/passwd"));
        let mut out = File::from(files.into_iter().next().unwrap());
        u8::from(out.write_all(format!("{found}").as_bytes()).is_err())
    })
    .unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait(), Some(Exit::Code(0)));
    assert_eq!(text, "false");
    assert!(
        secret.as_fd().try_clone_to_owned().is_ok(),
        "the parent's own stays open"
    );
}

fn the_network_is_empty_or_joined() {
    let root = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reach = |netns| {
        let mut spec = JailSpec::new(root.path());
        spec.netns = netns;
        (spec.uid, spec.gid) = (65534, 65534);
        ask(spec, |_| {
            format!("{}", std::net::TcpStream::connect(address).is_ok())
        })
        .0
    };
    assert_eq!(reach(NetNs::New), "false");
    let own = OwnedFd::from(File::open("/proc/self/ns/net").unwrap());
    assert_eq!(reach(NetNs::Join(own)), "true");
    assert_eq!(reach(NetNs::Host), "true");
}

fn a_jail_that_cannot_be_shut_is_an_error() {
    let failure = spawn_jailed(JailSpec::new("/nonexistent"), |_| 0).unwrap_err();
    assert_eq!((failure.step, failure.errno), (Step::Rootfs, libc::ENOENT));
    assert_eq!(reap::reap_all(), []);
}

fn a_panic_stays_in_the_child() {
    let child = spawn_plain(Vec::new(), |_| panic!("on purpose")).unwrap();
    assert_eq!(child.wait(), Some(Exit::Code(125)));
    let child = spawn_plain(Vec::new(), |_| {
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    })
    .unwrap();
    assert_eq!(reap::reap_all(), []);
    child.kill().unwrap();
    assert_eq!(child.wait(), Some(Exit::Signal(9)));
}
