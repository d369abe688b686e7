//! What is measured from outside: memory of processes, cgroup files, HTTP answers.

use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Duration;

/// What a process's proportional set size is made of, in KiB (proc_pid_smaps(5)).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pss {
    /// Pages of the program's file as they are on disk; shared with the others that run it.
    pub program: u64,
    /// Those of the program's file that were written to: relocations and variables.
    pub written: u64,
    pub libraries: u64,
    /// Heap, stacks and all else that no file backs.
    pub own: u64,
}

impl Pss {
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps");
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        Self::read(&text).with_context(|| path)
    }

    pub fn in_all(self) -> u64 {
        self.program + self.written + self.libraries + self.own
    }

    /// What `/proc/PID/smaps` says; of each mapping its first line, `Pss:` and `Anonymous:` are enough.
    pub fn read(smaps: &str) -> Result<Self> {
        let mut pss = Self::default();
        let mut name = "";
        let mut size = 0;
        for line in smaps.lines() {
            let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let value = value.trim();
            let kib = || -> Result<u64> { Ok(value.trim_end_matches(" kB").parse()?) };
            match key {
                "Pss:" => size = kib()?,
                // Comes behind Pss. A page of a file that was written to is the process's own.
                "Anonymous:" => {
                    let anonymous = kib()?.min(size);
                    if name.contains(".so") {
                        pss.libraries += size;
                    } else if name.starts_with('/') {
                        pss.written += anonymous;
                        pss.program += size - anonymous;
                    } else {
                        pss.own += size;
                    }
                }
                _ if !key.ends_with(':') => {
                    // Permissions, offset, device, inode, and a name where there is one.
                    name = value.split_whitespace().nth(4).unwrap_or("");
                }
                _ => {}
            }
        }
        anyhow::ensure!(pss != Self::default(), "no memory is told of");
        Ok(pss)
    }
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

#[cfg(test)]
mod tests {
    use super::Pss;

    #[test]
    fn memory_is_told_by_what_it_is() {
        let smaps = "55d0-55d9 r-xp 0000 fe:00 12 /usr/bin/coracle-agent\nSize: 9 kB\nPss: 30 kB\nPss_Dirty: 0 kB\nAnonymous: 0 kB\nVmFlags: rd ex\n\
            55d9-55da rw-p 0000 fe:00 12 /usr/bin/coracle-agent\nPss: 12 kB\nAnonymous: 8 kB\n\
            55e0-55e1 rw-p 0000 00:00 0 [heap]\nPss: 100 kB\nAnonymous: 100 kB\n\
            7f00-7f01 r-xp 0000 fe:00 13 /lib/libc.so.6\nPss: 7 kB\nAnonymous: 4 kB\n\
            7f10-7f11 rw-p 0000 00:00 0\nPss: 5 kB\nAnonymous: 5 kB\n";
        let pss = Pss::read(smaps).expect("as the kernel writes it");
        assert_eq!(
            (pss.program, pss.written, pss.libraries, pss.own),
            (34, 8, 7, 105)
        );
        assert_eq!(pss.in_all(), 154);
        assert!(Pss::read("").is_err(), "a process that has ended");
    }
}
