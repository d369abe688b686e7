//! From create to delete, as engines do it. Needs root and busybox-static.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Bundle, cgroup, receive_descriptor, wait_until};

#[test]
fn create_waits_and_start_runs() {
    let bundle = Bundle::new("echo ran; sleep 30");
    let id = bundle.id();
    bundle.create(&id);
    let state = bundle.state(&id);
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], json!(id));
    assert_eq!(
        state["bundle"],
        json!(fs::canonicalize(bundle.path(".")).unwrap())
    );
    assert_eq!(bundle.out(), "", "nothing of the image runs before start");

    bundle.ok(&["start", &id]);
    wait_until("output", || bundle.out() == "ran\n");
    assert_eq!(bundle.status(&id), "running");
    let again = bundle.refused(&["start", &id]);
    assert!(again.contains("container is running"), "{again}");

    let still = bundle.refused(&["delete", &id]);
    assert!(still.contains("container is running"), "{still}");
    bundle.ok(&["kill", &id, "KILL"]);
    bundle.wait_for(&id, "stopped");
    let stopped = bundle.refused(&["kill", &id]);
    assert!(stopped.contains("container not running"), "{stopped}");
    bundle.ok(&["delete", &id]);
    let gone = bundle.refused(&["state", &id]);
    assert!(gone.contains("does not exist"), "{gone}");
}

#[test]
fn run_tells_the_exit_code() {
    let bundle = Bundle::new("echo out; echo err >&2; exit 42");
    let said = bundle.run();
    assert_eq!(
        (said.code, said.out.as_str(), said.err.as_str()),
        (42, "out\n", "err\n")
    );
    assert_eq!(
        bundle.ok(&["list", "-q"]),
        "",
        "a container that was run is gone"
    );

    let killed = Bundle::new("sleep 30 & kill -9 $!; wait $!");
    assert_eq!(killed.run().code, 137);
}

#[test]
fn the_pid_file_holds_the_first_process() {
    let bundle = Bundle::new("sleep 30");
    let id = bundle.id();
    bundle.save();
    let run = ["run", "--detach", "--pid-file", "pid", &id];
    let status = bundle
        .command(&run)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let pid: i64 = fs::read_to_string(bundle.path("pid"))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(bundle.state(&id)["pid"], pid);
    assert!(Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn an_id_is_used_once() {
    let bundle = Bundle::new("sleep 30");
    let id = bundle.id();
    bundle.create(&id);
    let message = bundle.refused(&["create", &id]);
    assert!(message.contains("exists"), "{message}");
    assert_eq!(bundle.status(&id), "created", "the first one is as it was");
}

#[test]
fn wrong_ids_are_refused() {
    let bundle = Bundle::new("true");
    bundle.save();
    let long = "x".repeat(300);
    for id in [
        "",
        "../x",
        "/etc",
        "a/../b",
        ".",
        "..",
        "a b",
        long.as_str(),
    ] {
        for command in ["create", "run", "start", "state", "delete"] {
            let message = bundle.refused(&[command, id]);
            assert!(
                message.contains("container id"),
                "{command} {id:?}: {message}"
            );
        }
    }
    assert!(!bundle.path("x").exists());
}

#[test]
fn a_created_container_can_be_given_up() {
    let bundle = Bundle::new("echo never");
    let id = bundle.id();
    bundle.create(&id);
    let pid = bundle.state(&id)["pid"].as_i64().unwrap();
    bundle.ok(&["delete", &id]);
    bundle.refused(&["state", &id]);
    assert!(!is_running(pid));
    assert_eq!(bundle.out(), "");
}

#[test]
fn delete_force_ends_a_running_one() {
    let bundle = Bundle::new("sleep 30 & sleep 30");
    let id = bundle.id();
    bundle.start(&id);
    let left = cgroup(&format!("coracle-runtime-{id}"));
    assert!(left.is_dir(), "{}", left.display());
    bundle.ok(&["delete", "--force", &id]);
    bundle.refused(&["state", &id]);
    bundle.ok(&["delete", "--force", &id]);
    bundle.refused(&["delete", &id]);
    assert!(!left.exists(), "{}", left.display());
}

#[test]
fn the_folders_above_a_cgroup_go_with_it_also_when_create_fails() {
    let mut bundle = Bundle::new("true");
    let id = bundle.id();
    bundle.config["linux"]["cgroupsPath"] = format!("above-{id}/deep/{id}").into();
    let above = cgroup(&format!("coracle-runtime/above-{id}"));
    bundle.create(&id);
    assert!(above.join("deep").join(&id).is_dir());
    bundle.ok(&["delete", &id]);
    assert!(!above.exists(), "{}", above.display());

    bundle.config["process"]["args"] = serde_json::json!(["/no/such/program"]);
    bundle.save();
    bundle.refused(&["create", &id]);
    assert!(!above.exists(), "{}", above.display());
}

/// Each takes the folder above away with it when it believes to be the last.
#[test]
fn containers_that_come_and_go_at_once_leave_each_other_alone() {
    // In an emulated board each takes a second.
    let end = Instant::now() + std::time::Duration::from_secs(20);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for count in 0..25 {
                    if count >= 3 && Instant::now() > end {
                        break;
                    }
                    let said = Bundle::new("true").run();
                    assert_eq!(said.code, 0, "{}", said.err);
                }
            });
        }
    });
}

