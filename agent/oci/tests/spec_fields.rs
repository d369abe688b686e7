//! Fields of the specification that change what a program sees of its kernel: one test each, read back where the kernel shows
//! it. Needs root and busybox-static.

mod support;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::mount::{MntFlags, MsFlags};
use serde_json::json;
use support::{Bundle, cgroup, not_here, wait_until};

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A number of proc_pid_stat(5), counted as there.
fn stat_field(text: &str, number: usize) -> &str {
    // The second one is a name, which may have anything in it but this.
    let after = text.rsplit_once(") ").expect("a name").1;
    after.split(' ').nth(number - 3).expect("a field").trim()
}

/// A major and minor number of a disk that is there. Where none is, that is told of the test by name.
fn disk(test: &str) -> Option<String> {
    let found = any_disk();
    if found.is_none() {
        not_here(test, "this machine has no disk");
    }
    found
}

fn any_disk() -> Option<String> {
    let entries = fs::read_dir("/sys/block").ok()?;
    let disks = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?.to_owned();
        let others = ["loop", "ram", "zram", "dm-", "md", "nbd"];
        if others.iter().any(|other| name.starts_with(other)) {
            return None;
        }
        fs::read_to_string(path.join("dev")).ok()
    });
    disks.map(|dev| dev.trim().to_owned()).next()
}

#[test]
fn personality_is_of_the_program() {
    let mut bundle = Bundle::new("cat /proc/self/personality");
    assert_eq!(bundle.run().out, "00000000\n");
    // PER_LINUX32
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    assert_eq!(bundle.run().out, "00000008\n");
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32", "flags": ["x"]});
    assert_eq!(bundle.run().code, 1);
}

#[test]
fn io_priority_is_of_the_program() {
    let mut bundle = Bundle::new("busybox ionice -p $$");
    for (class, level, shown) in [
        ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
    ] {
        bundle.config["process"]["ioPriority"] = json!({"class": class, "priority": level});
        let said = bundle.run();
        assert!(said.out.starts_with(shown), "{class}: {said:?}");
    }
    bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 8});
    let said = bundle.run();
    assert!(said.err.contains("ioPriority 8"), "{said:?}");
}

#[test]
fn scheduler_is_of_the_program() {
    let mut bundle = Bundle::new("cat /proc/self/stat");
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    let said = bundle.run();
    // nice, and SCHED_BATCH
    assert_eq!(
        (stat_field(&said.out, 19), stat_field(&said.out, 41)),
        ("5", "3"),
        "{said:?}"
    );
}

/// Kernels without NUMA have no policy to set.
#[test]
fn memory_policy_is_of_the_program() {
    let mut bundle = Bundle::new("head -n 1 /proc/self/numa_maps");
    bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"});
    let said = bundle.run();
    if Path::new("/proc/self/numa_maps").exists() {
        assert!(said.out.contains(" bind:0 "), "{said:?}");
    } else {
        assert!(said.err.contains("memory policy"), "{said:?}");
    }
}

#[test]
fn domainname_is_of_the_container() {
    let before = fs::read("/proc/sys/kernel/domainname").unwrap();
    let mut bundle = Bundle::new("cat /proc/sys/kernel/domainname");
    bundle.config["domainname"] = json!("boats.example");
    assert_eq!(bundle.run().out, "boats.example\n");
    assert_eq!(fs::read("/proc/sys/kernel/domainname").unwrap(), before);
}

/// What mountinfo says between the options and the hyphen of the root's line (proc_pid_mountinfo(5)).
#[test]
fn root_propagation_is_as_asked() {
    for (wanted, shown) in [
        ("private", ""),
        ("shared", "shared:"),
        ("unbindable", "unbindable"),
    ] {
        let mut bundle = Bundle::new("cat /proc/self/mountinfo");
        bundle.config["linux"]["rootfsPropagation"] = json!(wanted);
        let said = bundle.run();
        let mut lines = said.out.lines();
        let root = lines.find(|line| line.split(' ').nth(4) == Some("/"));
        let optional = root.and_then(|line| line.split(' ').nth(6));
        let optional = optional.expect("a root");
        match shown {
            "" => assert_eq!(optional, "-", "{wanted}: {said:?}"),
            _ => assert!(optional.starts_with(shown), "{wanted}: {said:?}"),
        }
    }
}

/// The optional fields of a mount's line: what it gets from others, and with whom it shares what it does.
fn propagation_of(mountinfo: &str, target: &str) -> Vec<String> {
    let mut lines = mountinfo.lines();
    let line = lines.find(|line| line.split(' ').nth(4) == Some(target));
    let fields = line.expect("its line").split(' ').skip(6);
    fields
        .take_while(|field| *field != "-")
        .map(str::to_owned)
        .collect()
}

/// A file system of the host's that other mounts may share; it goes with this.
struct Shared(PathBuf);

