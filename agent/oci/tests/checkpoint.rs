//! Containers that CRIU writes to images and makes again. Needs root and busybox-static, and CRIU on a kernel that it knows:
//! `CORACLE_CRIU` names another one than PATH has. Where `criu check` says no, these tests hold the refusal to its word
//! instead, and say so; a virtual board with `CORACLE_CRIU_WORKS` set has no such way out.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use serde_json::json;
use support::criu::{cannot, criu, dumpable};
use support::{Bundle, Said, cgroup, receive_descriptor, said, wait_until};

/// Counts in its memory, and tells.
const COUNTING: &str =
    "echo kept > /dev/shm/file; i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.1; done";

/// Without links, which CRIU would ask `ip` and `iptables-save` for, and without `iptables-restore`.
const NETWORK: [&str; 4] = ["--empty-ns", "network", "--network-lock", "nftables"];

/// On a kernel that CRIU does not know the container is refused, and goes on. True when there is no more to test then.
fn refused_here(bundle: &Bundle, id: &str) -> bool {
    let Some(why) = cannot() else { return false };
    println!("not here: criu check says {why:?}; what is tested is that a checkpoint is refused");
    let said = checkpoint(bundle, id, &[]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("CRIU"), "{}", said.err);
    assert_eq!(bundle.status(id), "running");
    true
}

fn with_criu(bundle: &Bundle, command: &str, id: &str, more: &[&str]) -> Command {
    let criu = criu();
    let mut args = vec!["--criu", criu.to_str().expect("a path"), command, id];
    args.extend(NETWORK);
    args.extend(more);
    bundle.command(&args)
}

fn checkpoint(bundle: &Bundle, id: &str, more: &[&str]) -> Said {
    let mut command = with_criu(bundle, "checkpoint", id, more);
    let said = said(command.output().expect("the runtime"));
    // Shown when the test fails: the folder goes with it.
    if let Some((_, log)) = said.err.trim().rsplit_once("its log is ") {
        let text = fs::read_to_string(bundle.path(log)).unwrap_or_default();
        let from = text.len().saturating_sub(4000);
        println!("{}", text.get(from..).unwrap_or_default());
    }
    said
}

fn restore(bundle: &Bundle, id: &str, more: &[&str]) {
    // What it gives to the container's streams would keep a pipe of ours open.
    let err = fs::File::create(bundle.path("restore.err")).expect("a file");
    let status = with_criu(bundle, "restore", id, more)
        .arg("--detach")
        .stdout(Stdio::null())
        .stderr(err)
        .status()
        .expect("the runtime");
    let err = fs::read_to_string(bundle.path("restore.err")).expect("text");
    assert!(status.success(), "{err}");
}

/// Created with streams that lead nowhere, and started.
fn start(bundle: &Bundle, id: &str) {
    bundle.save();
    let status = bundle
        .command(&["run", "--detach", id])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("the runtime").success());
}