#[test]
fn kill_all_reaches_every_process() {
    let mut bundle = Bundle::new("sleep 30 & sleep 30 & echo up; wait");
    // Without a pid namespace the end of the first ends no other.
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    let id = bundle.id();
    bundle.start(&id);
    wait_until("three processes", || processes(&bundle, &id).len() == 3);
    let all = processes(&bundle, &id);
    bundle.ok(&["kill", "--all", &id, "KILL"]);
    bundle.wait_for(&id, "stopped");
    for pid in all {
        wait_until("its end", || !is_running(pid));
    }
    bundle.ok(&["delete", &id]);
}

fn processes(bundle: &Bundle, id: &str) -> Vec<i64> {
    serde_json::from_str(&bundle.ok(&["ps", "--format", "json", id])).unwrap()
}

fn is_running(pid: i64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn pause_stops_and_resume_goes_on() {
    let bundle = Bundle::new("while true; do echo x; sleep 0.01; done");
    let id = bundle.id();
    bundle.start(&id);
    wait_until("output", || !bundle.out().is_empty());
    bundle.ok(&["pause", &id]);
    assert_eq!(bundle.status(&id), "paused");
    let before = bundle.out().len();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(bundle.out().len(), before);
    let message = bundle.refused(&["exec", &id, "true"]);
    assert!(message.contains("paused"), "{message}");
    bundle.ok(&["resume", &id]);
    wait_until("more output", || bundle.out().len() > before);
    bundle.refused(&["resume", &id]);

    bundle.ok(&["pause", &id]);
    bundle.ok(&["kill", &id, "KILL"]);
    bundle.wait_for(&id, "stopped");
}

#[test]
fn signals_arrive() {
    let bundle =
        Bundle::new("trap 'echo got; exit 3' USR1; echo up; while true; do sleep 0.01; done");
    let id = bundle.id();
    bundle.start(&id);
    wait_until("output", || bundle.out() == "up\n");
    bundle.ok(&["kill", &id, "SIGUSR1"]);
    wait_until("the answer", || bundle.out() == "up\ngot\n");
    bundle.wait_for(&id, "stopped");
    let message = bundle.refused(&["kill", &id, "NOTHING"]);
    assert!(message.contains("no signal"), "{message}");
}

#[test]
fn update_changes_limits() {
    let mut bundle = Bundle::new("sleep 30");
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 50});
    let id = bundle.id();
    bundle.start(&id);
    let figures = |bundle: &Bundle| -> Value {
        serde_json::from_str(&bundle.ok(&["events", "--stats", &id])).unwrap()
    };
    assert_eq!(
        figures(&bundle)["data"]["memory"]["usage"]["limit"],
        64 << 20
    );
    assert_eq!(figures(&bundle)["data"]["pids"]["limit"], 50);
    bundle.ok(&["update", "--memory", "32M", "--pids-limit", "20", &id]);
    assert_eq!(
        figures(&bundle)["data"]["memory"]["usage"]["limit"],
        32 << 20
    );
    fs::write(
        bundle.path("limits.json"),
        r#"{"memory":{"limit":50331648}}"#,
    )
    .unwrap();
    bundle.ok(&["update", "-r", "limits.json", &id]);
    assert_eq!(
        figures(&bundle)["data"]["memory"]["usage"]["limit"],
        48 << 20
    );
    assert_eq!(
        figures(&bundle)["data"]["pids"]["limit"],
        20,
        "what is not named stays"
    );

    bundle.ok(&["update", "--memory", "32M", "--memory-swap", "48M", &id]);
    bundle.ok(&["update", "--memory", "-1", "--pids-limit", "0", &id]);
    let own = cgroup(&format!("coracle-runtime-{id}"));
    // All that fits into the kernel's counter of pages, in bytes.
    let most = match size_of::<libc::c_long>() {
        4 => "8796093018112",
        _ => "9223372036854771712",
    };
    for (file, wanted) in [
        ("memory.max", "max"),
        ("memory.swap.max", "max"),
        ("memory.limit_in_bytes", most),
        ("memory.memsw.limit_in_bytes", most),
    ] {
        if let Ok(text) = fs::read_to_string(own.join(file)) {
            assert_eq!(text.trim(), wanted, "{file}");
        }
    }
    assert_eq!(figures(&bundle)["data"]["pids"]["limit"], 1, "as in runc");
}

