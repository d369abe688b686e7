//! What stands on the machine under a prefix of ours: for the test that nothing is left behind,
//! and for removing what a killed run left.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Names of links, namespaces, mounts, cgroups, nft tables and processes that carry `prefix`.
pub fn find(prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |kind: &str, names: Vec<String>| {
        found.extend(names.into_iter().map(|n| format!("{kind} {n}")))
    };
    add("namespace", namespaces(prefix));
    add("link", links(prefix));
    add(
        "cgroup",
        cgroups(prefix)
            .iter()
            .map(|p| p.display().to_string())
            .collect(),
    );
    add(
        "process",
        processes(prefix)
            .iter()
            .map(|(pid, what)| format!("{pid} ({what})"))
            .collect(),
    );
    let marker = format!("coracle-{prefix}");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    add(
        "mount",
        mounts
            .lines()
            .filter(|l| l.contains(&marker))
            .map(str::to_owned)
            .collect(),
    );
    let tables = Command::new("nft")
        .args(["list", "tables"])
        .output()
        .map(|o| o.stdout)
        .unwrap_or_default();
    let tables = String::from_utf8_lossy(&tables).into_owned();
    add(
        "nft table",
        tables
            .lines()
            .filter(|l| l.contains(prefix))
            .map(str::to_owned)
            .collect(),
    );
    found
}

/// Removes what [`find`] finds, processes first.
pub fn remove(prefix: &str) {
    for (pid, _) in processes(prefix) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
    let cgroups = cgroups(prefix);
    for dir in cgroups.iter().rev() {
        for pid in std::fs::read_to_string(dir.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
        {
            if let Ok(pid) = pid.parse() {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
    }
    for _ in 0..20 {
        if cgroups
            .iter()
            .rev()
            .filter(|d| d.exists() && std::fs::remove_dir(d).is_err())
            .count()
            == 0
        {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    // Those within others last.
    let marker = format!("coracle-{prefix}/");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points.filter(|p| p.contains(&marker)).rev() {
        let _ = Command::new("umount").arg("--lazy").arg(point).output();
    }
    for name in namespaces(prefix) {
        let _ = Command::new("ip").args(["netns", "delete", &name]).output();
    }
    for name in links(prefix) {
        let _ = Command::new("ip").args(["link", "delete", &name]).output();
    }
}

fn names_in(dir: &str) -> Vec<String> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

fn namespaces(prefix: &str) -> Vec<String> {
    names_in("/run/netns")
        .into_iter()
        .filter(|n| n.starts_with(&format!("{prefix}-")))
        .collect()
}

fn links(prefix: &str) -> Vec<String> {
    let ours = |n: &String| {
        n.strip_prefix(prefix)
            .is_some_and(|rest| rest == "0" || rest.starts_with('v'))
    };
    names_in("/sys/class/net")
        .into_iter()
        .filter(ours)
        .collect()
}

/// Parents before children.
fn cgroups(prefix: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut walk = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = walk.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                let path = entry.path();
                if is_ours(&path, prefix) {
                    out.push(path.clone());
                }
                walk.push(path);
            }
        }
    }
    out
}

fn is_ours(path: &Path, prefix: &str) -> bool {
    path.components().any(|c| {
        c.as_os_str()
            .to_string_lossy()
            .starts_with(&format!("{prefix}-"))
    })
}

/// Processes whose arguments name our working folder.
fn processes(prefix: &str) -> Vec<(i32, String)> {
    let marker = format!("/coracle-{prefix}/");
    let me = std::process::id() as i32;
    names_in("/proc")
        .into_iter()
        .filter_map(|n| n.parse::<i32>().ok())
        .filter(|pid| *pid != me)
        .filter_map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(&marker).then_some((pid, line))
        })
        .collect()
}
