//! What a program in a container tries against the host, and what comes of it. Needs root, busybox-static and nsenter.

mod support;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Bundle, names_below, wait_until};

fn give(bundle: &mut Bundle, capability: &str) {
    for set in ["bounding", "effective", "permitted"] {
        let list = &mut bundle.config["process"]["capabilities"][set];
        list.as_array_mut().unwrap().push(json!(capability));
    }
}

/// CVE-2021-30465: whoever shares a volume swaps a folder in it for a link while another container is mounted there.
#[test]
fn a_target_that_is_swapped_for_a_link_leads_nowhere() {
    let mut bundle = Bundle::new("true");
    let (volume, outside, inner) = (
        bundle.path("volume"),
        bundle.path("outside"),
        bundle.path("inner"),
    );
    for folder in [&volume, &outside, &inner] {
        fs::create_dir(folder).unwrap();
    }
    fs::create_dir(volume.join("place")).unwrap();
    symlink(&outside, volume.join("link")).unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(
        json!({"destination": "/data", "type": "bind", "source": volume, "options": ["rbind"]}),
    );
    mounts.push(
        json!({"destination": "/data/place/deep", "type": "bind", "source": inner, "options": ["rbind"]}),
    );
    bundle.save();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let c = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
            let (a, b) = (c(&volume.join("place")), c(&volume.join("link")));
            while !over.load(Ordering::Relaxed) {
                // SAFETY: both paths are C strings.
                #[allow(unsafe_code, reason = "std cannot exchange two names")]
                unsafe {
                    libc::renameat2(
                        libc::AT_FDCWD,
                        a.as_ptr(),
                        libc::AT_FDCWD,
                        b.as_ptr(),
                        libc::RENAME_EXCHANGE,
                    );
                }
                std::thread::sleep(Duration::from_micros(20));
            }
        });
        // It may be refused, or run; it may not reach outside. In an emulated board a run takes a second.
        let begun = Instant::now();
        for count in 0..60 {
            bundle.runtime(&["run", &bundle.id()]);
            if count > 5 && begun.elapsed() > Duration::from_secs(10) {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(names_below(&outside), Vec::<String>::new());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(outside.to_str().unwrap()));
}

/// CVE-2025-52881: what the runtime writes to /proc goes to the kernel's, whatever is mounted at the container's.
#[test]
fn writes_to_proc_go_to_the_kernel_s() {
    let mut bundle = Bundle::new("ls /proc; echo listed; sleep 60");
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["destination"] == "/proc" {
            *mount = json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"});
        }
    }
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "99"});
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    let id = bundle.id();
    bundle.start(&id);
    wait_until("output", || bundle.out().ends_with("listed\n"));
    assert_eq!(bundle.out(), "listed\n");
    let pid = bundle.state(&id)["pid"].to_string();
    let said = Command::new("nsenter")
        .args(["-t", &pid, "-n", "cat"])
        .arg("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "99\n");
}

#[test]
fn the_kernels_memory_and_its_settings_are_out_of_reach() {
    let said = Bundle::new(
        "[ ! -e /proc/kcore ] && echo 0 || wc -c < /proc/kcore; (echo c > /proc/sysrq-trigger) 2>&1; (echo x > /proc/sys/kernel/core_pattern) 2>&1; \
         (echo 1 > /sys/kernel/uevent_helper) 2>&1; (echo 0 > /sys/module/kernel/parameters/panic) 2>&1; \
         (mount -o remount,rw /sys) 2>&1; (umount /proc/kcore) 2>&1; ls /sys/firmware | wc -l",
    )
    .run();
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.first(), Some(&"0"), "{said:?}");
    assert_eq!(lines.last(), Some(&"0"), "{said:?}");
    assert!(lines.len() >= 6, "{said:?}");
    for line in &lines[1..lines.len() - 1] {
        let refused = [
            "Read-only",
            "No such file",
            "ermission denied",
            "not permitted",
            "nonexistent",
        ];
        assert!(refused.iter().any(|word| line.contains(word)), "{line}");
    }
}

/// With the right to make a node it still cannot be opened: the device controller knows nothing of it.
#[test]
fn device_nodes_are_made_by_few_and_opened_by_none() {
    let script = "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk; mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg; echo end";
    let said = Bundle::new(script).run();
    assert_eq!(said.out, "end\n", "{said:?}");
    assert!(said.err.contains("Operation not permitted"), "{said:?}");
    let mut able = Bundle::new(script);
    give(&mut able, "CAP_MKNOD");
    let said = able.run();
    assert_eq!(said.out, "end\n", "{said:?}");
    assert!(said.err.contains("Operation not permitted"), "{said:?}");
}