#[test]
fn a_limit_is_hard() {
    let mut bundle = Bundle::new("dd if=/dev/zero of=/dev/null bs=200M count=1; echo $?");
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 32 << 20, "swap": 32 << 20});
    let said = bundle.run();
    assert!(said.out.contains("137"), "{said:?}");
}

#[test]
fn hooks_run_in_order_and_read_the_state() {
    let mut bundle = Bundle::new("echo program >> /log/log");
    let log = bundle.path("log");
    fs::create_dir(&log).unwrap();
    let mut hooks = serde_json::Map::new();
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ] {
        let script = format!(
            "cat > {0}/{kind}.json; echo {kind} >> {0}/log",
            log.display()
        );
        hooks.insert(kind.into(), json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]));
    }
    let script = "cat > /log/startContainer.json; echo startContainer >> /log/log";
    hooks.insert(
        "startContainer".into(),
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]),
    );
    bundle.config["hooks"] = Value::Object(hooks);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts
        .push(json!({"destination": "/log", "type": "bind", "source": log, "options": ["rbind"]}));
    let id = bundle.id();
    bundle.create(&id);
    assert_eq!(
        read(&log.join("log")),
        "prestart\ncreateRuntime\ncreateContainer\n"
    );
    let pid = bundle.state(&id)["pid"].clone();
    bundle.ok(&["start", &id]);
    bundle.wait_for(&id, "stopped");
    bundle.ok(&["delete", &id]);
    let lines = read(&log.join("log"));
    let mut seen: Vec<&str> = lines.lines().collect();
    // The program runs beside the poststart hooks.
    seen[4..6].sort_unstable();
    assert_eq!(
        seen,
        [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "program",
            "poststop"
        ]
    );
    for (kind, status) in [
        ("prestart", "created"),
        ("createRuntime", "created"),
        ("createContainer", "created"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ] {
        let state: Value = serde_json::from_str(&read(&log.join(format!("{kind}.json")))).unwrap();
        assert_eq!(state["id"], json!(id), "{kind}");
        assert_eq!(state["status"], status, "{kind}");
        if kind != "poststop" {
            assert_eq!(state["pid"], pid, "{kind}");
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_failing_hook_ends_the_create() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = Bundle::new("true");
        bundle.config["hooks"] = json!({kind: [{"path": "/bin/false"}]});
        bundle.save();
        let id = bundle.id();
        let message = bundle.refused(&["create", &id]);
        assert!(message.contains(kind), "{message}");
        bundle.refused(&["state", &id]);
    }
    let mut bundle = Bundle::new("true");
    bundle.config["hooks"] = json!({"startContainer": [{"path": "/bin/nothing"}]});
    let id = bundle.id();
    bundle.create(&id);
    let message = bundle.refused(&["start", &id]);
    assert!(message.contains("startContainer"), "{message}");
    bundle.wait_for(&id, "stopped");
}

/// Its program is the image's: it may do what the container's may, and no more.
#[test]
fn a_hook_in_the_container_is_confined_as_its_program() {
    let show = "grep -E '^(Cap|Uid|NoNewPrivs|Seccomp:)' /proc/self/status";
    let mut bundle = Bundle::new(&format!("{show}; echo; cat /log/hook"));
    let log = bundle.path("hook-log");
    fs::create_dir(&log).unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o777)).unwrap();
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/log", "type": "bind", "source": log, "options": ["rbind"]}));
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]});
    let script = format!("{show} > /log/hook");
    bundle.config["hooks"] = json!({"startContainer":
        [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]});
    bundle.save();
    let said = bundle.run();
    let (program, hook) = said
        .out
        .split_once("\n\n")
        .unwrap_or_else(|| panic!("{said:?}"));
    assert_eq!(program.trim(), hook.trim());
    assert!(program.contains("Seccomp:\t2"), "{program}");
    assert!(program.contains("CapEff:\t0000000000000000"), "{program}");
}

