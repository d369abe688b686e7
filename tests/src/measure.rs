//! What is measured from outside: memory of processes, cgroup files, HTTP answers.

use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Duration;

/// Proportional set size of a process, in KiB (proc_pid_smaps_rollup(5)).
pub fn pss_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix("Pss:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse()
                .ok()
        })
        .with_context(|| format!("no Pss in {path}"))
}

/// The value of a cgroup file, cgroup v1 or v2: the first of `files` (`controller/file` on v1,
/// `file` on v2) that exists for `cgroup`.
pub fn cgroup_value(cgroup: &str, v1: (&str, &str), v2: &str) -> Result<(PathBuf, String)> {
    let cgroup = cgroup.trim_start_matches('/');
    let root = PathBuf::from("/sys/fs/cgroup");
    let paths = [
        root.join(v1.0).join(cgroup).join(v1.1),
        root.join(cgroup).join(v2),
    ];
    let path = paths
        .iter()
        .find(|p| p.exists())
        .with_context(|| format!("none of {paths:?} exists"))?;
    Ok((
        path.clone(),
        std::fs::read_to_string(path)?.trim().to_owned(),
    ))
}

/// GET; status and body. Anything that answers is an answer, also 503.
pub fn get(url: &str) -> Result<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(3)))
        .http_status_as_error(false)
        .build()
        .into();
    let mut response = agent.get(url).call()?;
    Ok((
        response.status().as_u16(),
        response.body_mut().read_to_string()?,
    ))
}

/// Bytes as people read them.
pub fn human(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
