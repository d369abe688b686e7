//! Each limit is written to a scratch cgroup and read back. A controller can be there without the
//! file that a limit needs: arm64's defconfig has the CPU controller and no CONFIG_CFS_BANDWIDTH.

use super::{Outcome, Trials};
use crate::probe::cgroup::mounted;
use crate::storage::Disk;
use crate::text::{cut, read_text};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A limit: the gap's subject, and for each version the controller, the file (the first that is
/// there), what is written, and what must then be in it. `{disk}` stands for major:minor.
struct Knob {
    subject: &'static str,
    v2: (
        &'static str,
        &'static [&'static str],
        &'static str,
        &'static str,
    ),
    v1: (
        &'static str,
        &'static [&'static str],
        &'static str,
        &'static str,
    ),
}

const KNOBS: [Knob; 12] = [
    Knob {
        subject: "memory limit",
        v2: ("memory", &["memory.max"], "67108864", "67108864"),
        v1: ("memory", &["memory.limit_in_bytes"], "67108864", "67108864"),
    },
    Knob {
        subject: "memory guarantee",
        v2: ("memory", &["memory.min"], "4194304", "4194304"),
        // v1 has no such file: it is told as missing.
        v1: ("memory", &["memory.min"], "4194304", "4194304"),
    },
    Knob {
        subject: "memory reservation",
        v2: ("memory", &["memory.low"], "4194304", "4194304"),
        v1: (
            "memory",
            &["memory.soft_limit_in_bytes"],
            "4194304",
            "4194304",
        ),
    },
    Knob {
        subject: "swap limit",
        v2: ("memory", &["memory.swap.max"], "67108864", "67108864"),
        // No less than the limit of memory, which is none here: whatever it says afterwards is as much as there can be.
        v1: ("memory", &["memory.memsw.limit_in_bytes"], "-1", ""),
    },
    Knob {
        subject: "OOM group",
        v2: ("memory", &["memory.oom.group"], "1", "1"),
        // v1 has no such file: it is told as missing.
        v1: ("memory", &["memory.oom.group"], "1", "1"),
    },
    Knob {
        subject: "CPU burst",
        v2: ("cpu", &["cpu.max.burst"], "20000", "20000"),
        v1: ("cpu", &["cpu.cfs_burst_us"], "20000", "20000"),
    },
    Knob {
        subject: "CPU quota",
        v2: ("cpu", &["cpu.max"], "50000 100000", "50000 100000"),
        v1: ("cpu", &["cpu.cfs_quota_us"], "50000", "50000"),
    },
    Knob {
        subject: "CPU weight",
        v2: ("cpu", &["cpu.weight"], "50", "50"),
        v1: ("cpu", &["cpu.shares"], "512", "512"),
    },
    Knob {
        subject: "fixed cores",
        v2: ("cpuset", &["cpuset.cpus"], "0", "0"),
        v1: ("cpuset", &["cpuset.cpus"], "0", "0"),
    },
    Knob {
        subject: "process limit",
        v2: ("pids", &["pids.max"], "64", "64"),
        v1: ("pids", &["pids.max"], "64", "64"),
    },
    Knob {
        subject: "IO limit",
        v2: (
            "io",
            &["io.max"],
            "{disk} rbps=1048576",
            "{disk} rbps=1048576",
        ),
        v1: (
            "blkio",
            &["blkio.throttle.read_bps_device"],
            "{disk} 1048576",
            "{disk} 1048576",
        ),
    },
    Knob {
        subject: "IO weight",
        v2: ("io", &["io.bfq.weight", "io.weight"], "50", "50"),
        v1: ("blkio", &["blkio.bfq.weight", "blkio.weight"], "50", "50"),
    },
];

/// Tries all of them below `root`, which is `/` on a board.
pub(super) fn run(root: &Path, disk: Option<&Disk>, trials: &mut Trials) {
    let (v1, v2) = mounted(&read_text(&root.join("proc/self/mountinfo"), 1 << 20));
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    for knob in &KNOBS {
        let hierarchy = v1.iter().find(|(name, _)| name == knob.v1.0);
        let outcome = match (hierarchy, &v2) {
            (Some((_, at)), _) => attempt(&below(at), knob.v1, disk, false),
            (None, Some(at)) => attempt(&below(at), knob.v2, disk, true),
            (None, None) => Outcome::Fails(cut("no hierarchy has the controller")),
        };
        // Nothing but the scheduler of the disk makes a weight count, whatever the file takes.
        let outcome = match (knob.subject, outcome) {
            ("IO weight", Outcome::Works) => weights_count(root, disk),
            (_, outcome) => outcome,
        };
        trials.note(knob.subject, outcome);
    }
}

type Side = (
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static str,
);