#[test]
fn a_hook_has_its_time() {
    let mut bundle = Bundle::new("true");
    bundle.config["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "30"], "timeout": 1}]});
    bundle.save();
    let began = Instant::now();
    let message = bundle.refused(&["create", &bundle.id()]);
    assert!(message.contains("within 1 s"), "{message}");
    assert!(began.elapsed().as_secs() < 10);
}

#[test]
fn a_missing_program_is_told_at_create() {
    let mut bundle = Bundle::new("");
    for (program, text) in [
        ("nothing", "executable file not found in $PATH"),
        // The docker command looks for these words.
        ("/bin/nothing", "no such file or directory"),
        ("/etc", "permission denied"),
    ] {
        bundle.config["process"]["args"] = json!([program]);
        bundle.save();
        let message = bundle.refused(&["create", &bundle.id()]);
        assert!(
            message.contains(program) && message.contains(text),
            "{message}"
        );
    }
    assert_eq!(bundle.ok(&["list", "-q"]), "");
}

#[test]
fn without_a_process_there_is_nothing_to_start() {
    let mut bundle = Bundle::new("");
    bundle.config["process"] = Value::Null;
    let id = bundle.id();
    bundle.create(&id);
    let message = bundle.refused(&["start", &id]);
    assert!(message.contains("no program is named"), "{message}");
    bundle.wait_for(&id, "stopped");
    bundle.ok(&["delete", &id]);
}

#[test]
fn namespaces_of_another_container_are_joined() {
    let first = Bundle::new("sleep 60");
    let id = first.id();
    first.start(&id);
    let pid = first.state(&id)["pid"].clone();
    let mut second = Bundle::new("");
    let kinds = [
        ("pid", "pid"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("cgroup", "cgroup"),
    ];
    let paths: Vec<Value> = kinds
        .iter()
        .map(|(kind, file)| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}))
        .chain([json!({"type": "mount"})])
        .collect();
    second.config["linux"]["namespaces"] = json!(paths);
    let script = "hostname; cat /proc/1/cmdline | head -c 5; for n in pid net ipc uts cgroup; do test $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) || echo not $n; done";
    second.config["process"]["args"] = json!(["sh", "-c", script]);
    let said = second.run();
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, "coracle\nsleep"),
        "{said:?}"
    );
}

