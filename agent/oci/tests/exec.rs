//! One more process in a container. Needs root and busybox-static.

mod support;

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Bundle, said, wait_until};

/// A container that sleeps.
fn sleeping(change: impl FnOnce(&mut Value)) -> (Bundle, String) {
    let mut bundle = Bundle::new("sleep 60");
    change(&mut bundle.config);
    let id = bundle.id();
    bundle.start(&id);
    (bundle, id)
}

#[test]
fn it_is_in_the_container_and_tells_its_code() {
    let (bundle, id) = sleeping(|_| {});
    let said = bundle.runtime(&[
        "exec",
        &id,
        "sh",
        "-c",
        "hostname; echo $$ >/dev/null; grep -c sleep /proc/1/cmdline; exit 9",
    ]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (9, "coracle\n1\n"),
        "{said:?}"
    );
    let killed = bundle.runtime(&["exec", &id, "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.code, 137);
}

/// The first one compiles the profile; the others take what it has kept, when it is their own version's and whole.
#[test]
fn a_filter_is_compiled_by_the_first_and_taken_by_the_next() {
    let (bundle, id) = sleeping(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
        });
    });
    let kept = bundle.path("states").join(&id).join("seccomp");
    let is_held = || {
        let said = bundle.runtime(&["exec", &id, "mkdir", "/tmp/x"]);
        let held = said.err.contains("Function not implemented");
        assert!(held || bundle.root().join("tmp/x").exists(), "{said:?}");
        held
    };
    assert!(!kept.exists());
    assert!(is_held() && is_held());
    let bytes = fs::read(&kept).unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&kept).unwrap());
    assert_eq!(mode & 0o777, 0o600);

    let head = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let older = [b"coracle-runtime 0.0.0\n", &bytes[head..]].concat();
    for other in [&bytes[..bytes.len() - 1], &bytes[..head], &older, b""] {
        fs::write(&kept, other).unwrap();
        assert!(is_held());
        assert_eq!(fs::read(&kept).unwrap(), bytes);
    }

    // Another program in its place shows who is asked.
    let open = coracle_runtime::SeccompProgram::deny(&[], 1).unwrap();
    fs::write(&kept, [&bytes[..head], &open.to_bytes()].concat()).unwrap();
    assert!(!is_held());
    bundle.ok(&["delete", "--force", &id]);
    assert!(!kept.parent().unwrap().exists());
}

#[test]
fn it_is_as_confined_as_the_container() {
    let (bundle, id) = sleeping(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
        });
    });
    let status = |of: &str| -> Vec<String> {
        let out = bundle.ok(&["exec", &id, "grep", "-E", "Cap|NoNewPrivs|Seccomp:", of]);
        out.lines().map(Into::into).collect()
    };
    assert_eq!(status("/proc/self/status"), status("/proc/1/status"));
    let refused = bundle.runtime(&["exec", &id, "mkdir", "/tmp/x"]);
    assert!(
        refused.err.contains("Function not implemented"),
        "{refused:?}"
    );
    let same = bundle.ok(&["exec", &id, "sh", "-c", "for n in mnt pid net ipc uts cgroup; do test $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) || echo $n; done; cat /proc/self/cgroup"]);
    assert!(!same.contains("coracle-test"), "{same}");
    let pids: Vec<i64> = serde_json::from_str(&bundle.ok(&["ps", "-f", "json", &id])).unwrap();
    assert_eq!(pids.len(), 1);
}

#[test]
fn options_change_it() {
    let (bundle, id) = sleeping(|_| {});
    let out = bundle.ok(&[
        "exec",
        "-u",
        "1000:1001",
        "-g",
        "20",
        "-e",
        "A=b c",
        "--cwd",
        "/tmp",
        &id,
        "sh",
        "-c",
        "id -u; id -g; id -G; pwd; echo $A",
    ]);
    assert_eq!(out, "1000\n1001\n1001 20\n/tmp\nb c\n");
    let process = json!({"args": ["sh", "-c", "pwd; echo $B"], "cwd": "/etc", "env": ["B=c", "PATH=/bin"], "user": {"uid": 7, "gid": 8}});
    fs::write(bundle.path("process.json"), process.to_string()).unwrap();
    assert_eq!(
        bundle.ok(&["exec", &id, "--process", "process.json"]),
        "/etc\nc\n"
    );
    let added = bundle.ok(&[
        "exec",
        "--cap",
        "CAP_NET_RAW",
        &id,
        "grep",
        "CapEff",
        "/proc/self/status",
    ]);
    assert!(added.trim_end().ends_with("20002420"), "{added}");
}

