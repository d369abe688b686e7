//! Images and callers that mean harm: one test for each way that has been known to work. Needs root and busybox-static.

mod support;

use std::fs;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use support::{Bundle, names_below, wait_until};

/// Replaces a folder of the image by a link.
fn link_in_image(bundle: &Bundle, name: &str, to: &Path) {
    let path = bundle.root().join(name);
    let _ = fs::remove_dir_all(&path);
    symlink(to, path).unwrap();
}

/// CVE-2026-41579, CVE-2026-47766: an image whose /dev is a link to a folder of the host.
#[test]
fn dev_as_a_link_makes_nothing_outside() {
    for with_mount in [true, false] {
        let mut bundle = Bundle::new("true");
        let outside = bundle.path("outside");
        fs::create_dir(&outside).unwrap();
        link_in_image(&bundle, "dev", &outside);
        if !with_mount {
            bundle.config["mounts"] = json!([]);
        }
        bundle.config["linux"]["devices"] =
            json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3}]);
        let said = bundle.run();
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("/dev is not a folder"), "{said:?}");
        assert!(names_below(&outside).is_empty());
    }
}

/// The same by way of a volume: the link leads to where a folder of the host is mounted.
#[test]
fn dev_as_a_link_to_a_volume_makes_nothing_in_it() {
    let mut bundle = Bundle::new("true");
    let volume = bundle.path("volume");
    fs::create_dir(&volume).unwrap();
    link_in_image(&bundle, "dev", Path::new("/data"));
    bundle.config["mounts"] = json!([
        {"destination": "/data", "type": "bind", "source": volume, "options": ["rbind"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
    ]);
    assert_eq!(bundle.run().code, 1);
    bundle.config["mounts"] =
        json!([{"destination": "/data", "type": "bind", "source": volume, "options": ["rbind"]}]);
    assert_eq!(bundle.run().code, 1);
    assert!(names_below(&volume).is_empty());
}

/// A device below a folder of the image that is a link.
#[test]
fn devices_are_made_behind_no_link() {
    let mut bundle = Bundle::new("true");
    let volume = bundle.path("volume");
    fs::create_dir(&volume).unwrap();
    link_in_image(&bundle, "nodes", Path::new("/data"));
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(
        json!({"destination": "/data", "type": "bind", "source": volume, "options": ["rbind"]}),
    );
    bundle.config["linux"]["devices"] =
        json!([{"path": "/nodes/disk", "type": "b", "major": 8, "minor": 0}]);
    let said = bundle.run();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(names_below(&volume).is_empty());
}

#[test]
fn proc_and_sys_as_links_mount_nothing_outside() {
    for name in ["proc", "sys"] {
        let bundle = Bundle::new("true");
        let outside = bundle.path("outside");
        fs::create_dir(&outside).unwrap();
        link_in_image(&bundle, name, &outside);
        let said = bundle.run();
        assert_eq!(said.code, 1, "{said:?}");
        assert!(
            said.err.contains(&format!("/{name} is not a folder")),
            "{said:?}"
        );
        assert!(names_below(&outside).is_empty());
    }
}

/// CVE-2021-30465 and its like: targets of mounts are looked up inside the root.
#[test]
fn targets_of_mounts_stay_inside() {
    let mut bundle = Bundle::new("ls /in");
    let (outside, volume) = (bundle.path("outside"), bundle.path("volume"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "").unwrap();
    for (number, link) in [
        outside.clone(),
        "../../../../../../..".into(),
        "/proc/self/root".into(),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("link{number}");
        link_in_image(&bundle, &name, link);
        bundle.config["mounts"].as_array_mut().unwrap().push(
            json!({"destination": format!("/{name}/in"), "type": "bind", "source": volume, "options": ["rbind"]}),
        );
    }
    let said = bundle.run();
    assert!(names_below(&outside).is_empty(), "{said:?}");
    assert!(!Path::new("/in").exists(), "{said:?}");
}

/// A process that reads its own /proc while it is being confined must not be fed something else.
#[test]
fn nothing_is_mounted_in_proc() {
    let mut bundle = Bundle::new("true");
    fs::write(bundle.path("fake"), "").unwrap();
    for target in [
        "/proc/self/attr/exec",
        "/proc/sys/kernel/hostname",
        "/proc/1",
        "/proc",
    ] {
        let mut changed = bundle.config.clone();
        let mounts = changed["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": target, "type": "bind", "source": bundle.path("fake"), "options": ["bind"]}));
        std::mem::swap(&mut bundle.config, &mut changed);
        let said = bundle.run();
        assert_eq!(said.code, 1, "{target}: {said:?}");
        std::mem::swap(&mut bundle.config, &mut changed);
    }
}

/// CVE-2024-21626: a working directory by way of a descriptor that leads to the host's files.
#[test]
fn the_working_directory_is_inside() {
    use std::os::fd::AsRawFd;

    let mut bundle = Bundle::new("cat ../../../../etc/hostname; ls");
    // One that the caller wants preserved is the worst case.
    let host = fs::File::open("/").unwrap();
    for number in 3..12 {
        bundle.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        bundle.save();
        let id = bundle.id();
        let mut command = bundle.command(&["run", "--preserve-fds", "3", &id]);
        let fd = host.as_raw_fd();
        // SAFETY: between fork and exec; dup2 may be called there.
        #[allow(unsafe_code, reason = "a descriptor must be given away")]
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, move || {
                let away = libc::fcntl(fd, libc::F_DUPFD, 20);
                for target in 3..6 {
                    if libc::dup2(away, target) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let said = support::said(command.output().unwrap());
        assert_eq!(said.code, 1, "{number}: {said:?}");
        assert!(said.out.is_empty(), "{said:?}");
        bundle.refused(&["state", &id]);
    }
}

/// The same by exec, and a folder of the image that is a link there.
#[test]
fn the_working_directory_of_exec_is_inside() {
    let bundle = Bundle::new("sleep 60");
    let id = bundle.id();
    bundle.start(&id);
    for number in 3..20 {
        let cwd = format!("/proc/self/fd/{number}");
        let said = bundle.runtime(&["exec", "--cwd", &cwd, &id, "ls"]);
        assert_eq!(said.code, 1, "{number}: {said:?}");
    }
    bundle.ok(&["exec", &id, "mkdir", "/links"]);
    symlink("/proc/self/fd/7", bundle.root().join("links/seven")).unwrap();
    assert_eq!(
        bundle
            .runtime(&["exec", "--cwd", "/links/seven", &id, "ls"])
            .code,
        1
    );
}

/// The published attack: finds the runtime's process, opens its program, waits for its end, and writes to it then. What it
/// could do it writes down, a line each time.
const OVERWRITE: &str = r#"#!/bin/sh
while true; do
  for exe in /proc/[0-9]*/exe; do
    case $(readlink $exe) in "" | */busybox) continue ;; esac
    { command exec 9< $exe; } 2>/dev/null || continue
    echo held >> /tmp/held
    while test -e ${exe%/exe}; do sleep 0.01; done
    for try in 1 2 3 4 5; do
      (echo spoilt > /proc/self/fd/9) 2>/dev/null && echo wrote >> /tmp/wrote
    done
    exec 9<&-
    echo tried >> /tmp/tried
  done
done
"#;

/// An image that is to run the runtime brings what it is linked to; a static one needs nothing.
fn bring_libraries(bundle: &Bundle) {
    // As ldd asks (ld.so(8)), which not every board has.
    let listed = Command::new(support::runtime())
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for path in listed
        .split_whitespace()
        .filter(|word| word.starts_with('/') && word.contains(".so"))
    {
        let to = bundle.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path, to).unwrap();
    }
}

/// CVE-2019-5736: the image's program is this one, and its root writes to it.
#[test]
fn the_runtime_cannot_be_overwritten() {
    const ROUNDS: usize = 10;
    let before = fs::read(support::runtime()).unwrap();
    let mut bundle = Bundle::new("sleep 60");
    fs::write(bundle.root().join("attack"), OVERWRITE).unwrap();
    bring_libraries(&bundle);
    let id = bundle.id();
    bundle.start(&id);
    // The runtime inside waits for a configuration from there, so that nobody can be too slow to hold it.
    bundle.ok(&["exec", &id, "mkdir", "/bundle"]);
    bundle.ok(&["exec", &id, "mkfifo", "/bundle/config.json"]);
    let mut attack = bundle.command(&["exec", "-d", &id, "/bin/sh", "/attack"]);
    // It would hold a pipe open for as long as it runs.
    let attack = attack.stdout(Stdio::null()).stderr(Stdio::null());
    assert!(attack.status().unwrap().success());
    let told = |name: &str| {
        let text = fs::read_to_string(bundle.root().join("tmp").join(name));
        text.unwrap_or_default().lines().count()
    };
    for round in 1..=ROUNDS {
        let mut victim = bundle
            .command(&["exec", &id, "/proc/self/exe", "run", "-b", "/bundle", "x"])
            .spawn()
            .unwrap();
        wait_until("the attack to hold the program", || told("held") >= round);
        wait_until("the runtime inside to read", || {
            let fifo = bundle.root().join("bundle/config.json");
            let mut options = fs::File::options();
            options.write(true).custom_flags(libc::O_NONBLOCK);
            options.open(fifo).is_ok()
        });
        assert!(!victim.wait().unwrap().success());
        wait_until("the attack to write", || told("tried") >= round);
    }
    assert_eq!(told("wrote"), 0);
    assert_eq!(fs::read(support::runtime()).unwrap(), before);

    // What is executed by that name is the runtime itself.
    let said = bundle.runtime(&["exec", &id, "/proc/self/exe", "--version"]);
    assert!(said.out.contains("coracle-runtime version"), "{said:?}");
    // Whichever process of ours is seen from inside, its program cannot be written to.
    for pid in 1..40 {
        let said = bundle.runtime(&[
            "exec",
            &id,
            "/bin/sh",
            "-c",
            &format!("(echo spoilt > /proc/{pid}/exe) 2>&1"),
        ]);
        assert_ne!(said.code, 0, "{said:?}");
    }
    bundle.config["process"]["args"] = json!(["/proc/self/exe", "--version"]);
    let said = bundle.run();
    assert!(said.code == 1 || said.out.contains("version"), "{said:?}");

    // A script whose interpreter is the runtime, as the published attack had it.
    fs::write(bundle.root().join("bin/evil"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(
        bundle.root().join("bin/evil"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    bundle.config["process"]["args"] = json!(["/bin/evil"]);
    bundle.run();
    assert_eq!(fs::read(support::runtime()).unwrap(), before);
}

/// The program that runs as /proc/self/exe lies on a read-only mount of its own, or in sealed memory.
#[test]
fn the_program_in_a_container_is_sealed() {
    let bundle = Bundle::new("sleep 60");
    let id = bundle.id();
    bundle.create(&id);
    let pid = &bundle.state(&id)["pid"];
    let program = fs::File::open(format!("/proc/{pid}/exe")).unwrap();
    let on_readonly = nix::sys::statvfs::fstatvfs(&program)
        .unwrap()
        .flags()
        .contains(nix::sys::statvfs::FsFlags::ST_RDONLY);
    let seals = nix::fcntl::fcntl(&program, nix::fcntl::FcntlArg::F_GET_SEALS).unwrap_or(0);
    assert!(on_readonly || seals & libc::F_SEAL_WRITE != 0);
}

#[test]
fn descriptors_do_not_leak() {
    let count = "ls /proc/self/fd | wc -l";
    let bundle = Bundle::new(&format!("{count}; sleep 60"));
    let id = bundle.id();
    bundle.start(&id);
    wait_until("output", || !bundle.out().is_empty());
    // 0, 1, 2, and the one that ls opens.
    assert_eq!(bundle.out(), "4\n");
    assert_eq!(bundle.ok(&["exec", &id, "sh", "-c", count]), "4\n");
}

#[test]
fn preserved_descriptors_are_those_and_no_more() {
    use std::os::fd::AsRawFd;

    let bundle = Bundle::new("cat <&3; ls /proc/self/fd | wc -l");
    fs::write(bundle.path("note"), "passed\n").unwrap();
    let note = fs::File::open(bundle.path("note")).unwrap();
    bundle.save();
    let mut command = bundle.command(&["run", "--preserve-fds", "1", &bundle.id()]);
    let fd = note.as_raw_fd();
    // SAFETY: between fork and exec; dup2 may be called there.
    #[allow(unsafe_code, reason = "a descriptor must be given away")]
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, move || {
            let away = libc::fcntl(fd, libc::F_DUPFD, 20);
            for target in [3, 4] {
                if libc::dup2(away, target) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    let said = support::said(command.output().unwrap());
    assert_eq!(said.out, "passed\n5\n", "{said:?}");
}

/// CVE-2025-31133: what lies over a masked path is the host's /dev/null, whatever the image's is.
#[test]
fn masks_are_not_the_image_s() {
    let mut bundle = Bundle::new(
        "cat /proc/kcore | wc -c; echo 1 > /proc/sysrq-trigger; cat /proc/timer_list | wc -c",
    );
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| {
        mount["destination"]
            .as_str()
            .is_some_and(|path| !path.starts_with("/dev"))
    });
    symlink(
        "/proc/sys/kernel/core_pattern",
        bundle.root().join("dev/null"),
    )
    .unwrap();
    let said = bundle.run();
    // Such an image is not even started: its /dev/null is something else.
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("something else"), "{said:?}");
}

/// CVE-2025-52565: /dev/console of the image is a link.
#[test]
fn the_console_is_mounted_on_no_link() {
    let mut bundle = Bundle::new("true");
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/dev");
    symlink(
        "/proc/sys/kernel/core_pattern",
        bundle.root().join("dev/console"),
    )
    .unwrap();
    bundle.config["process"]["terminal"] = json!(true);
    let said = bundle.run();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("/dev/console is a link"), "{said:?}");
}

/// The same two as races: while containers are launched, what is at the name is exchanged for a link to a file of the
/// kernel's and back. Whether it is refused or runs, that file is mounted nowhere, and nothing on it.
#[test]
fn what_is_exchanged_for_a_link_during_a_launch_leads_nowhere() {
    const RUNS: usize = 60;
    let pattern = "/proc/sys/kernel/core_pattern";
    let before = fs::read(pattern).unwrap();
    for (name, terminal) in [("null", false), ("console", true)] {
        let mut bundle = Bundle::new(
            "(echo spoilt > /proc/timer_list) 2> /tmp/said; grep -c core_pattern /proc/self/mountinfo",
        );
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/dev");
        bundle.config["process"]["terminal"] = json!(terminal);
        let dev = bundle.root().join("dev");
        let (node, link) = (dev.join(name), dev.join("link"));
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        let null = nix::sys::stat::makedev(1, 3);
        nix::sys::stat::mknod(&node, nix::sys::stat::SFlag::S_IFCHR, mode, null).unwrap();
        symlink(pattern, &link).unwrap();
        let ended = std::sync::atomic::AtomicBool::new(false);
        let (started, exchanges) = std::thread::scope(|scope| {
            use std::sync::atomic::Ordering::Relaxed;
            let swapper = scope.spawn(|| {
                let mut exchanges = 0_usize;
                while !ended.load(Relaxed) {
                    exchange(&node, &link);
                    exchanges += 1;
                }
                exchanges
            });
            let started = (0..RUNS)
                .map(|_| bundle.run())
                .filter(|said| match said.code {
                    1 if said.out.is_empty() => {
                        assert!(said.err.contains("/dev/"), "{said:?}");
                        false
                    }
                    // Of grep, which found nothing.
                    1 => {
                        assert_eq!(said.out.trim_end(), "0", "{said:?}");
                        true
                    }
                    _ => panic!("{said:?}"),
                })
                .count();
            ended.store(true, Relaxed);
            (started, swapper.join().unwrap())
        });
        assert!(exchanges > RUNS, "{exchanges} exchanges in {RUNS} launches");
        assert!(
            (1..RUNS).contains(&started),
            "{name}: {started} of {RUNS} ran, so that nothing was raced"
        );
    }
    assert_eq!(fs::read(pattern).unwrap(), before);
}

fn exchange(one: &Path, other: &Path) {
    let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
    nix::fcntl::renameat2(
        nix::fcntl::AT_FDCWD,
        one,
        nix::fcntl::AT_FDCWD,
        other,
        flags,
    )
    .unwrap();
}

/// An image may put anything where a terminal is looked for.
#[test]
fn a_terminal_comes_from_a_devpts_only() {
    let bundle = Bundle::new("sleep 60");
    let id = bundle.id();
    bundle.start(&id);
    assert_eq!(bundle.runtime(&["exec", "-t", &id, "true"]).code, 0);

    let mut bundle = Bundle::new("sleep 60");
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/dev/pts");
    let id = bundle.id();
    bundle.start(&id);
    bundle.ok(&["exec", &id, "mkdir", "/dev/pts"]);
    bundle.ok(&["exec", &id, "touch", "/dev/pts/ptmx"]);
    let message = bundle.refused(&["exec", "-t", &id, "true"]);
    assert!(message.contains("no terminal multiplexer"), "{message}");
}

/// CVE-2022-0492: the container's cgroup has no release_agent that it could write, and none can be had.
#[test]
fn cgroups_cannot_be_written() {
    let bundle = Bundle::new(
        "cd /sys/fs/cgroup; for f in */release_agent */notify_on_release */tasks */cgroup.procs cgroup.procs cgroup.subtree_control \
         memory.max; do test -e $f && echo \"$f: $( (echo 0 > $f) 2>&1 && echo written)\"; done; \
         for f in . */; do test -d $f && echo \"$f: $(mkdir $f/x 2>&1 && echo written)\"; done; \
         for kind in cgroup cgroup2; do echo \"$kind: $(mount -t $kind c /tmp 2>&1 && echo mounted)\"; done",
    );
    let said = bundle.run();
    let (mounts, files): (Vec<&str>, Vec<&str>) = said
        .out
        .lines()
        .partition(|line| line.starts_with("cgroup: ") || line.starts_with("cgroup2: "));
    for line in &files {
        assert!(line.ends_with("Read-only file system"), "{said:?}");
    }
    for line in &mounts {
        assert!(
            line.to_lowercase().contains("permission denied")
                || line.contains("Operation not permitted"),
            "{said:?}"
        );
    }
    assert_eq!(mounts.len(), 2, "{said:?}");
    let is_of_one_process = |line: &&&str| {
        let file = line.split(':').next().unwrap_or_default();
        file.ends_with("cgroup.procs")
    };
    let hierarchies = files.iter().filter(is_of_one_process).count();
    let seen = if Path::new("/sys/fs/cgroup/cgroup.procs").exists() {
        1
    } else {
        // Those that the runtime makes folders in are those with a controller.
        fs::read_to_string("/proc/self/cgroup")
            .unwrap()
            .lines()
            .filter(|line| !line.contains("::") && !line.contains("name="))
            .count()
    };
    assert!(hierarchies >= seen && seen > 0, "{said:?}");
}

/// Sysctls of the host, in whatever spelling.
#[test]
fn sysctls_of_the_host_are_refused() {
    for name in [
        "kernel.core_pattern",
        "vm.overcommit_memory",
        "net/../kernel.core_pattern",
        "net..kernel",
        "kernel.hostname/x",
    ] {
        let mut bundle = Bundle::new("true");
        bundle.config["linux"]["sysctl"] = json!({name: "1"});
        let said = bundle.run();
        assert_eq!(said.code, 1, "{name}: {said:?}");
        assert!(said.err.contains("is not the container's own"), "{said:?}");
    }
}

/// The state folder is nothing that a container could be made to write to.
#[test]
fn states_are_for_root_alone() {
    let bundle = Bundle::new("sleep 60");
    let id = bundle.id();
    bundle.start(&id);
    let states = bundle.path("states");
    assert_eq!(
        fs::metadata(&states).unwrap().permissions().mode() & 0o777,
        0o700
    );
    for file in ["state.json", "config.json"] {
        let path = states.join(&id).join(file);
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    assert!(
        !states.join(&id).join("start.sock").exists(),
        "nobody can start it twice"
    );
    let made = bundle.path("states/link");
    symlink("/tmp", &made).unwrap();
    assert_eq!(
        bundle.runtime(&["state", "link"]).code,
        1,
        "a state is no link"
    );
    fs::remove_file(made).unwrap();
    assert!(
        fs::symlink_metadata(states.join(&id))
            .unwrap()
            .file_type()
            .is_dir()
    );
    assert!(!fs::metadata(states).unwrap().file_type().is_socket());
}

/// The caller's environment and keys stay outside.
#[test]
fn the_environment_is_the_configuration_s() {
    let bundle = Bundle::new("env");
    bundle.save();
    let mut command = bundle.command(&["run", &bundle.id()]);
    command
        .env("LD_PRELOAD_SECRET", "x")
        .env("NOTIFY_SOCKET", "/x");
    let said = support::said(command.output().unwrap());
    let names: Vec<&str> = said
        .out
        .lines()
        .filter_map(|line| line.split('=').next())
        .collect();
    for name in &names {
        assert!(
            ["PATH", "TERM", "HOME", "PWD", "SHLVL"].contains(name),
            "{said:?}"
        );
    }
}