#[test]
fn without_a_mount_namespace_the_host_sees_no_mount() {
    let mut bundle = Bundle::new(
        "readlink /proc/self/ns/mnt; ls /; test -c /dev/null && echo null; touch /x || true; sleep 60",
    );
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "mount");
    bundle.config["root"]["readonly"] = json!(true);
    let id = bundle.id();
    bundle.start(&id);
    wait_until("output", || bundle.out().contains("null\n"));
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let out = bundle.out();
    assert_eq!(out.lines().next(), own.to_str());
    assert!(out.contains("proc\n") && !out.contains("boot\n"), "{out}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(bundle.root().to_str().unwrap()),
        "{mounts}"
    );
    assert!(!bundle.root().join("x").exists());
    let message = bundle.refused(&["exec", &id, "ls", "/"]);
    assert!(message.contains("host's mount namespace"), "{message}");
}

#[test]
fn clocks_can_be_its_own() {
    let mut bundle = Bundle::new("cat /proc/uptime");
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "time"}));
    bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
    let said = bundle.run();
    // 32-bit ARM has none.
    if !Path::new("/proc/self/ns/time").exists() {
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("a namespace: time: "), "{said:?}");
        return;
    }
    let uptime: f64 = said
        .out
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap_or_else(|_| panic!("{said:?}"));
    assert!(uptime > 1_000_000.0, "{said:?}");
}

#[test]
fn the_log_is_what_engines_read() {
    let bundle = Bundle::new("true");
    let said = bundle.runtime(&[
        "--log",
        "log.json",
        "--log-format",
        "json",
        "state",
        "nothing",
    ]);
    assert_eq!(said.code, 1);
    let line: Value = serde_json::from_str(&read(&bundle.path("log.json"))).unwrap();
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], "container does not exist: nothing");
}

#[test]
fn a_terminal_is_sent_to_the_console_socket() {
    let mut bundle = Bundle::new("tty; stty size; test -c /dev/console && echo console");
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["consoleSize"] = json!({"height": 33, "width": 99});
    bundle.save();
    let listener = UnixListener::bind(bundle.path("console")).unwrap();
    let id = bundle.id();
    bundle.ok(&["create", "--console-socket", "console", &id]);
    let (_, master) = receive_descriptor(&listener.accept().unwrap().0);
    bundle.ok(&["start", &id]);
    let mut shown = Vec::new();
    // EIO when the container has ended.
    let _ = fs::File::from(master).read_to_end(&mut shown);
    assert_eq!(
        String::from_utf8_lossy(&shown),
        "/dev/pts/0\r\n33 99\r\nconsole\r\n"
    );
}

#[test]
fn a_seccomp_listener_is_told_of_the_container() {
    let mut bundle = Bundle::new("mkdir /tmp/x; echo after");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": bundle.path("listener"),
        "listenerMetadata": "mine",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    });
    let listener = UnixListener::bind(bundle.path("listener")).unwrap();
    let id = bundle.id();
    bundle.start(&id);
    let (text, answers) = receive_descriptor(&listener.accept().unwrap().0);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["state"]["id"], json!(id));
    assert_eq!(told["pid"], bundle.state(&id)["pid"]);
    assert_eq!(told["metadata"], "mine");
    assert_eq!(told["fds"], json!(["seccompFd"]));
    assert!(!bundle.root().join("tmp/x").exists());
    // Nobody answers any more, which the kernel tells the program.
    drop(answers);
    wait_until("output", || bundle.out() == "after\n");
    assert!(!bundle.root().join("tmp/x").exists());
}

#[test]
fn a_seccomp_listener_is_told_of_an_executed_process() {
    let mut bundle = Bundle::new("sleep 30");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": bundle.path("listener"),
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    });
    let listener = UnixListener::bind(bundle.path("listener")).unwrap();
    let id = bundle.id();
    bundle.start(&id);
    let (_, first) = receive_descriptor(&listener.accept().unwrap().0);
    let script = "mkdir /tmp/x; echo $? > /tmp/after";
    let exec = [
        "exec",
        "--detach",
        "--pid-file",
        "pid",
        &id,
        "/bin/sh",
        "-c",
        script,
    ];
    // Its streams must not be a pipe that is waited for.
    let status = bundle
        .command(&exec)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let (text, answers) = receive_descriptor(&listener.accept().unwrap().0);
    let told: Value = serde_json::from_str(&text).unwrap();
    let pid = fs::read_to_string(bundle.path("pid")).unwrap();
    assert_eq!(told["pid"].to_string(), pid);
    assert_eq!(told["state"]["pid"], bundle.state(&id)["pid"]);
    assert_ne!(told["pid"], told["state"]["pid"]);
    let after = bundle.root().join("tmp/after");
    assert!(!after.exists(), "it waits for an answer");
    drop(answers);
    wait_until("its end", || {
        fs::read_to_string(&after).is_ok_and(|text| text == "1\n")
    });
    drop(first);
}

