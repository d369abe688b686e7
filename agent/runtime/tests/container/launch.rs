//! The steps of a launch, with what can go wrong, and with old kernels.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::Command;

use coracle_runtime::seccomp::{Action, Argument, Compare, Rule};
use coracle_runtime::{
    ExecSpec, Exit, JailSpec, LaunchSpec, Limits, Mount, NetNs, Rootfs, SeccompProgram, Stdio,
    Step, exec_in, prepare, reap, spawn_jailed, spawn_plain,
};

use crate::support::{self, Place, launch};

pub fn failures_tell_their_step() {
    let place = Place::new();
    let failure = |change: &dyn Fn(&mut LaunchSpec<'_>)| {
        let mut spec = place.spec("true");
        change(&mut spec);
        launch(spec).err().expect("a failure")
    };
    let missing = failure(&|spec| spec.args = vec!["/bin/nothing".into()]);
    assert_eq!(
        (missing.step, missing.errno, missing.subject.as_str()),
        (Step::Exec, libc::ENOENT, "/bin/nothing")
    );
    let missing = failure(&|spec| spec.args = vec!["nothing".into()]);
    assert_eq!((missing.step, missing.errno), (Step::Exec, libc::ENOENT));
    let folder = failure(&|spec| spec.args = vec!["/tmp".into()]);
    assert_eq!((folder.step, folder.errno), (Step::Exec, libc::EACCES));
    let none = failure(&|spec| spec.args.clear());
    assert_eq!(none.step, Step::Exec);
    let layer = failure(&|spec| {
        spec.rootfs = Rootfs::Overlay {
            lower: vec!["/nonexistent/layer".into()],
            upper: place.path("upper"),
            work: place.path("work"),
            merged: place.path("merged"),
        }
    });
    assert_eq!(
        (layer.step, layer.subject.as_str()),
        (Step::Overlay, "/nonexistent/layer")
    );
    let volume = failure(&|spec| spec.mounts = vec![Mount::bind("/nonexistent", "/data", false)]);
    assert_eq!((volume.step, volume.errno), (Step::Mount, libc::ENOENT));
    let sysctl = failure(&|spec| spec.sysctls = vec![("kernel.panic".into(), "1".into())]);
    assert_eq!(sysctl.step, Step::Sysctl);
    let cwd = failure(&|spec| spec.cwd = "/bin/busybox".into());
    assert_eq!(cwd.step, Step::WorkingDir);

    let network = prepare(&place.spec("true"), &|| Err("no address".into()))
        .unwrap()
        .start()
        .unwrap_err();
    assert_eq!(
        (network.step, network.subject.as_str()),
        (Step::Network, "no address")
    );
    let panic = prepare(&place.spec("true"), &|| panic!("on purpose"))
        .unwrap()
        .start()
        .unwrap_err();
    assert_eq!(panic.step, Step::Panic);
    assert_eq!(reap::reap_all(), []);
}

pub fn a_container_can_be_given_up_before_its_start() {
    let place = Place::new();
    let created = prepare(&place.spec("true"), &|| Ok(())).unwrap();
    assert_eq!(created.kill_and_reap(), Some(Exit::Signal(9)));
    // Merely dropped, it ends by itself.
    let created = prepare(&place.spec("touch /tmp/ran"), &|| Ok(())).unwrap();
    let pid = created.pid();
    drop(created);
    assert_eq!(reap::wait(pid), Some(Exit::Code(0)));
    assert!(!place.path("upper/tmp/ran").exists());
}

pub fn networks_are_new_host_or_shared() {
    let place = Place::new();
    let inode = |path: &str| fs::read_link(path).unwrap();
    let host = inode("/proc/self/ns/net");
    let (_output, stdio) = support::output_pipe();
    let mut spec = place.spec("exec sleep 60");
    spec.stdio = stdio;
    let created = prepare(&spec, &|| {
        // In the container's network, and still with the host's files.
        let inside = fs::read_link("/proc/self/ns/net").map_err(|error| error.to_string())?;
        let links = fs::read_to_string("/proc/self/net/dev").map_err(|error| error.to_string())?;
        // Each network has those of the kernel's tunnels, where it has any.
        let is_tunnel = |line: &&str| {
            ["sit0:", "tunl0:", "ip6tnl0:"]
                .contains(&line.trim_start().split(' ').next().unwrap_or_default())
        };
        (inside != host && links.lines().filter(|line| !is_tunnel(line)).count() == 3)
            .then_some(())
            .ok_or(links)
    })
    .unwrap();
    let netns = created.netns().unwrap();
    let running = created.start().unwrap();

    let other = place.tree.create("other", &Limits::default()).unwrap();
    let mut joined = place.spec("stat -L -c %i /proc/self/ns/net; ls /sys/class/net");
    joined.cgroup = &other;
    fs::create_dir(place.path("merged2")).unwrap();
    joined.rootfs = Rootfs::Directory(place.path("image"));
    joined.netns = NetNs::Join(netns);
    let output = launch(joined).unwrap().output;
    let shared = inode(&format!("/proc/{}/ns/net", running.pid))
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        shared.contains(output.lines().next().unwrap()),
        "{output} {shared}"
    );

    let mut open = place.spec("stat -L -c %i /proc/self/ns/net");
    open.cgroup = &other;
    open.rootfs = Rootfs::Directory(place.path("image"));
    open.netns = NetNs::Host;
    let output = launch(open).unwrap().output;
    assert!(host.to_str().unwrap().contains(output.trim()), "{output}");

    running.signal(libc::SIGKILL).unwrap();
    reap::wait(running.pid);
    other.remove().unwrap();
}

