//! cgroup v1: a folder in each hierarchy (kernel, Documentation/admin-guide/cgroup-v1).

use std::path::{Path, PathBuf};

use super::devices::{beyond, v1_line};
use super::files::{make_dir, read_keyed, read_number, write};
use super::limits::{
    CPU_PERIOD_MICROS, DeviceRule, Devices, IoLimit, Limits, bfq_weight, cpu_quota_micros,
    no_burst_before,
};
use super::{CgroupError, Controller, Stats};

#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) mount: PathBuf,
    pub(crate) controllers: Vec<Controller>,
}

impl Folder {
    /// Where a process of one thread enters it. Among those without a controller may be a v2 tree, which has no such file.
    pub(super) fn tasks(&self) -> PathBuf {
        let tasks = self.path.join("tasks");
        if self.controllers.is_empty() && !tasks.exists() {
            return self.path.join("cgroup.procs");
        }
        tasks
    }
}

fn folder(folders: &[Folder], controller: Controller) -> Option<&Path> {
    folders
        .iter()
        .find(|folder| folder.controllers.contains(&controller))
        .map(|folder| folder.path.as_path())
}

pub(super) fn create(folders: &[Folder], parent: &Path) -> Result<(), CgroupError> {
    for folder in folders {
        let cpuset = folder.controllers.contains(&Controller::Cpuset);
        let mut path = folder.mount.clone();
        let name = folder.path.file_name().map(Path::new);
        for part in parent.iter().map(Path::new).chain(name) {
            let above = path.clone();
            path.push(part);
            make_dir(&path)?;
            if cpuset {
                inherit_cpuset(&above, &path)?;
            }
        }
    }
    Ok(())
}

/// A new cpuset is empty, and takes no process before it has CPUs and memory nodes.
fn inherit_cpuset(above: &Path, path: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let read = |folder: &Path| {
            let path = folder.join(file);
            std::fs::read_to_string(&path).map_err(|source| CgroupError::Io { path, source })
        };
        if read(path)?.trim().is_empty() {
            write(&path.join(file), read(above)?.trim())?;
        }
    }
    Ok(())
}

