use super::*;
use proptest::prelude::*;
use std::fs;

fn root_needed() {
    assert!(
        rustix::process::geteuid().is_root(),
        "trying namespaces and cgroups needs root"
    );
}

/// Scratch cgroups of this process. The other tests make some too, so that they are waited for.
fn leftovers() -> std::vec::Vec<std::path::PathBuf> {
    let mine = format!("coracle-check-{}-", std::process::id());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let (v1, v2) = crate::probe::cgroup::mounted(&mounts);
    let look = || {
        let hierarchies = v1.iter().map(|(_, at)| at).chain(&v2);
        let entries = hierarchies.flat_map(|at| fs::read_dir(at).unwrap());
        let paths = entries.map(|entry| entry.unwrap().path());
        let is_mine = |path: &std::path::PathBuf| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(&mine)
        };
        paths.filter(is_mine).collect::<std::vec::Vec<_>>()
    };
    for _ in 0..50 {
        if look().is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    look()
}

#[test]
fn this_kernel_is_tried_and_nothing_is_left() {
    root_needed();
    let state = tempfile::tempdir().unwrap();
    let trials = Trials::run(state.path(), None);
    for subject in [
        "memory limit",
        "CPU quota",
        "CPU weight",
        "process limit",
        "mnt namespace",
        "uts namespace",
        "ipc namespace",
        "pid namespace",
        "net namespace",
        "cgroup namespace",
        "writable state folder",
        "overlayfs",
        "users of apps' own",
        "bridge",
        "veth",
        "nf_tables",
        "ingress rates",
        "egress lists",
        "egress rates",
        "macvlan links",
        "seccomp filters",
    ] {
        assert_eq!(trials.outcome(subject), Some(&Outcome::Works), "{subject}");
    }
    assert!(matches!(
        trials.outcome("IO limit"),
        Some(Outcome::NotTried(_))
    ));
    assert!(trials.iter().count() < TRIAL_LIMIT);
    assert_eq!(leftovers(), std::vec::Vec::<std::path::PathBuf>::new());
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    assert!(!Path::new("/sys/class/net/check0").exists());
    assert!(!Path::new("/sys/class/net/check70").exists());
    // What this kernel does not have is found out by its name: the tool says the same.
    for (need, kind) in [(Need::Ipvlan, "ipvlan"), (Need::Vlan, "vlan")] {
        let more = if kind == "vlan" { "id 3" } else { "" };
        let line =
            format!("ip link add a type veth && ip link add link a name b type {kind} {more}");
        let mut there = std::process::Command::new("unshare");
        let there = there.args(["--net", "sh", "-c", &line]).output().unwrap();
        let outcome = trials.outcome(need.subject());
        assert_eq!(
            outcome == Some(&Outcome::Works),
            there.status.success(),
            "{kind}: {outcome:?}"
        );
        assert!(!matches!(outcome, None | Some(Outcome::NotTried(_))));
    }
    // The thread's namespaces went with it: this one's are the process's.
    let of = |task: &str| fs::read_link(format!("/proc/{task}/ns/net")).unwrap();
    assert_eq!(of("thread-self"), of("self"));
}

#[test]
fn what_a_release_asks_for_is_tried_alone() {
    root_needed();
    let state = tempfile::tempdir().unwrap();
    let wanted = [
        Need::Layers,
        Need::Filters,
        Need::IngressRate,
        Need::EgressRate,
    ];
    // Away from the other tests' thread, as in a process of its own.
    let tried = |at: std::path::PathBuf| {
        let thread = std::thread::spawn(move || Trials::needs(&at, &wanted));
        thread.join().unwrap()
    };
    let mut trials = tried(state.path().to_owned());
    for need in wanted {
        let outcome = trials.outcome(need.subject());
        assert_eq!(outcome, Some(&Outcome::Works), "{need:?}");
    }
    assert_eq!(trials.iter().count(), wanted.len());
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    // Where no layer can lie, and what came of it replaces what was known.
    let elsewhere = tried("/proc".into());
    let outcome = elsewhere.outcome("overlayfs").unwrap().clone();
    assert!(matches!(outcome, Outcome::Fails(_)), "{outcome:?}");
    trials.learn(Need::Layers, &elsewhere.to_lines());
    trials.learn(Need::Vlan, &elsewhere.to_lines());
    assert_eq!(trials.outcome("overlayfs"), Some(&outcome));
    let vlan = trials.outcome("VLANs");
    assert!(
        matches!(vlan, Some(Outcome::NotTried(_))),
        "no line says it"
    );
    assert_eq!(trials.iter().count(), wanted.len() + 1);
}

#[test]
fn what_is_lacking_for_a_while_is_no_fault_of_the_kernel() {
    let of = |errno: rustix::io::Errno| Outcome::of(Err(errno.into()));
    use rustix::io::Errno;
    for (errno, words) in [
        (Errno::NOSPC, "No space left on device"),
        (Errno::NOMEM, "Cannot allocate memory"),
        (Errno::MFILE, "Too many open files"),
    ] {
        let outcome = of(errno);
        assert!(outcome.not_now().unwrap().starts_with(words), "{outcome:?}");
        // As a child tells it.
        let mut trials = Trials::default();
        trials.note("overlayfs", outcome.clone());
        let lines = trials.to_lines();
        let mut told = Trials::default();
        told.learn(Need::Layers, &lines);
        assert_eq!(told.outcome("overlayfs"), Some(&outcome));
    }
    assert!(matches!(of(Errno::NODEV), Outcome::Fails(_)));
    assert_eq!(of(Errno::NODEV).not_now(), None);
    assert_eq!(of(Errno::PERM).not_now(), None);
    assert_eq!(Outcome::of(Ok(())), Outcome::Works);
}