#[test]
fn a_console_socket_and_a_terminal_belong_together() {
    let mut bundle = Bundle::new("true");
    bundle.save();
    let message = bundle.refused(&["create", "--console-socket", "s", &bundle.id()]);
    assert!(message.contains("process.terminal"), "{message}");
    bundle.config["process"]["terminal"] = json!(true);
    bundle.save();
    let message = bundle.refused(&["create", &bundle.id()]);
    assert!(message.contains("--console-socket"), "{message}");
}

#[test]
fn features_names_what_there_is() {
    let bundle = Bundle::new("true");
    let features: Value = serde_json::from_str(&bundle.ok(&["features"])).unwrap();
    assert_eq!(features["ociVersionMax"], "1.3.0");
    assert_eq!(features["linux"]["intelRdt"]["enabled"], false);
    assert_eq!(features["hooks"].as_array().unwrap().len(), 6);
}

/// Whether or not this machine has the hierarchy: held, or refused by its name.
#[test]
fn huge_pages_are_limited_or_refused_by_name() {
    let mut bundle = Bundle::new(
        "cd /sys/fs/cgroup; cat hugetlb/hugetlb.2MB.limit_in_bytes 2>/dev/null || cat hugetlb.2MB.max",
    );
    bundle.config["linux"]["resources"]["hugepageLimits"] =
        json!([{"pageSize": "2MB", "limit": 4_194_304}]);
    let said = bundle.run();
    if said.code == 0 {
        assert_eq!(said.out, "4194304\n", "{said:?}");
        a_taker_of_huge_pages_is_held();
        return;
    }
    assert!(said.err.contains("hugetlb.2MB"), "{said:?}");
    let (v1, v2) = (
        "/sys/fs/cgroup/hugetlb",
        "/sys/fs/cgroup/cgroup.controllers",
    );
    assert!(!Path::new(v1).exists(), "{said:?}");
    let all = fs::read_to_string(v2).unwrap_or_default();
    assert!(!all.contains("hugetlb"), "{said:?}");
}

/// Kernels before 5.16 hold the limit; newer ones take it without effect, refuse it, or have no file for it: then it is told.
#[test]
fn kernel_memory_is_held_or_told() {
    let mut bundle = Bundle::new("sleep 60");
    bundle.config["linux"]["resources"]["memory"] =
        json!({"limit": 64 << 20, "kernel": 16 << 20, "kernelTCP": 8 << 20});
    bundle.save();
    let id = bundle.id();
    let own = cgroup(&format!("coracle-runtime-{id}"));
    let told = |args: &[&str], limits: [(&str, &str, u64); 2]| {
        let log = bundle.path("log");
        let _ = fs::remove_file(&log);
        let all = [&["--log", log.to_str().unwrap()], args].concat();
        // The container's first process keeps what it gets.
        let out = fs::File::create(bundle.path("out")).unwrap();
        let status = bundle.command(&all).stdout(out).status().unwrap();
        assert!(status.success(), "{args:?}");
        let said = fs::read_to_string(&log).unwrap_or_default();
        for (name, file, wanted) in limits {
            let held = fs::read_to_string(own.join(file)).unwrap_or_default();
            let text = format!("memory.{name} of {wanted} bytes is not enforced");
            assert_ne!(
                held.trim() == wanted.to_string(),
                said.contains(&text),
                "{name}: held {held:?}, told {said:?}"
            );
        }
    };
    let (kernel, tcp) = (
        "memory.kmem.limit_in_bytes",
        "memory.kmem.tcp.limit_in_bytes",
    );
    told(
        &["create", &id],
        [("kernel", kernel, 16 << 20), ("kernelTCP", tcp, 8 << 20)],
    );
    let args = [
        "update",
        "--kernel-memory",
        "12M",
        "--kernel-memory-tcp",
        "4M",
    ];
    told(
        &[&args[..], &[&id]].concat(),
        [("kernel", kernel, 12 << 20), ("kernelTCP", tcp, 4 << 20)],
    );
}

