//! The two programs are protected, and the daemon is bounded, by what ships: systemd's units say so, and the init scripts do
//! it. The scripts are run with a stand-in for the program, so this needs root.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn shipped(file: &str) -> String {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    fs::read_to_string(config.join(file)).unwrap()
}

/// The last value of each key.
fn keys(file: &str) -> BTreeMap<String, String> {
    let text = shipped(file);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn bytes(size: &str) -> u64 {
    size.strip_suffix('M').unwrap().parse::<u64>().unwrap() << 20
}

#[test]
fn the_units_protect_both_and_bound_the_daemon() {
    let (supervisor, daemon) = (
        keys("systemd/coracle-supervisor.service"),
        keys("systemd/coracled.service"),
    );
    let score = |unit: &BTreeMap<String, String>| unit["OOMScoreAdjust"].parse::<i32>().unwrap();
    assert!(score(&supervisor) < score(&daemon) && score(&daemon) < 0);
    assert!(bytes(&daemon["MemoryMax"]) <= 64 << 20 && daemon.contains_key("TasksMax"));
    // What is promised counts only where those above have it too.
    let slice = keys("systemd/coracle.slice");
    for unit in [&supervisor, &daemon] {
        assert_eq!(unit["Slice"], "coracle.slice");
    }
    let promised = bytes(&supervisor["MemoryMin"]) + bytes(&daemon["MemoryMin"]);
    assert_eq!(bytes(&slice["MemoryMin"]), promised);
    // The init scripts have the same figures.
    let script = keys("sysvinit/coracled");
    assert_eq!(
        script["MEMORY_MAX"],
        bytes(&daemon["MemoryMax"]).to_string()
    );
    assert_eq!(
        script["MEMORY_MIN"],
        bytes(&daemon["MemoryMin"]).to_string()
    );
    assert_eq!(script["TASKS_MAX"], daemon["TasksMax"]);
    let script = keys("sysvinit/coracle-supervisor");
    assert_eq!(
        script["MEMORY_MIN"],
        bytes(&supervisor["MemoryMin"]).to_string()
    );
}

/// A copy of a script that starts a stand-in, in a cgroup of the test's own.
struct Script {
    folder: tempfile::TempDir,
    group: String,
    path: PathBuf,
}

impl Script {
    fn of(name: &str) -> Script {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes cgroups: run it as root"
        );
        let folder = tempfile::tempdir().unwrap();
        let at = |file: &str| folder.path().join(file).display().to_string();
        let group = format!("cortest-init-{}-{name}", std::process::id());
        let stand_in = format!("#!/bin/sh\necho $$ > {}\nexec sleep 1000\n", at("pid"));
        fs::write(at("program"), stand_in).unwrap();
        let set = [
            ("PROGRAM", at("program")),
            ("LOOP", at("loop.pid")),
            ("PIPE", at("log.pipe")),
            ("GROUP", group.clone()),
        ];
        let mut text = shipped(&format!("sysvinit/{name}"));
        for (key, value) in set {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{key}=")))
                .unwrap()
                .to_owned();
            text = text.replacen(&line, &format!("{key}={value}"), 1);
        }
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        for file in ["program", name] {
            let set = Command::new("chmod")
                .arg("755")
                .arg(folder.path().join(file))
                .status();
            assert!(set.unwrap().success());
        }
        Script {
            folder,
            group,
            path,
        }
    }

    fn call(&self, word: &str) {
        let mut command = Command::new(&self.path);
        command.arg(word).stdin(Stdio::null()).stdout(Stdio::null());
        assert!(command.status().unwrap().success(), "{word}");
    }

    /// The stand-in's process id, once it is in the last of its cgroups.
    fn started(&self, last: &str) -> u32 {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            let pid = fs::read_to_string(self.folder.path().join("pid")).unwrap_or_default();
            let own =
                fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).unwrap_or_default();
            let mut lines = own.lines();
            if lines.any(|line| line.contains(last) && line.ends_with(&self.group)) {
                return pid.trim().parse().unwrap();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the script put nothing into cgroup {}", self.group);
    }

    /// A file of its cgroup, on either version.
    fn file(&self, hierarchy: &str, name: &str) -> Option<String> {
        let top = Path::new("/sys/fs/cgroup");
        let mut folders = [top.to_owned(), top.join(hierarchy)].into_iter();
        let text = folders
            .find_map(|folder| fs::read_to_string(folder.join(&self.group).join(name)).ok())?;
        Some(text.trim().to_owned())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.call("stop");
        for folder in ["", "memory", "pids"] {
            let own = Path::new("/sys/fs/cgroup").join(folder).join(&self.group);
            let end = Instant::now() + Duration::from_secs(5);
            while own.exists() && fs::remove_dir(&own).is_err() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

#[test]
fn the_init_script_bounds_the_daemon() {
    let script = Script::of("coracled");
    script.call("start");
    let pid = script.started(if unified() { "::" } else { "pids" });
    let memory = script
        .file("memory", "memory.max")
        .or_else(|| script.file("memory", "memory.limit_in_bytes"));
    assert_eq!(memory, Some((48 << 20).to_string()));
    assert_eq!(script.file("pids", "pids.max").as_deref(), Some("64"));
    let min = script.file("memory", "memory.min");
    assert_eq!(min, unified().then(|| (4 << 20).to_string()));
    // Who may not make itself safer than it is (CAP_SYS_RESOURCE) sees nothing here.
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    if fs::write("/proc/self/oom_score_adj", "-500").is_ok() {
        fs::write("/proc/self/oom_score_adj", own).unwrap();
        assert_eq!(score, "-500\n");
    }
}

#[test]
fn the_init_script_protects_the_supervisor() {
    let script = Script::of("coracle-supervisor");
    if !unified() {
        // v1 can leave nobody memory: the program runs, and that is all.
        script.call("start");
        script.call("status");
        return;
    }
    script.call("start");
    script.started("::");
    assert_eq!(
        script.file("memory", "memory.min"),
        Some((4 << 20).to_string())
    );
}

fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}
