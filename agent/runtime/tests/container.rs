//! Containers on this machine's kernel. Needs root and busybox-static.

#[macro_use]
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use coracle_runtime::Stdio;
use coracle_runtime::cgroup::{DeviceRule, Devices};
use coracle_runtime::spec::{DeviceKind, DeviceNode, Rlimit};
use coracle_runtime::{
    Capability, ExecSpec, Exit, JailSpec, LaunchSpec, Limits, Mount, NetNs, Rootfs, SeccompProgram,
    Step, exec_in, prepare, reap, spawn_jailed, spawn_plain,
};
use support::{Place, launch};

fn main() -> std::process::ExitCode {
    support::run(tests![
        a_program_runs_and_its_exit_is_told,
        processes_and_mounts_are_its_own,
        the_process_is_confined,
        a_user_has_no_capabilities_but_ambient_ones,
        seccomp_answers_for_forbidden_calls,
        paths_are_masked_and_readonly,
        a_readonly_root_is_readonly_and_volumes_are_not,
        volumes_follow_links_only_inside,
        proc_cannot_be_mounted_on,
        a_memory_hog_is_killed,
        a_fork_bomb_meets_the_pids_limit,
        devices_need_node_and_rule,
        cpu_quota_holds,
        limits_change_while_it_runs,
        freezing_stops_and_thawing_goes_on,
        a_limit_that_cannot_be_held_is_an_error,
        hostile_images_reach_nothing_outside,
        failures_tell_their_step,
        exec_joins_everything,
        a_failed_exec_leaves_the_container_alone,
        networks_are_new_host_or_shared,
        a_container_can_be_given_up_before_its_start,
        a_terminal_is_the_controlling_one,
        version_two_starts_inside_filters_devices_and_kills,
        old_kernels_are_served_too,
        nothing_is_left,
    ])
}

fn a_program_runs_and_its_exit_is_told() {
    let place = Place::new();
    let outcome = place.shell("echo pid $$; hostname; pwd; exit 7");
    assert_eq!(outcome.output, "pid 1\ntest\n/\n");
    assert_eq!(outcome.exit, Exit::Code(7));

    let mut spec = place.spec("echo $A; pwd; id -u; id -G; stat -c %a /proc/self/fd/0 >/dev/null; ls /proc/self/fd | wc -l");
    spec.env.push("A=b c".into());
    spec.cwd = "/made/for/it".into();
    (spec.uid, spec.gid, spec.additional_gids) = (1000, 1001, vec![20, 21]);
    // 0, 1, 2 and the one that ls opens: nothing of the supervisor's.
    assert_eq!(
        launch(spec).unwrap().output,
        "b c\n/made/for/it\n1000\n1001 20 21\n4\n"
    );

    let killed = place.shell("kill -9 $$; kill -TERM $$; sh -c 'kill -34 $$' 2>/dev/null; echo $?");
    assert_eq!(
        killed.output, "162\n",
        "pid 1 is immune to its own signals, its children are not"
    );
}

fn processes_and_mounts_are_its_own() {
    let place = Place::new();
    let outcome = place.shell("echo $(ls /proc | grep -c '^[0-9]'); grep -c . /proc/self/mountinfo; cat /proc/self/mountinfo");
    let mut lines = outcome.output.lines();
    let processes: usize = lines.next().unwrap().parse().unwrap();
    assert!(processes <= 5, "{}", outcome.output);
    assert!(!outcome.output.contains(" shared:"), "{}", outcome.output);
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !host.contains(place.path("merged").to_str().unwrap()),
        "the overlay must not be seen outside"
    );

    // The cgroup namespace begins at the container's own cgroup.
    let cgroups = place.shell("cat /proc/self/cgroup").output;
    assert!(
        cgroups
            .lines()
            .any(|line| line.ends_with(":memory:/") || line == "0::/"),
        "{cgroups}"
    );
    assert!(!cgroups.contains("coracle-test-runtime"), "{cgroups}");
    let limit = place
        .shell("ls /sys/fs/cgroup/ && mkdir /sys/fs/cgroup/memory/x")
        .output;
    assert!(limit.contains("Read-only file system"), "{limit}");
}