fn count(bundle: &Bundle) -> u32 {
    let text = fs::read_to_string(bundle.root().join("count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

#[test]
fn a_container_goes_on_where_it_was() {
    let mut bundle = dumpable(COUNTING);
    fs::create_dir(bundle.path("volume")).unwrap();
    fs::write(bundle.path("volume/old"), "volume").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(
        json!({"destination": "/data", "type": "bind", "source": "volume", "options": ["rbind"]}),
    );
    fs::create_dir(bundle.path("inner")).unwrap();
    fs::write(bundle.path("inner/new"), "inside").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let options = ["bind"];
    mounts.push(
        json!({"destination": "/data/in/ner", "type": "bind", "source": "inner", "options": options}),
    );
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}});
    let hooks = bundle.path("hooks");
    let hook = |name: &str| {
        let script = format!("echo {name} >> {}", hooks.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    bundle.config["hooks"] = json!({"createRuntime": hook("create"), "poststop": hook("stop")});
    let id = bundle.id();
    start(&bundle, &id);
    wait_until("a count", || count(&bundle) > 2);
    if refused_here(&bundle, &id) {
        return;
    }
    let before = bundle.state(&id)["pid"].as_i64().unwrap();
    let images = bundle.path("images");
    let images = images.to_str().unwrap();

    let dumped = checkpoint(&bundle, &id, &["--image-path", images]);
    assert_eq!(dumped.code, 0, "{dumped:?}");
    assert!(bundle.path("images/dump.log").exists());
    let gone = bundle.refused(&["state", &id]);
    assert!(gone.contains("does not exist"), "{gone}");
    let at = count(&bundle);
    let own = cgroup(&format!("coracle-runtime-{id}"));
    assert!(!own.exists(), "its cgroup goes with it");
    // A place that was made for a mount, in the volume.
    fs::remove_dir(bundle.path("volume/in/ner")).unwrap();
    fs::remove_dir(bundle.path("volume/in")).unwrap();

    let more = [
        "--image-path",
        images,
        "--work-path",
        "work",
        "--pid-file",
        "pid",
    ];
    restore(&bundle, &id, &more);
    let state = bundle.state(&id);
    assert_eq!(state["status"], "running");
    let pid = state["pid"].as_i64().unwrap();
    assert_ne!(pid, before);
    assert_eq!(
        fs::read_to_string(bundle.path("pid")).unwrap(),
        pid.to_string()
    );
    wait_until("it to count on", || count(&bundle) > at);
    assert!(count(&bundle) >= at, "it has not begun again");

    let files = ["/dev/shm/file", "/data/old", "/data/in/ner/new"];
    let inside = bundle.ok(&[&["exec", id.as_str(), "/bin/cat"][..], &files].concat());
    assert_eq!(inside, "kept\nvolumeinside");
    let procs = fs::read_to_string(own.join("cgroup.procs")).unwrap();
    assert!(procs.lines().any(|line| line == pid.to_string()), "{procs}");
    let limit = ["memory.limit_in_bytes", "memory.max"]
        .iter()
        .find_map(|file| fs::read_to_string(own.join(file)).ok());
    assert_eq!(limit.unwrap().trim(), (64 << 20).to_string());
    assert!(bundle.path("work/restore.log").exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let states = bundle.path("states");
    assert!(
        !mounts.contains(states.to_str().unwrap()),
        "no mount is left"
    );

    bundle.ok(&["pause", &id]);
    bundle.ok(&["resume", &id]);
    bundle.ok(&["kill", &id, "KILL"]);
    bundle.wait_for(&id, "stopped");
    bundle.ok(&["delete", &id]);
    assert!(!own.exists());
    let hooks = fs::read_to_string(hooks).unwrap();
    assert_eq!(hooks, "create\nstop\ncreate\nstop\n");
}

#[test]
fn one_that_is_left_running_runs() {
    let mut bundle = dumpable(COUNTING);
    fs::write(bundle.path("criu.conf"), "log-file named.log\n").unwrap();
    let conf = json!(bundle.path("criu.conf"));
    bundle.config["annotations"] = json!({"org.criu.config": conf});
    let id = bundle.id();
    start(&bundle, &id);
    wait_until("a count", || count(&bundle) > 2);
    if refused_here(&bundle, &id) {
        return;
    }
    let pid = bundle.state(&id)["pid"].clone();
    let dumped = checkpoint(&bundle, &id, &["--leave-running"]);
    assert_eq!(dumped.code, 0, "{dumped:?}");
    assert!(bundle.path("checkpoint/inventory.img").exists());
    let log = bundle.path("checkpoint/named.log");
    assert!(log.exists(), "CRIU was told of its own options");
    let at = count(&bundle);
    assert_eq!(bundle.state(&id)["pid"], pid);
    wait_until("it to count on", || count(&bundle) > at);
}

#[test]
fn one_with_users_of_its_own_comes_back() {
    let mut bundle = dumpable(COUNTING);
    let chown = Command::new("/bin/busybox")
        .args(["chown", "-hR", "100000:100000"])
        .arg(bundle.root())
        .status();
    assert!(chown.unwrap().success());
    let linux = &mut bundle.config["linux"];
    let namespaces = linux["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    linux["uidMappings"] = map.clone();
    linux["gidMappings"] = map;
    let id = bundle.id();
    start(&bundle, &id);
    wait_until("a count", || count(&bundle) > 2);
    if refused_here(&bundle, &id) {
        return;
    }
    let dumped = checkpoint(&bundle, &id, &[]);
    assert_eq!(dumped.code, 0, "{dumped:?}");
    let at = count(&bundle);
    restore(&bundle, &id, &[]);
    wait_until("it to count on", || count(&bundle) > at);
    let pid = bundle.state(&id)["pid"].clone();
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    assert!(map.contains("100000"), "{map}");
    let images = fs::metadata(bundle.path("checkpoint")).unwrap();
    let (mode, gid) = (images.permissions().mode() & 0o777, images.gid());
    assert_eq!((mode, gid), (0o700, 0), "the images are root's alone again");
}

#[test]
fn streams_lead_to_whoever_restores() {
    let bundle = dumpable("i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done");
    let id = bundle.id();
    bundle.save();
    let mut first = bundle
        .command(&["run", &id])
        .stdout(Stdio::piped())
        // CRIU knows no terminal of the host's.
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = [0; 4];
    first
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut said)
        .unwrap();
    assert_eq!(&said, b"1\n2\n");
    if refused_here(&bundle, &id) {
        bundle.ok(&["kill", &id, "KILL"]);
        first.wait().unwrap();
        return;
    }
    let dumped = checkpoint(&bundle, &id, &[]);
    assert_eq!(dumped.code, 0, "{dumped:?}");
    let mut rest = String::new();
    first
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut rest)
        .unwrap();
    first.wait().unwrap();
    let last: u32 = rest.lines().last().unwrap_or("2").parse().unwrap();

    // In the foreground: its code is the restored process's.
    let mut second = with_criu(&bundle, "restore", &id, &[])
        .stdout(Stdio::piped())
        // CRIU knows no terminal of the host's.
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = std::io::BufReader::new(second.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line.trim().parse::<u32>().unwrap(), last + 1);
    bundle.wait_for(&id, "running");
    bundle.ok(&["kill", &id, "KILL"]);
    assert_eq!(second.wait().unwrap().code(), Some(137));
    assert_eq!(bundle.ok(&["list", "-q"]), "", "it is gone with its end");
}

#[test]
fn a_terminal_comes_back() {
    let mut bundle = dumpable("while read line; do echo \"said $line\"; done");
    bundle.config["process"]["terminal"] = json!(true);
    let id = bundle.id();
    let listener = UnixListener::bind(bundle.path("console")).unwrap();
    bundle.save();
    bundle.ok(&["create", "--console-socket", "console", &id]);
    let (_, before) = receive_descriptor(&listener.accept().unwrap().0);
    bundle.ok(&["start", &id]);
    if refused_here(&bundle, &id) {
        return;
    }
    let dumped = checkpoint(&bundle, &id, &[]);
    assert_eq!(dumped.code, 0, "{dumped:?}");
    drop(before);

    restore(&bundle, &id, &["--console-socket", "console"]);
    let (_, terminal) = receive_descriptor(&listener.accept().unwrap().0);
    let mut terminal = fs::File::from(terminal);
    terminal.write_all(b"this\n").unwrap();
    let mut heard = String::new();
    while !heard.contains("said this") {
        let mut some = [0; 64];
        let count = terminal.read(&mut some).unwrap();
        heard.push_str(&String::from_utf8_lossy(&some[..count]));
    }
}

/// The freezer of a process's cgroup, and what is written to it.
fn freezer(pid: &str) -> (String, &'static str) {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let place = |of: &str| {
        let line = cgroups.lines().find(|line| line.contains(of))?;
        Some(line.rsplit(':').next()?.to_owned())
    };
    match place(":freezer:") {
        Some(path) => (
            format!("/sys/fs/cgroup/freezer{path}/freezer.state"),
            "FROZEN",
        ),
        None => (
            format!("/sys/fs/cgroup{}/cgroup.freeze", place("0::").unwrap()),
            "1",
        ),
    }
}

#[test]
fn a_container_goes_on_when_criu_dies_with_it_frozen() {
    let bundle = dumpable(COUNTING);
    let id = bundle.id();
    start(&bundle, &id);
    let (file, frozen) = freezer(&bundle.state(&id)["pid"].to_string());
    let dies = bundle.path("dies");
    std::fs::write(
        &dies,
        format!("#!/bin/sh\necho {frozen} > {file}\nexit 1\n"),
    )
    .unwrap();
    std::fs::set_permissions(&dies, PermissionsExt::from_mode(0o755)).unwrap();
    let with = ["--criu", dies.to_str().unwrap()];
    for status in ["running", "paused"] {
        if status == "paused" {
            bundle.ok(&["pause", &id]);
        }
        let said = bundle.refused(&[&with[..], &["checkpoint", &id]].concat());
        assert!(said.contains("without an answer"), "{said}");
        assert_eq!(bundle.status(&id), status);
    }
}

#[test]
fn a_dump_builds_on_an_earlier_one() {
    let bundle = dumpable(COUNTING);
    let id = bundle.id();
    start(&bundle, &id);
    wait_until("a count", || count(&bundle) > 2);
    if refused_here(&bundle, &id) {
        return;
    }
    let early = checkpoint(&bundle, &id, &["--pre-dump", "--image-path", "early"]);
    if early.code != 0 {
        assert!(early.err.contains("CONFIG_MEM_SOFT_DIRTY"), "{early:?}");
        assert_eq!(bundle.status(&id), "running");
        println!("not here: {}", early.err);
        return;
    }
    assert_eq!(bundle.status(&id), "running");
    for wrong in ["/early", "../nothing"] {
        let said = checkpoint(&bundle, &id, &["--parent-path", wrong]);
        assert_eq!(said.code, 1, "{said:?}");
    }
    let late = ["--image-path", "late", "--parent-path", "../early"];
    let dumped = checkpoint(&bundle, &id, &late);
    assert_eq!(dumped.code, 0, "{dumped:?}");
    let at = count(&bundle);
    restore(&bundle, &id, &["--image-path", "late"]);
    wait_until("it to count on", || count(&bundle) > at);
}

#[test]
fn without_criu_it_says_what_is_missing() {
    let bundle = dumpable("sleep 30");
    let id = bundle.id();
    start(&bundle, &id);
    for (program, named) in [
        ("/nowhere/criu", "/nowhere/criu"),
        ("coracle-no-criu", "/usr/sbin"),
    ] {
        for args in [
            &["--criu", program, "checkpoint", &id][..],
            &["--criu", program, "restore", "other"],
        ] {
            let refused = bundle.refused(args);
            assert!(refused.contains(named), "{refused}");
            assert!(refused.contains("package criu"), "{refused}");
        }
    }
    assert_eq!(bundle.status(&id), "running");
    assert!(!bundle.path("checkpoint").exists());
    assert_eq!(bundle.ok(&["list", "-q"]), format!("{id}\n"));
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    let bundle = dumpable("sleep 30");
    bundle.save();
    fs::create_dir(bundle.path("images")).unwrap();
    let id = bundle.id();
    let args = ["--image-path", "images", "--detach"];
    let output = with_criu(&bundle, "restore", &id, &args).output().unwrap();
    let said = said(output);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("CRIU"), "{said:?}");
    assert_eq!(bundle.ok(&["list", "-q"]), "");
    assert!(!cgroup(&format!("coracle-runtime-{id}")).exists());
}

#[test]
fn only_what_runs_is_checkpointed() {
    let bundle = dumpable("sleep 30");
    let id = bundle.id();
    bundle.create(&id);
    let refused = checkpoint(&bundle, &id, &[]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("container is created"), "{refused:?}");
    bundle.ok(&["start", &id]);
    bundle.ok(&["kill", &id, "KILL"]);
    bundle.wait_for(&id, "stopped");
    let refused = checkpoint(&bundle, &id, &[]);
    assert!(refused.err.contains("container not running"), "{refused:?}");
}

#[test]
fn a_root_that_leads_out_is_not_restored_into() {
    for link in ["proc", "sys", "dev"] {
        let bundle = dumpable("sleep 30");
        bundle.save();
        let place = bundle.root().join(link);
        fs::remove_dir(&place).unwrap();
        let outside = bundle.path("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, &place).unwrap();
        fs::create_dir(bundle.path("images")).unwrap();
        // A program that would restore anything.
        let args = [
            "--criu",
            "/bin/true",
            "restore",
            "x",
            "--image-path",
            "images",
        ];
        let refused = bundle.refused(&args);
        assert!(refused.contains("ordinary directory"), "{refused}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