/// A state folder without any room.
#[test]
fn a_full_disk_is_no_kernel_without_layers() {
    root_needed();
    let state = tempfile::tempdir().unwrap();
    let at = state.path().to_owned();
    let thread = std::thread::spawn(move || {
        crate::kernel::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
        let flags = rustix::mount::MountPropagationFlags::PRIVATE;
        let all = flags | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", all).unwrap();
        let room = std::ffi::CString::new("size=64k,nr_inodes=4").unwrap();
        let none = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &at, "tmpfs", none, room.as_c_str()).unwrap();
        Trials::needs(&at, &[Need::Layers])
    });
    let trials = thread.join().unwrap();
    let outcome = trials.outcome("overlayfs").unwrap();
    assert!(outcome.not_now().is_some(), "{outcome:?}");
}

#[test]
fn a_folder_of_one_that_was_killed_goes() {
    let state = tempfile::tempdir().unwrap();
    // No process has a number beyond the kernel's largest (PID_MAX_LIMIT).
    let left = [
        ".coracle-check-layers-4194305",
        ".coracle-check-users-4194305",
    ];
    let others = [".coracle-check-layers-1", "layers", ".coracle-check-"];
    for name in left.iter().chain(&others) {
        fs::create_dir_all(state.path().join(name).join("work/work")).unwrap();
    }
    remove_left(state.path());
    assert!(left.iter().all(|name| !state.path().join(name).exists()));
    assert!(others.iter().all(|name| state.path().join(name).exists()));
}

#[test]
fn overlayfs_is_tried_where_the_state_lies() {
    root_needed();
    // procfs takes no files: whatever /proc/filesystems says, layers cannot lie there.
    let trials = Trials::run(Path::new("/proc"), None);
    assert!(
        matches!(trials.outcome("overlayfs"), Some(Outcome::Fails(_))),
        "{:?}",
        trials.outcome("overlayfs")
    );
}

/// A v2 hierarchy that is a plain folder: the cgroups in it have no files at all.
fn fake() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    fs::create_dir_all(at("proc/self")).unwrap();
    fs::create_dir_all(at("sys/fs/cgroup")).unwrap();
    let mount = "28 22 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    fs::write(at("proc/self/mountinfo"), mount).unwrap();
    let all = "cpuset cpu io memory pids\n";
    fs::write(at("sys/fs/cgroup/cgroup.subtree_control"), all).unwrap();
    root
}

#[test]
fn a_controller_without_the_file_that_a_limit_needs_is_found_out() {
    let root = fake();
    let mut trials = Trials::default();
    limits::run(root.path(), None, &mut trials);
    // A folder that is no cgroup has no cpu.max: as a kernel without CONFIG_CFS_BANDWIDTH.
    assert_eq!(
        trials.outcome("CPU quota"),
        Some(&Outcome::Fails(cut("cpu.max is not there")))
    );
    assert_eq!(
        fs::read_dir(root.path().join("sys/fs/cgroup"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn without_a_hierarchy_no_limit_works() {
    let root = tempfile::tempdir().unwrap();
    let mut trials = Trials::default();
    limits::run(root.path(), None, &mut trials);
    assert!(
        trials
            .iter()
            .all(|t| matches!(t.outcome, Outcome::Fails(_)))
    );
    assert_eq!(trials.iter().count(), 12);
}

#[test]
fn project_quotas_are_those_of_the_mount_that_holds_the_state_folder() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("proc/self")).unwrap();
    let mounts = "20 1 8:1 / / rw - ext4 /dev/root rw,prjquota\n\
        21 20 8:2 / /nowhere/var rw - ext4 /dev/sda2 rw\n\
        22 20 8:3 / /nowhere/var/lib/coracle rw - xfs /dev/sda3 rw,pquota\n";
    fs::write(root.path().join("proc/self/mountinfo"), mounts).unwrap();
    let of = |state: &str| storage::project_quota(root.path(), Path::new(state));
    assert_eq!(of("/nowhere/else"), Outcome::Works);
    assert_eq!(
        of("/nowhere/var/lib"),
        Outcome::Fails(cut("ext4 is mounted without prjquota"))
    );
    assert_eq!(of("/nowhere/var/lib/coracle/layers"), Outcome::Works);
    assert_eq!(storage::noise(), Outcome::Works);
}

#[test]
fn a_refusal_for_want_of_rights_is_no_finding() {
    let mut trials = Trials::default();
    trials.note_result("x", Err(io::Error::from_raw_os_error(libc::EPERM)));
    trials.note_result("y", Err(io::Error::from_raw_os_error(libc::EINVAL)));
    assert!(matches!(trials.outcome("x"), Some(Outcome::NotTried(_))));
    assert!(matches!(trials.outcome("y"), Some(Outcome::Fails(_))));
}

proptest! {
    #[test]
    fn any_netlink_answer_ends(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = netlink::acknowledged(&bytes);
    }
}

#[test]
fn an_image_takes_a_loop_device_and_ext4() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("proc")).unwrap();
    fs::create_dir_all(root.path().join("dev")).unwrap();
    let fails = || matches!(storage::image(root.path()), Outcome::Fails(_));
    assert!(fails());
    fs::write(
        root.path().join("proc/filesystems"),
        "nodev\tproc\n\text4\n",
    )
    .unwrap();
    assert!(fails());
    fs::write(root.path().join("dev/loop-control"), "").unwrap();
    assert_eq!(storage::image(root.path()), Outcome::Works);
    fs::write(root.path().join("proc/filesystems"), "nodev\text4dev\n").unwrap();
    assert!(fails());
}