fn attempt(hierarchy: &Path, side: Side, disk: Option<&Disk>, unified: bool) -> Outcome {
    let (controller, files, write, expect) = side;
    let numbers = disk.map(|disk| format!("{}:{}", disk.major, disk.minor));
    if write.contains("{disk}") && numbers.is_none() {
        return Outcome::NotTried(cut("no disk of the profile's is here"));
    }
    let fill = |text: &str| text.replace("{disk}", numbers.as_deref().unwrap_or_default());
    let scratch = match Scratch::make(hierarchy, controller, unified) {
        Ok(scratch) => scratch,
        Err(error) => return judge("cannot make a cgroup", &error),
    };
    let Some(file) = files.iter().find(|f| scratch.folder.join(f).exists()) else {
        return Outcome::Fails(cut(&format!("{} is not there", files.join(" or "))));
    };
    let path = scratch.folder.join(file);
    if let Err(error) = fs::write(&path, fill(write)) {
        return judge(&format!("{file} does not take {}", fill(write)), &error);
    }
    let now = read_text(&path, 4096);
    match now.contains(&fill(expect)) {
        true => Outcome::Works,
        false => Outcome::Fails(cut(&format!("{file} says {} afterwards", now.trim()))),
    }
}

fn judge(what: &str, error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Outcome::NotTried(cut("it needs root")),
        _ => Outcome::Fails(cut(&format!("{what}: {error}"))),
    }
}

/// Weights are kept by the BFQ scheduler, or by iocost when it is switched on for the disk
/// (cgroup-v2.rst, io.weight and io.cost.qos).
fn weights_count(root: &Path, disk: Option<&Disk>) -> Outcome {
    let Some(disk) = disk else {
        return Outcome::NotTried(cut("no disk of the profile's is here"));
    };
    let queue = root.join("sys/block").join(disk.name.as_str());
    let scheduler = read_text(&queue.join("queue/scheduler"), 256);
    let costs = read_text(&root.join("sys/fs/cgroup/io.cost.qos"), 4096);
    let device = format!("{}:{} ", disk.major, disk.minor);
    let counted = costs
        .lines()
        .any(|line| line.starts_with(&device) && line.contains("enable=1"));
    if scheduler.contains("[bfq]") || counted {
        return Outcome::Works;
    }
    let scheduler = scheduler.trim();
    Outcome::Fails(cut(&format!(
        "{} runs `{scheduler}`, and iocost is off",
        disk.name
    )))
}

/// With the process that made it, and a number.
const SCRATCH: &str = "coracle-check-";

/// Those of processes that were killed meanwhile; one that is used cannot be removed.
fn remove_left(hierarchy: &Path) {
    for entry in fs::read_dir(hierarchy).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(SCRATCH));
        let maker = maker.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// A cgroup that goes when it is dropped, and with it a controller that it switched on.
struct Scratch {
    folder: PathBuf,
    switched_on: Option<(PathBuf, String)>,
}

impl Scratch {
    fn make(hierarchy: &Path, controller: &str, unified: bool) -> io::Result<Self> {
        let mut switched_on = None;
        if unified {
            let control = hierarchy.join("cgroup.subtree_control");
            let on = read_text(&control, 1024);
            if !on.split_whitespace().any(|name| name == controller) {
                fs::write(&control, format!("+{controller}"))?;
                switched_on = Some((control, format!("-{controller}")));
            }
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{SCRATCH}{}-{count}", std::process::id());
        remove_left(hierarchy);
        let scratch = Self {
            folder: hierarchy.join(name),
            switched_on,
        };
        match fs::create_dir(&scratch.folder) {
            // Of one that was killed and had our number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_dir(&scratch.folder)?;
                fs::create_dir(&scratch.folder)?;
            }
            other => other?,
        }
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // An empty cgroup can always be removed; if it was never made there is nothing to do.
        let _ = fs::remove_dir(&self.folder);
        if let Some((control, off)) = &self.switched_on {
            // Refused with EBUSY when somebody began to use it meanwhile, and then it stays.
            let _ = fs::write(control, off);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_of_a_killed_process_goes_and_is_in_nobodys_way() {
        let hierarchy = tempfile::tempdir().unwrap();
        let own = std::process::id();
        // No process has a number beyond the kernel's largest (PID_MAX_LIMIT).
        let names = [format!("{SCRATCH}4194305-0"), format!("{SCRATCH}1-0")];
        let mut left: Vec<PathBuf> = names.iter().map(|n| hierarchy.path().join(n)).collect();
        left.extend((0..64).map(|n| hierarchy.path().join(format!("{SCRATCH}{own}-{n}"))));
        left.iter()
            .for_each(|folder| fs::create_dir(folder).unwrap());
        let scratch = Scratch::make(hierarchy.path(), "memory", false).unwrap();
        assert!(!left[0].exists() && left[1].exists());
        let folder = scratch.folder.clone();
        assert!(left.contains(&folder) && folder.exists());
        drop(scratch);
        assert!(!folder.exists());
    }
}