/// Writes one limit, or says that the kernel has no such file.
fn set(
    folders: &[Folder],
    controller: Controller,
    (file, limit): (&str, &'static str),
    value: &str,
) -> Result<(), CgroupError> {
    let Some(folder) = folder(folders, controller) else {
        return Err(CgroupError::Unsupported {
            limit,
            path: Path::new(controller.v1_name()).join(file),
        });
    };
    let path = folder.join(file);
    match write(&path, value) {
        Err(CgroupError::Write { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
            Err(CgroupError::Unsupported { limit, path })
        }
        other => other,
    }
}

pub(super) fn set_limits(folders: &[Folder], limits: &Limits) -> Result<(), CgroupError> {
    use Controller::{Cpu, Cpuset, Memory, Pids};

    set_memory(folders, limits)?;
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let quota = limits.cpu_millis.map(cpu_quota_micros);
    let shares = limits.cpu_weight.map(shares_from_weight);
    let burst_now = || match folder(folders, Cpu) {
        Some(folder) => read_number(&folder.join("cpu.cfs_burst_us")),
        None => Ok(None),
    };
    let none = no_burst_before(limits, burst_now)?;
    let writes = [
        // Files of v2 alone are told as missing.
        (
            Memory,
            ("memory.min", "memory guarantee"),
            number(limits.memory_min_bytes),
        ),
        (
            Memory,
            ("memory.soft_limit_in_bytes", "memory reservation"),
            number(limits.memory_reservation_bytes),
        ),
        (
            Memory,
            ("memory.swappiness", "memory swappiness"),
            number(limits.memory_swappiness),
        ),
        (
            Memory,
            ("memory.oom.group", "oom group"),
            number(limits.oom_group.map(u64::from)),
        ),
        (
            Memory,
            ("memory.oom_control", "oom kill"),
            number(limits.oom_kill_disabled.map(u64::from)),
        ),
        (Cpu, ("cpu.cfs_burst_us", "cpu burst"), number(none)),
        (
            Cpu,
            ("cpu.cfs_period_us", "cpu quota"),
            number(quota.map(|_| CPU_PERIOD_MICROS)),
        ),
        (Cpu, ("cpu.cfs_quota_us", "cpu quota"), number(quota)),
        (
            Cpu,
            ("cpu.cfs_burst_us", "cpu burst"),
            number(limits.cpu_burst_micros),
        ),
        (Cpu, ("cpu.shares", "cpu weight"), number(shares)),
        (
            Cpuset,
            ("cpuset.cpus", "cpuset"),
            limits.cpuset_cpus.clone(),
        ),
        (
            Cpuset,
            ("cpuset.mems", "cpuset"),
            limits.cpuset_mems.clone(),
        ),
        (Pids, ("pids.max", "pids"), number(limits.pids)),
    ];
    for (controller, names, value) in writes {
        if let Some(value) = value {
            set(folders, controller, names, &value)?;
        }
    }
    if let Some(weight) = limits.io_weight {
        set_io_weight(folders, weight, ["blkio.weight", "blkio.bfq.weight"], "")?;
    }
    limits.io.iter().try_for_each(|io| set_io(folders, io))?;
    set_devices(folders, &limits.devices)
}

/// The kernel keeps `memory.limit` ≤ `memory.memsw.limit` at every moment, so raising both must start with the second
/// and lowering both with the first.
fn set_memory(folders: &[Folder], limits: &Limits) -> Result<(), CgroupError> {
    let memory = ("memory.limit_in_bytes", "memory", limits.memory_bytes);
    let swap = (
        "memory.memsw.limit_in_bytes",
        "memory and swap",
        limits.memory_swap_bytes,
    );
    let Some(folder) = folder(folders, Controller::Memory) else {
        return match limits.memory_bytes.or(limits.memory_swap_bytes) {
            None => Ok(()),
            Some(_) => Err(CgroupError::Unsupported {
                limit: "memory",
                path: "memory".into(),
            }),
        };
    };
    let swap_now = read_number(&folder.join(swap.0))?;
    let raising =
        matches!((limits.memory_bytes, swap_now), (Some(wanted), Some(now)) if wanted > now);
    let order = if raising {
        [swap, memory]
    } else {
        [memory, swap]
    };
    let before = read_number(&folder.join(order[0].0))?;
    let mut outcome = Ok(());
    for (file, limit, value) in order {
        if let Some(value) = value {
            let value = value.to_string();
            outcome =
                outcome.and_then(|()| set(folders, Controller::Memory, (file, limit), &value));
        }
    }
    if let (Err(_), Some(before)) = (&outcome, before) {
        // What is refused leaves both as they were. The refusal is the one to tell.
        let _ = write(&folder.join(order[0].0), &before.to_string());
    }
    outcome
}

fn shares_from_weight(weight: u64) -> u64 {
    2 + (weight.clamp(1, 10_000) - 1) * 262_142 / 9999
}

/// `blkio.weight` was CFQ's, which went with Linux 5.0; BFQ has a file and a scale of its own. From 4.12 to 4.20 a kernel may have
/// both, each for the disks that it orders.
fn set_io_weight(
    folders: &[Folder],
    weight: u64,
    files: [&str; 2],
    of: &str,
) -> Result<(), CgroupError> {
    // CFQ's scale is 10 to 1000 with 500 in the middle; ours is 1 to 10000 with 100 as normal (runc's conversion).
    let cfq = 10 + (weight.clamp(1, 10_000) - 1) * 990 / 9999;
    let write = |file: &str, weight: u64| {
        let name = (file, "io weight");
        set(folders, Controller::Blkio, name, &format!("{of}{weight}"))
    };
    match (write(files[0], cfq), write(files[1], bfq_weight(weight))) {
        (Err(CgroupError::Unsupported { .. }), only)
        | (only, Err(CgroupError::Unsupported { .. })) => only,
        // A disk is ordered by one of them, and the other refuses it.
        (cfq, bfq) if !of.is_empty() => bfq.or(cfq),
        (cfq, bfq) => cfq.and(bfq),
    }
}

fn set_io(folders: &[Folder], io: &IoLimit) -> Result<(), CgroupError> {
    if let Some(weight) = io.weight {
        let files = ["blkio.weight_device", "blkio.bfq.weight_device"];
        let of = format!("{}:{} ", io.major, io.minor);
        set_io_weight(folders, weight, files, &of)?;
    }
    let files = [
        ("blkio.throttle.read_bps_device", io.read_bytes_per_second),
        ("blkio.throttle.write_bps_device", io.write_bytes_per_second),
        (
            "blkio.throttle.read_iops_device",
            io.read_operations_per_second,
        ),
        (
            "blkio.throttle.write_iops_device",
            io.write_operations_per_second,
        ),
    ];
    for (file, value) in files {
        if let Some(value) = value {
            let line = format!("{}:{} {value}", io.major, io.minor);
            set(folders, Controller::Blkio, (file, "io rate"), &line)?;
        }
    }
    Ok(())
}

fn set_devices(folders: &[Folder], devices: &Devices) -> Result<(), CgroupError> {
    let Devices::Only(rules) = devices else {
        return Ok(());
    };
    set(folders, Controller::Devices, DENY, "a")?;
    allow(folders, rules)
}

const DENY: (&str, &str) = ("devices.deny", "devices");

fn allow(folders: &[Folder], rules: &[DeviceRule]) -> Result<(), CgroupError> {
    let name = ("devices.allow", "devices");
    rules
        .iter()
        .try_for_each(|rule| set(folders, Controller::Devices, name, &v1_line(rule)))
}

/// One by one: denying everything first would leave an app nothing for a moment. A line takes back only what was allowed
/// by the very same numbers (security/device_cgroup.c, dev_exception_rm).
pub(super) fn change_devices(
    folders: &[Folder],
    rules: &[DeviceRule],
    withdrawn: &[DeviceRule],
) -> Result<(), CgroupError> {
    for rule in withdrawn.iter().filter_map(|rule| beyond(rule, rules)) {
        set(folders, Controller::Devices, DENY, &v1_line(&rule))?;
    }
    allow(folders, rules)
}

pub(super) fn set_frozen(folders: &[Folder], frozen: bool) -> Result<(), CgroupError> {
    let state = if frozen { "FROZEN" } else { "THAWED" };
    set(
        folders,
        Controller::Freezer,
        ("freezer.state", "freezing"),
        state,
    )
}

pub(super) fn stats(folders: &[Folder]) -> Result<Stats, CgroupError> {
    let number = |controller, file: &str| match folder(folders, controller) {
        Some(folder) => read_number(&folder.join(file)),
        None => Ok(None),
    };
    let oom_kills = match folder(folders, Controller::Memory) {
        Some(folder) => read_keyed(&folder.join("memory.oom_control"), "oom_kill")?,
        None => None,
    };
    Ok(Stats {
        memory_bytes: number(Controller::Memory, "memory.usage_in_bytes")?,
        memory_peak_bytes: number(Controller::Memory, "memory.max_usage_in_bytes")?,
        // No limit reads as i64::MAX rounded down to a page.
        memory_limit_bytes: number(Controller::Memory, "memory.limit_in_bytes")?
            .filter(|limit| *limit < 1 << 62),
        oom_kills,
        cpu_micros: number(Controller::Cpuacct, "cpuacct.usage")?.map(|nanos| nanos / 1000),
        pids: number(Controller::Pids, "pids.current")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_and_shares_have_the_same_ends() {
        assert_eq!(shares_from_weight(1), 2);
        assert_eq!(shares_from_weight(10_000), 262_144);
        for (shares, weight) in [
            (0, 1),
            (2, 1),
            (100, 17),
            (1024, 100),
            (22_000, 1204),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(Limits::weight_from_shares(shares), weight, "{shares}");
        }
    }
}