#[test]
fn raw_sockets_need_the_capability() {
    let ping = "ip link set lo up 2>/dev/null; ping -c 1 -W 1 127.0.0.1 2>&1";
    let mut without = Bundle::new(ping);
    // Otherwise the kernel lends everybody a kind of socket that sends echoes only.
    without.config["linux"]["sysctl"] = json!({"net.ipv4.ping_group_range": "1 0"});
    let said = without.run();
    assert!(
        said.out.contains("ermission denied") || said.out.contains("not permitted"),
        "{said:?}"
    );
    let mut with = Bundle::new(ping);
    with.config["linux"]["sysctl"] = json!({"net.ipv4.ping_group_range": "1 0"});
    give(&mut with, "CAP_NET_RAW");
    give(&mut with, "CAP_NET_ADMIN");
    let said = with.run();
    assert!(said.out.contains("1 packets received"), "{said:?}");
}

/// Names of abstract sockets belong to the network. In the host's network they are the host's: that is told in
/// docs/threat-model.md, and what the second half shows.
#[test]
fn abstract_sockets_of_the_host_are_out_of_reach_except_in_its_network() {
    use std::os::linux::net::SocketAddrExt;

    let name = format!("coracle-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let script = format!("grep -c {name} /proc/net/unix");
    assert_eq!(Bundle::new(&script).run().out, "0\n");
    let mut open = Bundle::new(&script);
    let namespaces = open.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "network");
    assert_eq!(open.run().out, "1\n");
}

/// A key that only those see who have the caller's session keyring.
#[test]
fn keys_of_the_caller_stay_with_it() {
    const SESSION: libc::c_long = -3;
    const JOIN: libc::c_long = 1;
    const SET_PERMISSION: libc::c_long = 5;
    let name = format!("coracle-secret-{}", std::process::id());
    let c_name = std::ffi::CString::new(name.clone()).unwrap();
    let mut bundle = Bundle::new("cat /proc/keys; echo end");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.save();
    let with_key = |bundle: &Bundle, args: &[&str]| {
        let mut command = bundle.command(args);
        let c_name = c_name.clone();
        // SAFETY: between fork and exec; only system calls are made.
        #[allow(unsafe_code, reason = "a keyring of the caller's own is wanted")]
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, move || {
                let none = std::ptr::null::<libc::c_char>();
                libc::syscall(libc::SYS_keyctl, JOIN, none);
                let kind = c"user".as_ptr();
                let key = libc::syscall(
                    libc::SYS_add_key,
                    kind,
                    c_name.as_ptr(),
                    c"x".as_ptr(),
                    1usize,
                    SESSION,
                );
                if key < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                // Everything for who has it, nothing for its user.
                libc::syscall(libc::SYS_keyctl, SET_PERMISSION, key, 0x3f00_0000_u32);
                Ok(())
            });
        }
        support::said(command.output().unwrap())
    };
    let said = with_key(&bundle, &["run", &bundle.id()]);
    assert!(said.out.ends_with("end\n"), "{said:?}");
    assert!(!said.out.contains(&name), "{said:?}");

    let mut running = Bundle::new("sleep 100");
    running.config["linux"]["maskedPaths"] = json!([]);
    let id = running.id();
    running.start(&id);
    let said = with_key(&running, &["exec", &id, "cat", "/proc/keys"]);
    assert!(said.out.contains("keyring"), "{said:?}");
    assert!(!said.out.contains(&name), "{said:?}");
    assert_eq!(Bundle::new("wc -c < /proc/keys").run().out, "0\n");
}

/// Signals reach the container's own processes and end there.
#[test]
fn signals_from_inside_stay_inside() {
    let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
    let script = format!(
        "(kill -9 {}) 2>&1; sleep 60 & kill -9 -1; echo alive",
        bystander.id()
    );
    let said = Bundle::new(&script).run();
    assert!(said.out.contains("No such process"), "{said:?}");
    assert!(said.out.ends_with("alive\n"), "{said:?}");
    assert!(bystander.try_wait().unwrap().is_none(), "it was killed");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// A container that shares the processes of another finds the runtime's own process there, before the program runs.
#[test]
fn the_waiting_process_cannot_be_looked_into() {
    let first = Bundle::new("true");
    let id = first.id();
    first.create(&id);
    let pid = first.state(&id)["pid"].clone();
    let mut second = Bundle::new(
        "for f in exe root cwd fd/0; do readlink /proc/1/$f || echo no; done; head -c 1 /proc/1/environ || echo no; \
         head -c 1 /proc/1/mem || echo no; (echo 0 > /proc/1/mem) || echo no",
    );
    for namespace in second.config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "pid" {
            namespace["path"] = json!(format!("/proc/{pid}/ns/pid"));
        }
    }
    let said = second.run();
    assert_eq!(said.out, "no\n".repeat(7), "{said:?}");
    assert!(said.err.contains("ermission denied"), "{said:?}");
}

#[test]
fn namespaces_of_another_kind_or_none_are_refused() {
    let decoy = Bundle::new("true");
    fs::write(decoy.path("file"), "").unwrap();
    symlink(decoy.path("file"), decoy.path("link")).unwrap();
    for path in [
        decoy.path("file"),
        decoy.path("link"),
        "/proc/self/ns/uts".into(),
        "/dev/zero".into(),
        "/no/such".into(),
        "proc/self/ns/net".into(),
    ] {
        let mut bundle = Bundle::new("true");
        for namespace in bundle.config["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "network" {
                namespace["path"] = json!(path);
            }
        }
        let said = bundle.run();
        assert_eq!(said.code, 1, "{}: {said:?}", path.display());
    }
}

