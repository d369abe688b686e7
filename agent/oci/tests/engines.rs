//! Real engines with `coracle-runtime`, as their users drive them. Each has mounts, processes and a network of its own, folders
//! and a cgroup that go with it, and an image of busybox that no registry has. Needs root, busybox-static, podman, docker.io
//! (with containerd) and util-linux; checkpoints need CRIU on a kernel that it knows.

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use support::criu::cannot;
use support::engine::{Engine, IMAGE};
use support::room::{Room, wait_until};
use support::{not_here, runtime, said};

#[test]
fn podman_drives_it() {
    let engine = Engine::podman();
    codes_are_the_programs(&engine);
    // Of another package, which need not be there.
    init_is_the_first(&engine, &["--init", "--init-path", "/usr/bin/docker-init"]);
    a_service_lives(&engine);
    ends_are_told(&engine);
    streams_can_be_joined(&engine);
    nothing_stays(&engine);
}

#[test]
fn dockerd_drives_it() {
    let engine = Engine::dockerd();
    codes_are_the_programs(&engine);
    init_is_the_first(&engine, &["--init"]);
    a_service_lives(&engine);
    ends_are_told(&engine);
    streams_can_be_joined(&engine);
    a_port_leads_in(&engine);
    nothing_stays(&engine);
}