/// Of eight pages that the machine has it gets two.
fn a_taker_of_huge_pages_is_held() {
    let pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    let before = fs::read_to_string(pages).unwrap();
    fs::write(pages, "8").unwrap();
    let had: u64 = fs::read_to_string(pages).unwrap().trim().parse().unwrap();
    let mut bundle = Bundle::new(
        "for size in 4 6; do busybox fallocate -l ${size}M /huge/$size; echo $size: $?; rm /huge/$size; done",
    );
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/huge", "type": "hugetlbfs", "source": "huge", "options": ["pagesize=2M"]}));
    bundle.config["linux"]["resources"]["hugepageLimits"] =
        json!([{"pageSize": "2MB", "limit": 4_194_304}]);
    let said = bundle.run();
    fs::write(pages, before).unwrap();
    assert!(had >= 4, "the machine has {had} huge pages for the test");
    assert!(said.out.contains("4: 0\n6: 1\n"), "{said:?}");
}

/// In ticks of 10 ms (proc_pid_stat(5)).
fn processor_time(pid: u32) -> u64 {
    let stat = read(Path::new(&format!("/proc/{pid}/stat")));
    let behind_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn events_tell_that_memory_ran_out() {
    let mut bundle = Bundle::new(
        "read go; dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?; read end; true",
    );
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    let id = bundle.id();
    bundle.save();
    let mut run = bundle
        .command(&["run", &id])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("it to run", || {
        let said = bundle.runtime(&["state", &id]);
        said.out.contains("running")
    });
    let mut events = bundle
        .command(&["events", "--interval", "1m", &id])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = std::io::BufReader::new(events.stdout.take().unwrap());
    let mut next = || -> Value {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut told, &mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    };
    assert_eq!(next()["type"], "stats");
    let mut input = run.stdin.take().unwrap();
    input.write_all(b"go\n").unwrap();
    // Long before the next figures.
    assert_eq!(next(), json!({"type": "oom", "id": id}));
    let spent = processor_time(events.id());
    std::thread::sleep(Duration::from_secs(1));
    let spent = processor_time(events.id()) - spent;
    assert!(
        spent < 20,
        "it asks again and again: {spent} ticks in a second"
    );
    events.kill().unwrap();
    events.wait().unwrap();
    drop(input);
    let mut out = String::new();
    run.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "137\n", "its shell lives on");
    run.wait().unwrap();
}

#[test]
fn a_stream_that_goes_nowhere_is_the_container_s_own() {
    let script =
        "stat -L -c %d /proc/self/fd/0; stat -L -c %d /dev/null; stat -L -c %t:%T /proc/self/fd/0";
    let said = Bundle::new(script).run();
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 3, "{said:?}");
    assert_eq!((lines[0], lines[2]), (lines[1], "1:3"), "{said:?}");

    // Where its /dev/null is another thing, that is not opened.
    let mut bundle = Bundle::new(script);
    let folder = bundle.path("dev");
    fs::create_dir(&folder).unwrap();
    nix::unistd::mkfifo(&folder.join("null"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| {
        let at = mount["destination"].as_str().unwrap();
        !at.starts_with("/dev")
    });
    mounts.push(
        json!({"destination": "/dev", "type": "bind", "source": folder, "options": ["rbind"]}),
    );
    let said = bundle.run();
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 3, "{said:?}");
    assert_ne!(lines[0], lines[1], "{said:?}");
    assert_eq!(lines[2], "1:3", "{said:?}");
}