impl Shared {
    fn on(folder: PathBuf) -> Shared {
        fs::create_dir(&folder).unwrap();
        let mount = |kind: Option<&str>, flags| {
            let none = None::<&str>;
            nix::mount::mount(kind, &folder, kind, flags, none).unwrap();
        };
        mount(Some("tmpfs"), MsFlags::empty());
        mount(None, MsFlags::MS_SHARED);
        Shared(folder)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Of a volume on a mount that the host shares.
#[test]
fn propagation_of_a_volume_is_as_asked() {
    let place = Bundle::new("true");
    let volume = Shared::on(place.path("volume"));
    let of_volume = |wanted: &str, root: Option<&str>| {
        let mut bundle = Bundle::new("cat /proc/self/mountinfo");
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        let options = ["rbind", wanted];
        mounts.push(
            json!({"destination": "/data", "type": "bind", "source": volume.0, "options": options}),
        );
        bundle.config["linux"]["rootfsPropagation"] = json!(root);
        let said = bundle.run();
        assert_eq!(said.code, 0, "{wanted}: {said:?}");
        propagation_of(&said.out, "/data")
    };
    let ours = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let shared = propagation_of(&ours, volume.0.to_str().unwrap());
    let master = [shared[0].replace("shared:", "master:")];

    for root in [None, Some("shared")] {
        assert!(of_volume("rprivate", root).is_empty(), "{root:?}");
        for wanted in ["slave", "rslave"] {
            assert_eq!(of_volume(wanted, root), master, "{wanted}, {root:?}");
        }
        assert_eq!(of_volume("runbindable", root), ["unbindable"], "{root:?}");
    }
    // What is mounted there inside reaches the host only when the root does not keep it back.
    assert_eq!(of_volume("rshared", Some("shared")), shared);
    let told = of_volume("rshared", None);
    assert!(
        told[0].starts_with("shared:") && told[0] != shared[0] && told[1..] == master,
        "{told:?}, the host's: {shared:?}"
    );
}

#[test]
fn rates_of_a_disk_are_in_its_cgroup() {
    let Some(disk) = disk("rates_of_a_disk_are_in_its_cgroup") else {
        return;
    };
    let (major, minor) = disk.split_once(':').unwrap();
    let one = |rate: u64| json!([{"major": major.parse::<u32>().unwrap(), "minor": minor.parse::<u32>().unwrap(), "rate": rate}]);
    let mut bundle = Bundle::new("sleep 60");
    bundle.config["linux"]["resources"]["blockIO"] = json!({
        "throttleReadBpsDevice": one(1_000_000),
        "throttleWriteBpsDevice": one(2_000_000),
        "throttleReadIOPSDevice": one(300),
        "throttleWriteIOPSDevice": one(400),
    });
    let id = bundle.id();
    bundle.start(&id);
    let name = format!("coracle-runtime-{id}");
    if is_v2() {
        let text = fs::read_to_string(cgroup(&name).join("io.max")).unwrap();
        let line = format!("{disk} rbps=1000000 wbps=2000000 riops=300 wiops=400");
        assert_eq!(text.trim(), line);
        return;
    }
    let folder = Path::new("/sys/fs/cgroup/blkio").join(&name);
    for (file, rate) in [
        ("read_bps", 1_000_000),
        ("write_bps", 2_000_000),
        ("read_iops", 300),
        ("write_iops", 400),
    ] {
        let path = folder.join(format!("blkio.throttle.{file}_device"));
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text.trim(), format!("{disk} {rate}"), "{file}");
    }
}

/// Only some schedulers of disks have weights: the number is there, or the container is refused by the file's name.
#[test]
fn weight_of_a_disk_is_in_its_cgroup_or_refused_by_name() {
    let Some(disk) = disk("weight_of_a_disk_is_in_its_cgroup_or_refused_by_name") else {
        return;
    };
    let (major, minor) = disk.split_once(':').unwrap();
    let mut bundle = Bundle::new("sleep 60");
    bundle.config["linux"]["resources"]["blockIO"] = json!({"weightDevice": [
        {"major": major.parse::<u32>().unwrap(), "minor": minor.parse::<u32>().unwrap(), "weight": 300}
    ]});
    bundle.save();
    let id = bundle.id();
    let out = fs::File::create(bundle.path("out")).unwrap();
    let err = fs::File::create(bundle.path("err")).unwrap();
    let mut command = bundle.command(&["create", &id]);
    let status = command.stdout(out).stderr(err).status().unwrap();
    if !status.success() {
        let said = fs::read_to_string(bundle.path("err")).unwrap();
        let file = if is_v2() {
            "io.weight"
        } else {
            "weight_device"
        };
        assert!(said.contains(file), "{said}");
        return;
    }
    let name = format!("coracle-runtime-{id}");
    let files = [
        cgroup(&name).join("io.weight"),
        Path::new("/sys/fs/cgroup/blkio")
            .join(&name)
            .join("blkio.weight_device"),
        Path::new("/sys/fs/cgroup/blkio")
            .join(&name)
            .join("blkio.bfq.weight_device"),
    ];
    let texts: Vec<String> = files
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    // 300 of 10 to 1000 on v2's scale of 1 to 10000.
    let lines = [format!("{disk} 300"), format!("{disk} 2930")];
    assert!(
        texts
            .iter()
            .any(|text| text.lines().any(|line| lines.iter().any(|one| line == one))),
        "{texts:?}"
    );
}

#[test]
fn an_idle_cpu_share_is_in_its_cgroup() {
    let mut bundle = Bundle::new("sleep 60");
    bundle.config["linux"]["resources"]["cpu"] = json!({"idle": 1});
    bundle.save();
    let id = bundle.id();
    let out = fs::File::create(bundle.path("out")).unwrap();
    let err = fs::File::create(bundle.path("err")).unwrap();
    let mut command = bundle.command(&["create", &id]);
    if command.stdout(out).stderr(err).status().unwrap().success() {
        // On v1 the hierarchy is called after all that are in it, and not on every machine by a link of this one's name too.
        let tops = ["", "cpu", "cpu,cpuacct"].map(|top| Path::new("/sys/fs/cgroup").join(top));
        let files = tops.map(|top| top.join(format!("coracle-runtime-{id}/cpu.idle")));
        let told = files.iter().find_map(|file| fs::read_to_string(file).ok());
        assert_eq!(told.as_deref(), Some("1\n"));
    } else {
        // Kernels before 5.15.
        let said = fs::read_to_string(bundle.path("err")).unwrap();
        assert!(said.contains("cpu.idle"), "{said}");
    }
}

/// Files of v2 by their own names; v1 has none of them, and says so.
#[test]
fn unified_limits_are_written_or_refused() {
    let mut bundle = Bundle::new("cat /sys/fs/cgroup/memory.high");
    bundle.config["linux"]["resources"]["unified"] = json!({"memory.high": "33554432"});
    let said = bundle.run();
    if is_v2() {
        assert_eq!(said.out, "33554432\n", "{said:?}");
    } else {
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("resources.unified"), "{said:?}");
        return;
    }

