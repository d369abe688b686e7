//! The command line where the newer system calls answer ENOSYS, as on Linux 4.19 and older. Needs root and busybox-static.

mod support;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use coracle_runtime::seccomp::{Action, Argument, Compare, Rule};
use coracle_runtime::{Exit, SeccompProgram, spawn_plain};
use serde_json::json;
use support::Bundle;

/// Set for the process that is to believe itself on such a kernel.
const OLD_KERNEL: &str = "CORACLE_TEST_OLD_KERNEL";

/// What came with 5.1 and later, of what the command line, std or nix would call.
const NEWER: [libc::c_long; 11] = [
    libc::SYS_pidfd_send_signal,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_pidfd_open,
    libc::SYS_clone3,
    libc::SYS_close_range,
    libc::SYS_openat2,
    libc::SYS_faccessat2,
    libc::SYS_mount_setattr,
    libc::SYS_statx,
];

fn main() -> ExitCode {
    if std::env::var_os(OLD_KERNEL).is_some() {
        containers_live_and_end();
        one_without_proc_starts_and_holds_nothing_of_ours();
        what_cannot_be_had_is_refused();
        return ExitCode::SUCCESS;
    }
    let missing = Rule {
        calls: NEWER.map(|call| call as u32).to_vec(),
        arguments: Vec::new(),
        action: Action::Errno(libc::ENOSYS as u16),
    };
    // TIOCGPTPEER, since 4.13.
    let no_peer = Rule {
        calls: vec![libc::SYS_ioctl as u32],
        arguments: vec![Argument {
            index: 1,
            compare: Compare::Equal(0x5441),
        }],
        action: Action::Errno(libc::ENOTTY as u16),
    };
    let rules = [missing, no_peer];
    let old = SeccompProgram::from_rules(&rules, Action::Allow, 0).expect("a filter");
    let child = spawn_plain(Vec::new(), |_| {
        coracle_runtime::jail::confine_self(&old).expect("a filter");
        // As a new program: std remembers which calls this kernel had.
        let error = Command::new("/proc/self/exe").env(OLD_KERNEL, "1").exec();
        eprintln!("{error}");
        1
    });
    let exit = child.expect("a child").wait();
    let verdict = if exit == Some(Exit::Code(0)) {
        "ok"
    } else {
        "FAILED"
    };
    println!("test old_kernels_are_served_too ... {verdict}");
    ExitCode::from(u8::from(exit != Some(Exit::Code(0))))
}

fn containers_live_and_end() {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let mut bundle = Bundle::new("echo out; exit 42");
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str()), (42, "out\n"), "{said:?}");

    std::fs::create_dir(bundle.path("volume")).expect("a folder");
    std::fs::write(bundle.path("volume/file"), "inside").expect("a file");
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    let options = ["rbind", "ro", "rslave"];
    mounts.push(
        json!({"destination": "/data", "type": "bind", "source": "volume", "options": options}),
    );
    bundle.config["process"]["args"] = json!(["/bin/sleep", "100"]);
    let id = bundle.id();
    bundle.start(&id);
    assert_eq!(bundle.status(&id), "running");
    assert_eq!(
        bundle.ok(&["exec", &id, "/bin/cat", "/data/file"]),
        "inside"
    );
    let denied = bundle.runtime(&["exec", &id, "/bin/touch", "/data/new"]);
    assert_eq!(denied.code, 1, "{denied:?}");
    let terminal = bundle.ok(&["exec", "-t", &id, "/bin/tty"]);
    assert_eq!(terminal.trim_end(), "/dev/pts/0");
    bundle.ok(&["pause", &id]);
    bundle.ok(&["resume", &id]);
    bundle.ok(&["kill", &id, "KILL"]);
    bundle.wait_for(&id, "stopped");
    bundle.ok(&["delete", &id]);
}

/// Which descriptors there are is asked of the host's /proc: the container's says what its image wants.
fn one_without_proc_starts_and_holds_nothing_of_ours() {
    // 10 is where this shell keeps what a redirection takes the place of.
    let probe = "for n in 3 4 5 6 7 8 9 11 12 13 14 15 16 17 18 19; do { true >&$n; } 2>/dev/null && echo open $n; done; echo end";
    let mut bundle = Bundle::new(probe);
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| mount["destination"] != "/proc");
    for key in ["maskedPaths", "readonlyPaths"] {
        bundle.config["linux"][key] = json!([]);
    }
    std::fs::create_dir_all(bundle.root().join("proc/self/fd")).expect("a folder");
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str()), (0, "end\n"), "{said:?}");
    std::fs::remove_dir_all(bundle.root().join("proc/self")).expect("a folder");
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str()), (0, "end\n"), "{said:?}");
}

fn what_cannot_be_had_is_refused() {
    let mut bundle = Bundle::new("true");
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    let options = ["rbind", "rro"];
    mounts.push(
        json!({"destination": "/data", "type": "bind", "source": "rootfs", "options": options}),
    );
    let said = bundle.run();
    assert_eq!(
        said.code, 1,
        "a mount that is not read-only all the way down: {said:?}"
    );
    let reason = "cannot mount a volume: /data: Function not implemented";
    assert!(said.err.contains(reason), "{said:?}");

    // Owners that are not those on disk.
    let mut bundle = Bundle::new("true");
    let map = json!([{"containerID": 0, "hostID": 70, "size": 1}]);
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.push(json!({
        "destination": "/data", "type": "bind", "source": "rootfs",
        "options": ["bind", "idmap"], "uidMappings": map, "gidMappings": map,
    }));
    let said = bundle.run();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("cannot mount a volume: "), "{said:?}");
    assert!(
        said.err.contains("/rootfs: Function not implemented"),
        "{said:?}"
    );

    // A root of its own among the host's mounts.
    let mut bundle = Bundle::new("true");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut();
    namespaces
        .expect("namespaces")
        .retain(|namespace| namespace["type"] != "mount");
    let said = bundle.run();
    assert_eq!(said.code, 1, "{said:?}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let place = bundle.path("");
    let place = place.to_str().expect("text").trim_end_matches('/');
    assert!(!mounts.contains(place), "{mounts}");
}