/// Set for the process that is to believe itself on an old kernel.
pub const OLD_KERNEL: &str = "CORACLE_TEST_OLD_KERNEL";

/// Newer system calls answer ENOSYS, as on 4.19: the launch must take its older ways.
pub fn old_kernels_are_served_too() {
    let newer = [
        libc::SYS_clone3,
        libc::SYS_openat2,
        libc::SYS_close_range,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_mount_setattr,
        libc::SYS_faccessat2,
        libc::SYS_statx,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_send_signal,
        // Of a kernel that was built without keys, and of a file system that reserves nothing.
        libc::SYS_keyctl,
        libc::SYS_fallocate,
    ];
    let mut rules = vec![Rule {
        calls: newer.map(|call| call as u32).to_vec(),
        arguments: Vec::new(),
        action: Action::Errno(libc::ENOSYS as u16),
    }];
    // LOOP_CONFIGURE, since 5.8.
    rules.push(Rule {
        calls: vec![libc::SYS_ioctl as u32],
        arguments: vec![Argument {
            index: 1,
            compare: Compare::Equal(0x4c0a),
        }],
        action: Action::Errno(libc::EINVAL as u16),
    });
    let old = SeccompProgram::from_rules(&rules, Action::Allow, 0).unwrap();
    let child = spawn_plain(Vec::new(), |_| {
        coracle_runtime::jail::confine_self(&old).expect("a filter");
        // As a new program: std remembers which calls this kernel had.
        let error = Command::new("/proc/self/exe").env(OLD_KERNEL, "1").exec();
        eprintln!("{error}");
        1
    });
    assert_eq!(child.unwrap().wait(), Some(Exit::Code(0)));
}

/// What the program does when [`OLD_KERNEL`] is set.
pub fn on_an_old_kernel() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let place = Place::new();
    let (volume, outside) = (place.path("volume"), place.path("outside"));
    fs::create_dir(&volume).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(volume.join("here"), "").unwrap();
    symlink("/tmp", place.path("image/link")).unwrap();
    symlink(&outside, place.path("image/bad")).unwrap();
    let with_volume = |target: &str, script: &str| {
        let mut spec = place.spec(script);
        spec.mounts = vec![Mount::bind(&volume, target, true)];
        launch(spec)
    };
    let launched = with_volume("/link/data", "ls /link/data; hostname").unwrap();
    assert_eq!(launched.output, "here\ntest\n");
    let refused = with_volume("/bad/data", "true").err();
    assert_eq!(refused.expect("the link was followed").step, Step::Mount);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);

    let mut with_init = place.spec("cat /proc/1/comm; exit 9");
    with_init.init = true;
    let outcome = launch(with_init).unwrap();
    assert_eq!(
        (outcome.output.as_str(), outcome.exit),
        ("coracle-init\n", Exit::Code(9))
    );

    let (running, _output) = place.start("sleep 100");
    let args = ["/bin/sh", "-c", "exit 7"].map(Into::into).to_vec();
    let (spec, stdio) = (place.spec(""), Stdio::null().unwrap());
    let more = ExecSpec::like(&spec, running.pid, running.pidfd.as_fd(), args, stdio);
    let executed = exec_in(&more).expect("an exec");
    drop(more);
    assert_eq!(reap::wait(executed.pid), Some(Exit::Code(7)));
    let handle = coracle_runtime::ProcessHandle::open(running.pid).expect("a handle");
    handle.signal(libc::SIGKILL).expect("a signal");
    assert_eq!(reap::wait(running.pid), Some(Exit::Signal(libc::SIGKILL)));
    let gone = handle.signal(libc::SIGKILL).unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
    super::disk::on_an_old_kernel();
    drop(place);
    crate::users::without_id_mapped_mounts();
}

pub fn nothing_is_left() {
    let folder = {
        let place = Place::with(&Limits {
            memory_bytes: Some(32 << 20),
            pids: Some(10),
            ..Limits::default()
        });
        assert!(place.shell("sleep 100 & exit 0").exit.success());
        assert_eq!(
            place.cgroup.processes().unwrap(),
            [0i32; 0],
            "pid 1 takes all others along"
        );
        let jail = JailSpec::new(place.path("upper"));
        assert_eq!(
            spawn_jailed(jail, |_| 0).unwrap().wait(),
            Some(Exit::Code(0))
        );
        place.path("")
    };
    // Other programs mount and unmount at the same time.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    let left: Vec<&str> = mounts
        .lines()
        .filter(|line| line.contains(folder))
        .collect();
    assert_eq!(left, Vec::<&str>::new());
    assert_eq!(support::cgroups_left(), Vec::<std::path::PathBuf>::new());
    assert_eq!(reap::reap_all(), []);
}
