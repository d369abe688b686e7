//! cgroup v2: one folder (kernel, Documentation/admin-guide/cgroup-v2.rst).

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use super::devices::compile;
use super::files::{make_dir, read_keyed, read_number, write};
use super::limits::{
    CPU_PERIOD_MICROS, DeviceRule, Devices, IoLimit, Limits, bfq_weight, cpu_quota_micros,
    no_burst_before,
};
use super::{CgroupError, Stats};
use crate::kernel::bpf;

mod memory;
pub(super) mod protection;

/// Asked for one by one, since a kernel that lacks one refuses the whole line.
const CONTROLLERS: [&str; 6] = ["+cpuset", "+cpu", "+io", "+memory", "+pids", "+hugetlb"];

pub(super) fn create(mount: &Path, parent: &Path, folder: &Path) -> Result<(), CgroupError> {
    let mut path = mount.to_path_buf();
    for part in parent.iter() {
        delegate(&path);
        path.push(part);
        make_dir(&path)?;
    }
    delegate(&path);
    make_dir(folder)
}

/// A controller that cannot be handed down shows as [`CgroupError::Unsupported`] where a limit needs it.
fn delegate(path: &Path) {
    for controller in CONTROLLERS {
        let _ = write(&path.join("cgroup.subtree_control"), controller);
    }
}

fn set(folder: &Path, file: &str, limit: &'static str, value: &str) -> Result<(), CgroupError> {
    let path = folder.join(file);
    match write(&path, value) {
        Err(CgroupError::Write { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
            Err(CgroupError::Unsupported { limit, path })
        }
        other => other,
    }
}

pub(super) fn set_limits(folder: &Path, limits: &Limits) -> Result<(), CgroupError> {
    for (given, limit) in [
        (limits.memory_swappiness.is_some(), "memory swappiness"),
        (limits.oom_kill_disabled == Some(true), "oom kill"),
    ] {
        if given {
            return Err(CgroupError::Unsupported {
                limit,
                path: folder.into(),
            });
        }
    }
    memory::set_memory(folder, limits)?;
    protection::set_protection(folder, limits)?;
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let quota = limits
        .cpu_millis
        .map(|millis| format!("{} {CPU_PERIOD_MICROS}", cpu_quota_micros(millis)));
    let burst_now = || read_number(&folder.join("cpu.max.burst"));
    let none = no_burst_before(limits, burst_now)?;
    let writes = [
        ("cpu.max.burst", "cpu burst", number(none)),
        ("cpu.max", "cpu quota", quota),
        (
            "cpu.max.burst",
            "cpu burst",
            number(limits.cpu_burst_micros),
        ),
        (
            "memory.oom.group",
            "oom group",
            number(limits.oom_group.map(u64::from)),
        ),
        ("cpu.weight", "cpu weight", number(limits.cpu_weight)),
        ("cpuset.cpus", "cpuset", limits.cpuset_cpus.clone()),
        ("cpuset.mems", "cpuset", limits.cpuset_mems.clone()),
        ("pids.max", "pids", number(limits.pids)),
    ];
    for (file, limit, value) in writes {
        if let Some(value) = value {
            set(folder, file, limit, &value)?;
        }
    }
    if let Some(weight) = limits.io_weight {
        set_io_weight(folder, weight, None)?;
    }
    for io in &limits.io {
        if let Some(weight) = io.weight {
            set_io_weight(folder, weight, Some((io.major, io.minor)))?;
        }
    }
    for line in limits.io.iter().filter_map(io_line) {
        set(folder, "io.max", "io rate", &line)?;
    }
    match &limits.devices {
        Devices::All => Ok(()),
        Devices::Only(rules) => set_devices(folder, rules),
    }
}

/// `io.weight` is for disks with a cost model, `io.bfq.weight` for those scheduled by BFQ: a kernel may have either or
/// both (block/blk-iocost.c, block/bfq-cgroup.c).
fn set_io_weight(
    folder: &Path,
    weight: u64,
    device: Option<(u32, u32)>,
) -> Result<(), CgroupError> {
    let of = device.map_or_else(
        || "default".to_owned(),
        |(major, minor)| format!("{major}:{minor}"),
    );
    let write = |file, weight| set(folder, file, "io weight", &format!("{of} {weight}"));
    let bfq = write("io.bfq.weight", bfq_weight(weight));
    let cost = write("io.weight", weight);
    match (bfq, cost) {
        (Err(CgroupError::Unsupported { .. }), only)
        | (only, Err(CgroupError::Unsupported { .. })) => only,
        // A disk has one or the other, which refuses what is not its own.
        (bfq, cost) if device.is_some() => bfq.or(cost),
        (bfq, cost) => bfq.and(cost),
    }
}

/// What is not named in the line keeps its value; a line that names nothing is refused by the kernel, and is none here.
fn io_line(io: &IoLimit) -> Option<String> {
    let rates: String = [
        ("rbps", io.read_bytes_per_second),
        ("wbps", io.write_bytes_per_second),
        ("riops", io.read_operations_per_second),
        ("wiops", io.write_operations_per_second),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some(format!(" {key}={}", value?)))
    .collect();
    (!rates.is_empty()).then(|| format!("{}:{}{rates}", io.major, io.minor))
}

/// The new program is attached before the old ones go, so that there is no moment without rules.
pub(super) fn set_devices(folder: &Path, rules: &[DeviceRule]) -> Result<(), CgroupError> {
    let failed = |source| CgroupError::Devices {
        path: folder.into(),
        source,
    };
    let cgroup = File::open(folder).map_err(|source| CgroupError::Io {
        path: folder.into(),
        source,
    })?;
    let old = bpf::attached_device_programs(cgroup.as_fd()).map_err(failed)?;
    let program = bpf::load_device_program(&compile(rules)).map_err(failed)?;
    bpf::attach_device_program(cgroup.as_fd(), program.as_fd()).map_err(failed)?;
    old.iter()
        .try_for_each(|old| bpf::detach_device_program(cgroup.as_fd(), old.as_fd()))
        .map_err(failed)
}

pub(super) fn stats(folder: &Path) -> Result<Stats, CgroupError> {
    Ok(Stats {
        memory_bytes: read_number(&folder.join("memory.current"))?,
        memory_peak_bytes: read_number(&folder.join("memory.peak"))?,
        memory_limit_bytes: read_number(&folder.join("memory.max"))?,
        oom_kills: read_keyed(&folder.join("memory.events"), "oom_kill")?,
        cpu_micros: read_keyed(&folder.join("cpu.stat"), "usage_usec")?,
        pids: read_number(&folder.join("pids.current"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a folder is before 5.19: `memory.peak` is not there.
    #[test]
    fn a_figure_that_the_kernel_lacks_is_none_and_the_others_are_told() {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.events", "low 0\noom_kill 2\n"),
            ("cpu.stat", "usage_usec 7\nuser_usec 3\n"),
            ("pids.current", "1\n"),
        ] {
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        let expected = Stats {
            memory_bytes: Some(4096),
            memory_peak_bytes: None,
            memory_limit_bytes: None,
            oom_kills: Some(2),
            cpu_micros: Some(7),
            pids: Some(1),
        };
        assert_eq!(stats(folder.path()).unwrap(), expected);
    }

    #[test]
    fn io_lines_name_only_what_is_given() {
        let io = IoLimit {
            major: 179,
            write_bytes_per_second: Some(1 << 20),
            ..IoLimit::default()
        };
        assert_eq!(io_line(&io).unwrap(), "179:0 wbps=1048576");
        assert_eq!(io_line(&IoLimit::default()), None);
    }
}