fn the_process_is_confined() {
    let place = Place::new();
    let status = |spec: LaunchSpec<'_>| launch(spec).unwrap().output;
    let script = "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status";
    let default = status(place.spec(script));
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(default.contains(line), "{line} is missing in\n{default}");
    }

    let mut spec = place.spec(script);
    spec.capabilities = spec.capabilities.without(Capability::NET_RAW);
    assert!(status(spec).contains("CapBnd:\t00000000a80405fb"));

    let mut spec = place.spec(script);
    spec.no_new_privs = false;
    let without = status(spec);
    assert!(
        without.contains("NoNewPrivs:\t0") && without.contains("Seccomp:\t2"),
        "{without}"
    );

    let mut spec =
        place.spec("grep 'Max open files' /proc/self/limits; cat /proc/self/oom_score_adj");
    spec.rlimits.push(Rlimit {
        resource: libc::RLIMIT_NOFILE,
        soft: 77,
        hard: 88,
    });
    spec.oom_score_adj = Some(321);
    let limits = status(spec);
    assert!(
        limits.contains("77") && limits.contains("88") && limits.contains("321"),
        "{limits}"
    );
}

fn a_user_has_no_capabilities_but_ambient_ones() {
    let place = Place::new();
    let script = "grep -E 'CapEff|CapAmb' /proc/self/status";
    let as_user = |ambient| {
        let mut spec = place.spec(script);
        (spec.uid, spec.gid) = (1000, 1000);
        if ambient {
            spec.capabilities = spec.capabilities.ambient(Capability::NET_BIND_SERVICE);
        }
        launch(spec).unwrap().output
    };
    assert_eq!(
        as_user(false),
        "CapEff:\t0000000000000000\nCapAmb:\t0000000000000000\n"
    );
    assert_eq!(
        as_user(true),
        "CapEff:\t0000000000000400\nCapAmb:\t0000000000000400\n"
    );
}

fn seccomp_answers_for_forbidden_calls() {
    let place = Place::new();
    let confined = place.shell("unshare -U true; echo $?");
    assert!(
        confined.output.contains("Operation not permitted"),
        "{}",
        confined.output
    );
    let mut spec = place.spec("unshare -U true; echo $?");
    spec.seccomp = None;
    assert_eq!(
        launch(spec).unwrap().output,
        "0\n",
        "it is seccomp that forbids it"
    );
}

fn paths_are_masked_and_readonly() {
    let place = Place::new();
    let output = place.shell(
        "cat /proc/keys | wc -c; cat /proc/timer_list | wc -c; ls /sys/firmware | wc -l; \
         echo 1 > /proc/sys/kernel/panic; touch /sys/x; touch /proc/x",
    );
    let lines: Vec<&str> = output.output.lines().collect();
    assert_eq!(lines[..3], ["0", "0", "0"], "{}", output.output);
    assert_eq!(
        output.output.matches("Read-only file system").count(),
        2,
        "{}",
        output.output
    );
}