    // Few kernels are built with it: Debian's are not.
    let Some(disk) = any_disk() else {
        return;
    };
    let mut bundle = Bundle::new("cat /sys/fs/cgroup/io.latency");
    let line = format!("{disk} target=75000");
    bundle.config["linux"]["resources"]["unified"] = json!({"io.latency": line});
    let said = bundle.run();
    if said.code == 0 {
        assert_eq!(said.out, format!("{line}\n"));
    } else {
        assert!(said.err.contains("io.latency"), "{said:?}");
        assert!(!has_io_latency(), "{said:?}");
    }
}

/// In a folder for IO: the top has none of these files.
fn has_io_latency() -> bool {
    let folder = Path::new("/sys/fs/cgroup").join(format!("latency-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let there = |name: &str| folder.join(name).exists();
    let (latency, io) = (there("io.latency"), there("io.max"));
    fs::remove_dir(&folder).unwrap();
    assert!(io, "the runtime has not switched IO on below the top");
    latency
}

/// In the foreground the container's terminal has the size of the caller's, also when that changes.
#[test]
fn a_terminal_follows_the_size_of_the_callers() {
    let mut bundle = Bundle::new(
        "trap 'stty size' WINCH; stty size; for i in 1 2 3 4 5 6 7 8 9; do sleep 1; done",
    );
    bundle.config["process"]["terminal"] = json!(true);
    bundle.save();
    let id = bundle.id();
    let terminal = nix::pty::openpty(None, None).unwrap();
    let resize = |rows: &str, columns: &str| {
        let mut stty = std::process::Command::new("stty");
        stty.args(["rows", rows, "cols", columns]);
        let stdin = terminal.slave.try_clone().unwrap();
        assert!(stty.stdin(stdin).status().unwrap().success());
    };
    resize("33", "77");
    let mut command = bundle.command(&["run", &id]);
    command
        .stdin(terminal.slave.try_clone().unwrap())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = child.stdout.take().unwrap();
    let mut next_line = || {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") && said.read(&mut byte).unwrap() > 0 {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap().trim().to_owned()
    };
    assert_eq!(next_line(), "33 77");
    resize("21", "99");
    // The kernel tells those whose controlling terminal it is; this test's is another one.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGWINCH).unwrap();
    // The first size came after the program too, and was told once more then.
    let mut line = next_line();
    while line == "33 77" {
        line = next_line();
    }
    assert_eq!(line, "21 99");
    bundle.ok(&["kill", &id, "KILL"]);
    wait_until("its end", || child.try_wait().unwrap().is_some());
}