#[test]
fn a_malformed_user_is_refused() {
    let (bundle, id) = sleeping(|_| {});
    for user in [
        "",
        ":",
        "x",
        "1000:",
        "1000:x",
        "-1",
        "+5",
        "4294967295",
        "4294967296",
        "1:2:3",
    ] {
        let option = format!("--user={user}");
        let message = bundle.refused(&["exec", &option, &id, "id"]);
        assert!(
            message.contains("no user or group number"),
            "{user:?}: {message}"
        );
    }
}

#[test]
fn detached_it_leaves_a_pid_file() {
    let (bundle, id) = sleeping(|_| {});
    let status = bundle
        .command(&["exec", "--detach", "--pid-file", "pid", &id, "sleep", "60"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let pid = fs::read_to_string(bundle.path("pid")).unwrap();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name, "sleep\n");
}

#[test]
fn its_failure_leaves_the_container_alone() {
    let (bundle, id) = sleeping(|_| {});
    let message = bundle.refused(&["exec", &id, "nothing"]);
    assert!(message.contains("No such file or directory"), "{message}");
    let message = bundle.refused(&["exec", "--cwd", "/nowhere", &id, "true"]);
    assert!(message.contains("/nowhere"), "{message}");
    let message = bundle.refused(&["exec", "--cwd", "relative", &id, "true"]);
    assert!(message.contains("not absolute"), "{message}");
    bundle.refused(&["exec", &id]);
    assert_eq!(bundle.status(&id), "running");
    bundle.ok(&["kill", &id, "KILL"]);
    bundle.wait_for(&id, "stopped");
    let message = bundle.refused(&["exec", &id, "true"]);
    assert!(message.contains("container not running"), "{message}");
}

#[test]
fn a_terminal_is_shown_here() {
    let (bundle, id) = sleeping(|_| {});
    let said = bundle.runtime(&[
        "exec",
        "-t",
        &id,
        "sh",
        "-c",
        "tty; test -t 0 && echo yes; exit 4",
    ]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (4, "/dev/pts/0\r\nyes\r\n"),
        "{said:?}"
    );
}

#[test]
fn signals_of_the_caller_reach_it() {
    let (bundle, id) = sleeping(|_| {});
    let mut command = bundle.command(&[
        "exec",
        &id,
        "sh",
        "-c",
        "trap 'echo got; exit 5' USR1; echo up > /tmp/up; while true; do sleep 0.01; done",
    ]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    wait_until("the program", || bundle.root().join("tmp/up").exists());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1).unwrap();
    let said = said(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (5, "got\n"));
}

#[test]
fn in_a_user_namespace_it_is_a_user_of_it() {
    let (bundle, id) = sleeping(in_user_namespace);
    let out = bundle.ok(&[
        "exec",
        &id,
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map; touch /tmp/mine; stat -c %u /tmp/mine",
    ]);
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "0"], "{out}");
    let owner = fs::metadata(bundle.root().join("tmp/mine")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 100_000);
}

/// Root of the container is nobody on the host.
pub fn in_user_namespace(config: &mut Value) {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user"}));
    config["process"]["args"] = json!(["sleep", "60"]);
}

#[test]
fn cpus_are_those_of_before_and_after_the_cgroup() {
    let (bundle, id) = sleeping(|_| {});
    let process = |affinity: Value| {
        let args = json!(["grep", "Cpus_allowed_list", "/proc/self/status"]);
        let user = json!({"uid": 0, "gid": 0});
        let process = json!({"args": args, "cwd": "/", "user": user, "env": ["PATH=/bin"], "execCPUAffinity": affinity});
        fs::write(bundle.path("process.json"), process.to_string()).unwrap();
        bundle.runtime(&["--debug", "exec", "-p", "process.json", &id])
    };
    let said = process(json!({"initial": "0"}));
    assert!(said.out.ends_with("\t0\n"), "{said:?}");
    assert!(said.err.contains("CPU affinity: 0x1"), "{said:?}");
    let said = process(json!({"initial": "0", "final": "0-1"}));
    let all = std::thread::available_parallelism().unwrap().get();
    assert!(
        said.out
            .ends_with(if all > 1 { "\t0-1\n" } else { "\t0\n" }),
        "{said:?}"
    );
    assert_eq!(process(json!({"initial": "4000"})).code, 1);
    for malformed in ["0,", "1-", "a", "0 1", "٣"] {
        let said = process(json!({"initial": malformed}));
        assert_eq!(said.code, 1, "{malformed}: {said:?}");
    }
}