fn a_readonly_root_is_readonly_and_volumes_are_not() {
    let place = Place::new();
    let volume = place.path("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(place.path("file"), "one file\n").unwrap();
    let mut spec = place.spec(
        "touch /x; touch /data/written; touch /fixed/x; cat /etc/deep/file; touch /run/t && echo tmpfs; \
         echo hi > /dev/null && echo null; ls -l /dev/ptmx /dev/fd >/dev/null && echo links",
    );
    spec.rootfs_readonly = true;
    spec.mounts = vec![
        Mount::bind(&volume, "/data", false),
        Mount::bind(&volume, "/fixed", true),
        Mount::bind(place.path("file"), "/etc/deep/file", true),
        Mount::tmpfs("/run", Some(1 << 20)),
    ];
    let output = launch(spec).unwrap().output;
    assert_eq!(
        output.matches("Read-only file system").count(),
        2,
        "{output}"
    );
    assert!(
        output.ends_with("one file\ntmpfs\nnull\nlinks\n"),
        "{output}"
    );
    assert!(volume.join("written").exists());
}

fn volumes_follow_links_only_inside() {
    let place = Place::new();
    let (outside, volume) = (place.path("outside"), place.path("volume"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("here"), "").unwrap();
    let image = place.path("image");
    fs::create_dir_all(image.join("var/lib")).unwrap();
    symlink("/var/lib", image.join("good")).unwrap();
    symlink(&outside, image.join("bad")).unwrap();
    symlink("../../../../../../../../../../..", image.join("up")).unwrap();

    let mut spec = place.spec("ls /var/lib/data");
    spec.mounts = vec![Mount::bind(&volume, "/good/data", false)];
    assert_eq!(launch(spec).unwrap().output, "here\n");

    let mut spec = place.spec("true");
    spec.mounts = vec![Mount::bind(&volume, "/bad/data", false)];
    assert_eq!(
        launch(spec)
            .err()
            .expect("a dangling link is no target")
            .step,
        Step::Mount
    );
    let mut spec = place.spec("ls /tmp/data");
    spec.mounts = vec![Mount::bind(&volume, "/up/tmp/data", false)];
    assert_eq!(launch(spec).unwrap().output, "here\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

fn proc_cannot_be_mounted_on() {
    let place = Place::new();
    symlink("/proc/self", place.path("image/innocent")).unwrap();
    for target in ["/proc", "/proc/self/attr", "/innocent/fd", "/"] {
        let mut spec = place.spec("true");
        spec.mounts = vec![Mount::bind(place.path("upper"), target, false)];
        let failure = launch(spec)
            .err()
            .unwrap_or_else(|| panic!("{target} must be refused"));
        assert_eq!(failure.step, Step::Mount, "{failure}");
    }
}

fn a_memory_hog_is_killed() {
    let limits = Limits {
        memory_bytes: Some(16 << 20),
        ..Limits::default()
    };
    let place = Place::with(&limits);
    let outcome = place.shell("dd if=/dev/zero of=/dev/null bs=64M count=1");
    assert!(
        !outcome.exit.success(),
        "{:?} {}",
        outcome.exit,
        outcome.output
    );
    let stats = place.cgroup.stats().unwrap();
    assert_eq!(stats.oom_kills, Some(1));
    assert_eq!(stats.memory_limit_bytes, Some(16 << 20));
    assert!(stats.memory_peak_bytes.unwrap() > 15 << 20);
}

fn a_fork_bomb_meets_the_pids_limit() {
    let place = Place::with(&Limits {
        pids: Some(20),
        ..Limits::default()
    });
    let (output, stdio) = support::output_pipe();
    let mut spec = place.spec("(while :; do sleep 60 & done); exec sleep 60");
    spec.stdio = stdio;
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    drop(spec);
    let mut complaint = String::new();
    BufReader::new(output).read_line(&mut complaint).unwrap();
    assert!(complaint.contains("can't fork"), "{complaint}");
    let pids = place.cgroup.stats().unwrap().pids.unwrap();
    assert!((15..=20).contains(&pids), "{pids}");
    place.cgroup.kill_all().unwrap();
    assert_eq!(reap::wait(running.pid), Some(Exit::Signal(9)));
    place.cgroup.remove().unwrap();
}

fn devices_need_node_and_rule() {
    // /dev/mem's number stands for any device: it exists everywhere and must not be opened.
    let rules = |extra: &[DeviceRule]| {
        let mut rules = DeviceRule::DEFAULTS.to_vec();
        rules.extend_from_slice(extra);
        Limits {
            devices: Devices::Only(rules),
            ..Limits::default()
        }
    };
    let loop_control = DeviceNode {
        path: "/dev/sub/loop-control".into(),
        kind: DeviceKind::Char,
        major: 10,
        minor: 237,
        mode: 0o660,
        uid: 0,
        gid: 6,
    };
    let script = "mknod /dev/mem c 1 1 && echo made; head -c 1 /dev/mem; head -c 0 /dev/zero && echo zero; \
                  (: < /dev/sub/loop-control) && echo loop; stat -c '%a %g' /dev/sub/loop-control";
    let run = |limits: &Limits| {
        let place = Place::with(limits);
        let mut spec = place.spec(script);
        spec.devices.push(loop_control.clone());
        launch(spec).unwrap().output
    };
    let denied = run(&rules(&[]));
    assert!(
        denied.starts_with("made\nhead: /dev/mem: Operation not permitted\nzero\n"),
        "{denied}"
    );
    assert!(
        !denied.contains("\nloop\n") && denied.ends_with("660 6\n"),
        "{denied}"
    );
    let allowed = run(&rules(&[DeviceRule::char(10, Some(237))]));
    assert!(allowed.contains("\nloop\n"), "{allowed}");
}

fn cpu_quota_holds() {
    let place = Place::with(&Limits {
        cpu_millis: Some(100),
        cpu_weight: Some(50),
        ..Limits::default()
    });
    let (_output, stdio) = support::output_pipe();
    let mut spec = place.spec("while :; do :; done");
    spec.stdio = stdio;
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    std::thread::sleep(Duration::from_millis(1000));
    let used = place.cgroup.stats().unwrap().cpu_micros.unwrap();
    running.signal(libc::SIGKILL).unwrap();
    reap::wait(running.pid);
    // A tenth of a second, with a period's slack on either side.
    assert!((20_000..=250_000).contains(&used), "{used}");
}

fn limits_change_while_it_runs() {
    let memory = |megabytes: u64| Limits {
        memory_bytes: Some(megabytes << 20),
        ..Limits::default()
    };
    let place = Place::with(&memory(64));
    let (_output, stdio) = support::output_pipe();
    let mut spec = place.spec("sleep 60");
    spec.stdio = stdio;
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    for megabytes in [32, 128, 16] {
        place.cgroup.set_limits(&memory(megabytes)).unwrap();
        assert_eq!(
            place.cgroup.stats().unwrap().memory_limit_bytes,
            Some(megabytes << 20)
        );
    }
    running.signal(libc::SIGKILL).unwrap();
    reap::wait(running.pid);
}

fn freezing_stops_and_thawing_goes_on() {
    let place = Place::new();
    let (_output, stdio) = support::output_pipe();
    let mut spec = place.spec("while :; do :; done");
    spec.stdio = stdio;
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    let used_in = |pause: u64| {
        let before = place.cgroup.stats().unwrap().cpu_micros.unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        place.cgroup.stats().unwrap().cpu_micros.unwrap() - before
    };
    place.cgroup.freeze().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(used_in(200) < 5_000);
    place.cgroup.thaw().unwrap();
    assert!(used_in(300) > 20_000);
    place.cgroup.freeze().unwrap();
    place.cgroup.kill_all().unwrap();
    assert_eq!(
        reap::wait(running.pid),
        Some(Exit::Signal(9)),
        "killing works on a frozen one too"
    );
}

fn a_limit_that_cannot_be_held_is_an_error() {
    let place = Place::new();
    let nonsense = Limits {
        cpuset_cpus: Some("4000".into()),
        ..Limits::default()
    };
    assert!(place.tree.create("other", &nonsense).is_err());
    assert_eq!(
        place.tree.list(),
        ["container"],
        "what was made for it is gone again"
    );
    assert!(place.tree.open("../escape").is_err());
}

fn hostile_images_reach_nothing_outside() {
    for name in ["proc", "sys", "dev"] {
        let place = Place::new();
        let outside = place.path("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("null"), "untouched").unwrap();
        for link in [outside.to_str().unwrap(), "../outside", "/tmp", "."] {
            let _ = fs::remove_file(place.path("image").join(name));
            symlink(link, place.path("image").join(name)).unwrap();
            let failure = launch(place.spec("true"))
                .err()
                .unwrap_or_else(|| panic!("/{name} -> {link} must be refused"));
            assert!(
                matches!(failure.step, Step::Proc | Step::Sys | Step::Dev),
                "{failure}"
            );
            let mut spec = place.spec("true");
            spec.rootfs = Rootfs::Directory(place.path("image"));
            assert!(launch(spec).is_err());
        }
        assert_eq!(
            fs::read_to_string(outside.join("null")).unwrap(),
            "untouched"
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_dir(place.path("image/tmp")).unwrap().count(), 0);
        assert_eq!(reap::reap_all(), [], "failures leave no child to reap");
    }

    // /dev/shm, pts and the like as links lie in our own tmpfs and have no effect.
    let place = Place::new();
    fs::create_dir_all(place.path("image/dev")).unwrap();
    symlink("/etc", place.path("image/dev/shm")).unwrap();
    assert_eq!(
        place
            .shell("touch /dev/shm/x; ls /etc 2>/dev/null | wc -l")
            .output,
        "0\n"
    );
}

fn failures_tell_their_step() {
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

fn exec_joins_everything() {
    let place = Place::new();
    let (_output, stdio) = support::output_pipe();
    let mut spec = place.spec("echo secret > /tmp/inside; exec sleep 60");
    spec.stdio = stdio;
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    let exec = |script: &str, uid| {
        let (output, stdio) = support::output_pipe();
        let args = vec!["sh".into(), "-c".into(), script.into()];
        let mut exec = ExecSpec::like(&spec, running.pid, running.pidfd.as_fd(), args, stdio);
        exec.uid = uid;
        let executed = exec_in(&exec).unwrap();
        drop(exec);
        let output = support::read(output);
        (output, reap::wait(executed.pid).unwrap())
    };
    std::thread::sleep(Duration::from_millis(100));
    let (output, exit) = exec("cat /tmp/inside; hostname; id -u; exit 3", 0);
    assert_eq!(
        (output.as_str(), exit),
        ("secret\ntest\n0\n", Exit::Code(3))
    );
    let (status, _) = exec(
        "grep -E 'CapBnd|CapEff|NoNewPrivs|Seccomp:' /proc/self/status; cat /proc/self/cgroup",
        1000,
    );
    for line in [
        "CapEff:\t0000000000000000",
        "CapBnd:\t00000000a80425fb",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line} is missing in\n{status}");
    }
    assert!(!status.contains("coracle-test"), "{status}");
    let namespaces = "for n in ipc uts net pid mnt cgroup; do stat -L -c %i /proc/self/ns/$n; done";
    let (own, _) = exec(namespaces, 0);
    let expected: String = ["ipc", "uts", "net", "pid", "mnt", "cgroup"]
        .iter()
        .map(|name| {
            let link = fs::read_link(format!("/proc/{}/ns/{name}", running.pid)).unwrap();
            let text = link.to_str().unwrap().to_owned();
            format!("{}\n", text.split(['[', ']']).nth(1).unwrap())
        })
        .collect();
    assert_eq!(own, expected);

    running.signal(libc::SIGKILL).unwrap();
    reap::wait(running.pid);
}

fn a_failed_exec_leaves_the_container_alone() {
    let place = Place::new();
    let (_output, stdio) = support::output_pipe();
    let mut spec = place.spec("exec sleep 60");
    spec.stdio = stdio;
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    let args = vec!["/bin/nothing".into()];
    let (_output, stdio) = support::output_pipe();
    let exec = ExecSpec::like(&spec, running.pid, running.pidfd.as_fd(), args, stdio);
    let failure = exec_in(&exec).unwrap_err();
    assert_eq!((failure.step, failure.errno), (Step::Exec, libc::ENOENT));
    assert_eq!(
        reap::reap_all(),
        [],
        "the container runs, and nothing else is left"
    );
    assert_eq!(place.cgroup.processes().unwrap(), [running.pid]);

    running.signal(libc::SIGKILL).unwrap();
    reap::wait(running.pid);
    let failure = exec_in(&exec).unwrap_err();
    assert_eq!(failure.step, Step::Namespace, "{failure}");
    assert_eq!(reap::reap_all(), []);
}

fn networks_are_new_host_or_shared() {
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
        (inside != host && links.lines().count() == 3)
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

fn a_container_can_be_given_up_before_its_start() {
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

fn a_terminal_is_the_controlling_one() {
    let place = Place::new();
    let pair = nix::pty::openpty(None, None).unwrap();
    let mut spec = place.spec("test -t 0 && echo hello > /dev/tty; stat -c %F /dev/console");
    spec.stdio = Stdio {
        stdin: pair.slave.try_clone().unwrap(),
        stdout: pair.slave.try_clone().unwrap(),
        stderr: pair.slave,
        terminal: true,
    };
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    assert_eq!(reap::wait(running.pid), Some(Exit::Code(0)));
    let mut said = [0; 200];
    let length = std::io::Read::read(&mut fs::File::from(pair.master), &mut said).unwrap();
    let said = String::from_utf8_lossy(&said[..length]);
    assert!(said.starts_with("hello\r\n"), "{said}");
}

/// CLONE_INTO_CGROUP, the eBPF device program, cgroup.freeze and cgroup.kill, on this kernel's v2 tree.
fn version_two_starts_inside_filters_devices_and_kills() {
    let only = |rules: &[DeviceRule]| Limits {
        devices: Devices::Only(rules.to_vec()),
        ..Limits::default()
    };
    let place = Place::unified(&only(&DeviceRule::DEFAULTS));
    let script = "cat /proc/self/cgroup | grep ^0::; head -c 0 /dev/zero && echo zero; mknod /tmp/mem c 1 1; \
                  head -c 1 /tmp/mem; ls /sys/fs/cgroup/cgroup.procs; echo 1 > /sys/fs/cgroup/cgroup.freeze";
    let output = place.shell(script).output;
    for part in [
        "0::/\nzero\n",
        "/tmp/mem: Operation not permitted",
        "/sys/fs/cgroup/cgroup.procs",
        "Read-only",
    ] {
        assert!(output.contains(part), "{part} is missing in\n{output}");
    }
    // New rules replace the old ones.
    place.cgroup.set_limits(&only(&[])).unwrap();
    let (output, stdio) = support::output_pipe();
    let mut spec = place.spec("true");
    spec.stdio = stdio;
    let failure = prepare(&spec, &|| Ok(())).unwrap().start().unwrap_err();
    assert_eq!(
        (failure.step, failure.errno),
        (Step::Dev, libc::EPERM),
        "{failure}"
    );
    drop((spec, output));
    place
        .cgroup
        .set_limits(&only(&DeviceRule::DEFAULTS))
        .unwrap();

    let (_output, stdio) = support::output_pipe();
    let mut spec = place.spec("while :; do :; done");
    spec.stdio = stdio;
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    assert_eq!(place.cgroup.processes().unwrap(), [running.pid]);
    place.cgroup.freeze().unwrap();
    place.cgroup.kill_all().unwrap();
    assert_eq!(reap::wait(running.pid), Some(Exit::Signal(9)));
    assert!(
        place
            .tree
            .create(
                "x",
                &Limits {
                    pids: Some(5),
                    ..Limits::default()
                }
            )
            .is_err(),
        "no pids controller here"
    );
    assert_eq!(place.tree.list(), ["container"]);
}

/// Newer system calls answer ENOSYS, as on 4.19: the launch must take its older ways.
fn old_kernels_are_served_too() {
    let place = Place::new();
    let (volume, outside) = (place.path("volume"), place.path("outside"));
    fs::create_dir(&volume).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(volume.join("here"), "").unwrap();
    symlink("/tmp", place.path("image/link")).unwrap();
    symlink(&outside, place.path("image/bad")).unwrap();
    let newer = [
        libc::SYS_clone3,
        libc::SYS_openat2,
        libc::SYS_close_range,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_mount_setattr,
        libc::SYS_faccessat2,
        libc::SYS_statx,
    ];
    let old = SeccompProgram::deny(&newer, libc::ENOSYS).unwrap();
    let body = || -> Result<(), String> {
        let mut spec = place.spec("ls /link/data; hostname");
        spec.mounts = vec![Mount::bind(&volume, "/link/data", true)];
        let output = launch(spec).map_err(|failure| failure.to_string())?.output;
        if output != "here\ntest\n" {
            return Err(output);
        }
        let mut spec = place.spec("true");
        spec.mounts = vec![Mount::bind(&volume, "/bad/data", true)];
        match launch(spec) {
            Err(failure) if failure.step == Step::Mount => Ok(()),
            Err(failure) => Err(failure.to_string()),
            Ok(_) => Err("the link was followed".into()),
        }
    };
    let child = spawn_plain(Vec::new(), |_| {
        coracle_runtime::jail::confine_self(&old).expect("a filter");
        match body() {
            Ok(()) => 0,
            Err(reason) => {
                eprintln!("{reason}");
                1
            }
        }
    });
    assert_eq!(child.unwrap().wait(), Some(Exit::Code(0)));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

fn nothing_is_left() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let name = format!("coracle-test-runtime-{}", std::process::id());
    {
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
    }
    assert_eq!(mounts(), before);
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
        let left = hierarchy.unwrap().path().join(Path::new(&name));
        assert!(!left.exists(), "{}", left.display());
    }
    assert_eq!(reap::reap_all(), []);
}