/// A container that has made a trap of its own files does not hold the exec up, nor lead it outside.
#[test]
fn exec_into_a_hostile_root_ends_by_itself() {
    let bundle = Bundle::new("sleep 60");
    let id = bundle.id();
    bundle.start(&id);
    bundle.ok(&["exec", &id, "mkfifo", "/etc/passwd"]);
    let mut child = bundle
        .command(&["exec", &id, "true"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the end of exec", || child.try_wait().unwrap().is_some());
    assert!(child.wait().unwrap().success());
    // A link without end, and one to the host.
    bundle.ok(&["exec", &id, "ln", "-s", "loop", "/loop"]);
    bundle.refused(&["exec", "--cwd", "/loop", &id, "true"]);
    bundle.ok(&["exec", &id, "ln", "-s", "/proc/self/exe", "/bin/own"]);
    let before = fs::read(support::runtime()).ok();
    bundle.runtime(&["exec", &id, "own", "features"]);
    assert_eq!(fs::read(support::runtime()).ok(), before);
    // The container's own way to a program is no way to the host's.
    let said = bundle.runtime(&["exec", "-e", "PATH=/proc/1/root/../../../bin", &id, "dpkg"]);
    assert_ne!(said.code, 0, "{said:?}");
}

/// Variables with line breaks, without a name or a value change nothing but themselves.
#[test]
fn variables_cannot_bring_in_others() {
    let mut bundle = Bundle::new("env | grep -c ^EVIL; echo \"$GOOD\"");
    bundle.config["process"]["env"] = json!(["PATH=/bin", "GOOD=x\nEVIL=1", "=EVIL=2", "EVIL"]);
    let said = bundle.run();
    // The line break stands in a value: `env` shows it as a line, and nobody has a variable of that name.
    assert!(said.out.contains("x\nEVIL=1"), "{said:?}");
    let mut asked = Bundle::new("echo \"[$EVIL]\"");
    asked.config["process"]["env"] = json!(["PATH=/bin", "GOOD=x\nEVIL=1", "=EVIL=2"]);
    assert_eq!(asked.run().out, "[]\n");
    let mut zero = Bundle::new("true");
    zero.config["process"]["env"] = json!(["PATH=/bin", "A=\u{0}EVIL=1"]);
    assert_eq!(zero.run().code, 1);
}

/// What the processor runs beside its own programs: number in a file's head, flags, getpid that ends with the error's number
/// (`int 0x80`; `svc`), and both architectures by seccomp's names.
#[cfg(target_arch = "x86_64")]
const SMALL: (u16, u32, &[u8], [&str; 2]) = (
    3,
    0,
    &[
        0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xf7, 0xd8, 0x89, 0xc3, 0xb8, 1, 0, 0, 0, 0xcd, 0x80,
    ],
    ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
);
#[cfg(target_arch = "aarch64")]
const SMALL: (u16, u32, &[u8], [&str; 2]) = (
    40,
    0x0500_0000,
    &[
        0x14, 0x70, 0xa0, 0xe3, 0, 0, 0, 0xef, 0, 0, 0x60, 0xe2, 1, 0x70, 0xa0, 0xe3, 0, 0, 0, 0xef,
    ],
    ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
);

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn program_of_32_bits() -> Vec<u8> {
    const AT: u32 = 0x0804_8000;
    let (machine, flags, code, _) = SMALL;
    let length = (52 + 32 + code.len()) as u32;
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    // Executable, machine, version, entry, program headers, none of sections, flags, sizes and counts (elf(5)).
    let halves = |file: &mut Vec<u8>, all: &[u16]| {
        all.iter().for_each(|one| file.extend(one.to_le_bytes()));
    };
    let words = |file: &mut Vec<u8>, all: &[u32]| {
        all.iter().for_each(|one| file.extend(one.to_le_bytes()));
    };
    halves(&mut file, &[2, machine]);
    words(&mut file, &[1, AT + 84, 52, 0, flags]);
    halves(&mut file, &[52, 32, 1, 0, 0, 0]);
    // One part, all of it, to read and execute.
    words(&mut file, &[1, 0, AT, AT, length, length, 5, 4096]);
    file.extend(code);
    file
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn programs_of_32_bits_run_under_a_profile_that_knows_them() {
    use std::os::unix::fs::PermissionsExt;
    let run = |architectures: &[&str]| {
        let mut bundle = Bundle::new("");
        let program = bundle.root().join("bin/small");
        std::fs::write(&program, program_of_32_bits()).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        bundle.config["process"]["args"] = json!(["/bin/sh", "-c", "/bin/small; exit $?"]);
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": architectures,
            "syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 42}],
        });
        bundle.run().code
    };
    let both = SMALL.3;
    assert_eq!(run(&both), 42);
    assert_eq!(run(&both[..1]), 128 + libc::SIGSYS);
}