/// It goes on where it was, in the same container and, from a file, in another. Where CRIU does not know the kernel, the
/// engine is told so, and the container goes on.
#[test]
fn podman_checkpoints_and_restores() {
    const SCRIPT: &str = "i=0; while :; do i=$((i+1)); echo $i > /data/count; sleep 0.05; done";
    let engine = Engine::podman();
    let data = engine.room.volume("data");
    let count = || -> u32 {
        let text = fs::read_to_string(data.join("count")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    let goes_on = || {
        let before = count();
        wait_until("it to go on", || count() > before);
    };
    let there = format!("{}:/data", data.display());
    let options = ["run", "-d", "--name", "kept", "-v", &there, "-m", "64m"];
    let id = engine.ok(&[&options[..], &[IMAGE, "/bin/sh", "-c", SCRIPT]].concat());
    wait_until("it to count", || count() > 20);
    let said = engine.run(&["container", "checkpoint", "kept"]);
    if let Some(why) = cannot() {
        assert_ne!(said.code, 0, "{said:?}");
        assert_eq!(engine.status("kept"), "running");
        goes_on();
        engine.ends("kept");
        nothing_stays(&engine);
        let reason = format!("criu check says {why:?}; what is tested is that it is told");
        return not_here("podman_checkpoints_and_restores", &reason);
    }
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(engine.status("kept"), "exited");
    assert_eq!(engine.room.groups_of(&id), Vec::<PathBuf>::new());
    let before = count();
    engine.ok(&["container", "restore", "kept"]);
    assert!(count() >= before, "it has begun anew");
    goes_on();
    let limit = |id: &str| engine.room.limit(id, "memory.limit_in_bytes", "memory.max");
    assert_eq!(limit(&id), "67108864");
    assert_eq!(engine.ok(&["exec", "kept", "/bin/echo", "in"]), "in");

    let file = engine.room.path("checkpoint.tar");
    let file = file.to_str().expect("text");
    engine.ok(&["container", "checkpoint", "--export", file, "kept"]);
    engine.ok(&["rm", "kept"]);
    let before = count();
    let id = engine.ok(&["container", "restore", "--import", file, "--name", "moved"]);
    assert!(count() >= before, "it has begun anew");
    goes_on();
    assert_eq!(limit(&id), "67108864");
    engine.ends("moved");
    nothing_stays(&engine);
}

fn codes_are_the_programs(engine: &Engine) {
    let said = engine.run(&[
        "run",
        "--rm",
        IMAGE,
        "/bin/sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ]);
    assert_eq!((said.code, said.out.as_str()), (7, "out\n"), "{said:?}");
    assert!(said.err.contains("err\n"), "{said:?}");
    assert_eq!(engine.code(&[IMAGE, "/bin/nothing"]), 127);
    assert_eq!(engine.code(&[IMAGE, "/etc/plain"]), 126);
    // Killed: the program, by the kernel, for its memory.
    let hog = [
        "/bin/dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=64M",
        "count=1",
    ];
    let limits = ["-m", "16m", "--memory-swap", "16m", IMAGE];
    assert_eq!(engine.code(&[&limits[..], &hog].concat()), 137);

    let said = engine.fed("word\n", &["run", "--rm", "-i", IMAGE, "/bin/cat"]);
    assert_eq!((said.code, said.out.as_str()), (0, "word\n"), "{said:?}");
    let said = engine.ok(&["run", "--rm", "-t", IMAGE, "/bin/tty"]);
    assert_eq!(said.trim_end(), "/dev/pts/0");

    let show = "grep -E '^(CapEff|Seccomp):' /proc/self/status";
    let confined = |more: &[&str]| {
        let args = [&["run", "--rm"], more, &[IMAGE, "/bin/sh", "-c", show]].concat();
        engine.ok(&args).replace('\t', " ")
    };
    assert_eq!(
        confined(&["--cap-drop", "ALL"]),
        "CapEff: 0000000000000000\nSeccomp: 2"
    );
    assert!(confined(&["--privileged"]).ends_with("Seccomp: 0"));
}

fn init_is_the_first(engine: &Engine, options: &[&str]) {
    let script = "grep -q '^Name:.*sh$' /proc/1/status || echo another; exit 9";
    let said = engine.run(&[&["run", "--rm"], options, &[IMAGE, "/bin/sh", "-c", script]].concat());
    assert_eq!((said.code, said.out.as_str()), (9, "another\n"), "{said:?}");
}

/// What one container is asked for while it runs.
fn a_service_lives(engine: &Engine) {
    const SCRIPT: &str =
        "trap 'echo told' USR1; trap 'echo leaving; exit 3' TERM; echo ready; echo aside >&2
        i=0; while :; do i=$((i+1)); echo $i > /data/count; sleep 0.05; done";
    let (data, shared) = (engine.room.volume("data"), engine.room.volume("shared"));
    let data_there = format!("{}:/data", data.display());
    let shared_there = format!("{}:/shared:ro", shared.display());
    let options = [
        "run",
        "-d",
        "--name",
        "one",
        "-u",
        "1000:1000",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "-v",
        &data_there,
        "-v",
        &shared_there,
        "-m",
        "64m",
        "--pids-limit",
        "40",
        "--cpu-period",
        "100000",
        "--cpu-quota",
        "50000",
    ];
    let id = engine.ok(&[&options[..], &[IMAGE, "/bin/sh", "-c", SCRIPT]].concat());
    let limit = |v1: &str, v2: &str| engine.room.limit(&id, v1, v2);
    engine.wait_for_log("one", "ready");
    engine.wait_for_log("one", "aside");
    assert_eq!(engine.status("one"), "running");
    assert_eq!(limit("memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(limit("pids.max", "pids.max"), "40");
    assert!(["50000", "50000 100000"].contains(&limit("cpu.cfs_quota_us", "cpu.max").as_str()));

    let exec = |args: &[&str]| engine.run(&[&["exec"], args].concat());
    let says = |args: &[&str]| {
        let said = exec(args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said.out.trim_end().to_owned()
    };
    assert_eq!(says(&["one", "/bin/id", "-u"]), "1000");
    assert_eq!(says(&["-u", "0", "one", "/bin/id", "-u"]), "0");
    let said = exec(&[
        "-e",
        "A=b",
        "-w",
        "/data",
        "one",
        "/bin/sh",
        "-c",
        "echo $A; pwd; exit 5",
    ]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (5, "b\n/data\n"),
        "{said:?}"
    );
    let said = exec(&["one", "/bin/nothing"]);
    assert!(engine.missing.contains(&said.code), "{said:?}");
    assert_eq!(exec(&["one", "/etc/plain"]).code, 126);
    let said = engine.fed("word\n", &["exec", "-i", "one", "/bin/cat"]);
    assert_eq!((said.code, said.out.as_str()), (0, "word\n"), "{said:?}");
    assert!(says(&["-t", "one", "/bin/tty"]).starts_with("/dev/pts/"));
    says(&["-d", "one", "/bin/touch", "/data/left"]);
    wait_until("what nobody waits for", || data.join("left").exists());
    assert_eq!(
        says(&["one", "/bin/grep", "Seccomp:", "/proc/self/status"]),
        "Seccomp:\t2"
    );
    // An engine that finds AppArmor has the runtime confine by it: on virtual boards with a Debian.
    if Path::new("/sys/kernel/security/apparmor").exists() {
        let label = says(&["one", "/bin/cat", "/proc/self/attr/current"]);
        assert!(label.ends_with(" (enforce)"), "{label}");
    }
    for folder in ["/", "/shared/"] {
        let said = exec(&["-u", "0", "one", "/bin/touch", &format!("{folder}new")]);
        assert!(said.code == 1 && said.err.contains("Read-only"), "{said:?}");
    }

    assert!(engine.ok(&["top", "one"]).contains("sh"));
    let stats = engine.ok(&[
        "stats",
        "--no-stream",
        "--format",
        "{{.MemUsage}} {{.PIDs}}",
        "one",
    ]);
    assert!(
        stats.contains("64MiB") || stats.contains("67.11MB"),
        "{stats}"
    );
    let update = ["update", "-m", "96m", "--cpu-quota", "30000"];
    engine.ok(&[&update[..], engine.updates, &["one"]].concat());
    assert_eq!(limit("memory.limit_in_bytes", "memory.max"), "100663296");
    assert!(["30000", "30000 100000"].contains(&limit("cpu.cfs_quota_us", "cpu.max").as_str()));
    let pids = if engine.updates.is_empty() {
        "40"
    } else {
        "50"
    };
    assert_eq!(limit("pids.max", "pids.max"), pids);

    let count = || -> u64 {
        let text = fs::read_to_string(data.join("count")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    engine.ok(&["pause", "one"]);
    assert_eq!(engine.status("one"), "paused");
    let before = count();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(count(), before);
    assert_ne!(exec(&["one", "/bin/true"]).code, 0);
    engine.ok(&["unpause", "one"]);
    assert_eq!(engine.status("one"), "running");
    wait_until("it to go on", || count() > before);

    engine.ok(&["kill", "-s", "USR1", "one"]);
    engine.wait_for_log("one", "told");
    engine.ok(&["stop", "-t", "30", "one"]);
    assert_eq!(engine.ended("one"), "3");
    engine.wait_for_log("one", "leaving");
    assert_eq!(engine.room.groups_of(&id), Vec::<PathBuf>::new());
    engine.ok(&["start", "one"]);
    assert_eq!(engine.status("one"), "running");
    engine.ok(&["kill", "one"]);
    assert_eq!(engine.ok(&["wait", "one"]), "137");
    engine.ok(&["rm", "one"]);
}

/// Who does not listen is killed, and started anew where that is asked for.
fn ends_are_told(engine: &Engine) {
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    engine.ok(&["run", "-d", "--name", "deaf", IMAGE, "/bin/sh", "-c", deaf]);
    engine.wait_for_log("deaf", "ready");
    engine.ok(&["stop", "-t", "1", "deaf"]);
    assert_eq!(engine.ended("deaf"), "137");
    engine.ok(&["rm", "deaf"]);

    let data = engine.room.volume("ends");
    let there = format!("{}:/data", data.display());
    let again = "echo x >> /data/starts; exit 4";
    let restart = [
        "run",
        "-d",
        "--name",
        "again",
        "-v",
        &there,
        "--restart",
        "on-failure:2",
    ];
    engine.ok(&[&restart[..], &[IMAGE, "/bin/sh", "-c", again]].concat());
    wait_until("three starts", || {
        fs::read_to_string(data.join("starts")).is_ok_and(|text| text.lines().count() == 3)
    });
    assert_eq!(engine.ended("again"), "4");
    engine.ok(&["rm", "again"]);
}

fn streams_can_be_joined(engine: &Engine) {
    let script = "echo ready; read line; echo got $line; exit 6";
    engine.ok(&[
        "run", "-d", "-i", "--name", "talk", IMAGE, "/bin/sh", "-c", script,
    ]);
    engine.wait_for_log("talk", "ready");
    let mut attached = engine
        .command(&["attach", "talk"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nsenter");
    let mut stdin = attached.stdin.take().expect("a pipe");
    stdin.write_all(b"word\n").expect("a reader");
    let said = said(attached.wait_with_output().expect("nsenter"));
    drop(stdin);
    assert!(said.out.starts_with("got word\n"), "{said:?}");
    assert!(said.code == 6 || !engine.attach_tells, "{said:?}");
    assert_eq!(engine.ended("talk"), "6");
    engine.ok(&["rm", "talk"]);

    // Another joins its processes and its memory.
    let shares = ["run", "-d", "--name", "first", "--ipc", "shareable"];
    engine.ok(&[&shares[..], &[IMAGE, "/bin/sleep", "100"]].concat());
    let joined = [
        "run",
        "--rm",
        "--pid",
        "container:first",
        "--ipc",
        "container:first",
        IMAGE,
    ];
    let list = ["/bin/sh", "-c", "cat /proc/1/cmdline"];
    let said = engine.ok(&[&joined[..], &list].concat());
    assert!(said.contains("sleep"), "{said}");
    engine.ends("first");
}

fn a_port_leads_in(engine: &Engine) {
    let serve = ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/etc"];
    let options = ["run", "-d", "--name", "web", "-p", "8080:80", IMAGE];
    engine.ok(&[&options[..], &serve].concat());
    let fetch = ["wget", "-q", "-O", "-", "http://127.0.0.1:8080/plain"];
    wait_until("the port", || {
        let said = engine.room.run("busybox", &fetch);
        said.code == 0 && said.out == "plain"
    });
    engine.ends("web");
}

fn nothing_stays(engine: &Engine) {
    assert_eq!(engine.ok(&["ps", "-a", "-q"]), "");
    no_state_stays(&engine.room);
}

/// Of the containers that there were, wherever the engine has told the runtime to keep them.
fn no_state_stays(room: &Room) {
    let said = room.run("find", &["/run", "-name", "state.json"]);
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{said:?}");
}

#[test]
fn containerd_drives_it() {
    const SOCKET: &str = "/run/containerd/containerd.sock";
    let mut room = Room::new();
    let settings = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
    fs::write(room.path("containerd.toml"), settings).expect("a file");
    let mut daemon = room.command("containerd");
    daemon
        .arg("--config")
        .arg(room.path("containerd.toml"))
        .arg("--root")
        .arg(room.path("images"))
        .args(["--state", "/run/containerd", "--address", SOCKET]);
    room.start("containerd", daemon);
    // Its containers' cgroups are below one of the name of the namespace.
    let ctr = |args: &[&str]| {
        let of = ["--address", SOCKET, "--namespace", &room.group];
        room.run("ctr", &[&of[..], args].concat())
    };
    let ok = |args: &[&str]| {
        let said = ctr(args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said.out
    };
    wait_until("containerd", || ctr(&["version"]).code == 0);

    let (runtime, root) = (runtime(), room.root());
    let (runtime, root) = (
        runtime.to_str().expect("text"),
        root.to_str().expect("text"),
    );
    let by_us = [
        "--runtime",
        "io.containerd.runc.v2",
        "--runc-binary",
        runtime,
    ];
    let run = |options: &[&str], command: &[&str]| {
        let args = [&["run"], &by_us[..], options, &["--rootfs", root], command].concat();
        ctr(&args)
    };
    let said = run(&["--rm"], &["code", "/bin/sh", "-c", "echo out; exit 7"]);
    assert_eq!((said.code, said.out.as_str()), (7, "out\n"), "{said:?}");
    let said = run(&["--rm"], &["none", "/bin/nothing"]);
    assert!(
        said.code != 0 && said.err.contains("no such file"),
        "{said:?}"
    );
    let said = run(&["--rm"], &["plain", "/etc/plain"]);
    assert!(
        said.code != 0 && said.err.contains("ermission denied"),
        "{said:?}"
    );

    let data = room.volume("data");
    let mount = format!(
        "type=bind,src={},dst=/data,options=rbind:rw",
        data.display()
    );
    let log = room.path("one.log");
    let log_there = format!("file://{}", log.display());
    let options = [
        "-d",
        "--log-uri",
        &log_there,
        "--memory-limit",
        "67108864",
        "--read-only",
        "--seccomp",
        "--mount",
        &mount,
        "--env",
        "A=b",
    ];
    let script = "trap 'echo leaving; exit 3' TERM; echo ready $A
        i=0; while :; do i=$((i+1)); echo $i > /data/count; sleep 0.05; done";
    let said = run(&options, &["one", "/bin/sh", "-c", script]);
    assert_eq!(said.code, 0, "{said:?}");
    let logged =
        |line: &str| fs::read_to_string(&log).is_ok_and(|text| text.lines().any(|one| one == line));
    wait_until("its log", || logged("ready b"));
    assert_eq!(
        room.limit("one", "memory.limit_in_bytes", "memory.max"),
        "67108864"
    );
    let has_status = |status: &str| {
        let list = ok(&["task", "ls"]);
        list.lines()
            .any(|line| line.starts_with("one ") && line.contains(status))
    };
    assert!(has_status("RUNNING"));

    let exec = |id: &str, args: &[&str]| ctr(&[&["task", "exec", "--exec-id", id], args].concat());
    let said = exec("code", &["one", "/bin/sh", "-c", "echo in; exit 5"]);
    assert_eq!((said.code, said.out.as_str()), (5, "in\n"), "{said:?}");
    let said = exec("user", &["--user", "1000", "one", "/bin/id", "-u"]);
    assert_eq!((said.code, said.out.as_str()), (0, "1000\n"), "{said:?}");
    let said = exec(
        "filter",
        &["one", "/bin/grep", "Seccomp:", "/proc/self/status"],
    );
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, "Seccomp:\t2\n"),
        "{said:?}"
    );
    let said = exec("write", &["one", "/bin/touch", "/new"]);
    assert!(said.code == 1 && said.err.contains("Read-only"), "{said:?}");
    assert!(exec("none", &["one", "/bin/nothing"]).code != 0);
    assert!(ok(&["task", "ps", "one"]).lines().count() > 1);
    assert!(ok(&["task", "metrics", "one"]).contains("memory"));

    let count = || fs::read_to_string(data.join("count")).unwrap_or_default();
    ok(&["task", "pause", "one"]);
    assert!(has_status("PAUSED"));
    let before = count();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(count(), before);
    ok(&["task", "resume", "one"]);
    wait_until("it to go on", || count() != before);
    ok(&["task", "kill", "-s", "TERM", "one"]);
    wait_until("the end", || has_status("STOPPED"));
    assert!(logged("leaving"));
    // It ends with the program's code.
    ctr(&["task", "delete", "one"]);
    ok(&["container", "delete", "one"]);
    assert_eq!(room.groups_of("one"), Vec::<PathBuf>::new());
    no_state_stays(&room);
}
