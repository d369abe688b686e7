//! What a cgroup may be limited to, in one unit each, whatever the kernel's version of cgroups.

use super::CgroupError;

/// Which device, and what may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Block device; otherwise a character device.
    pub block: bool,
    /// None is every major.
    pub major: Option<u32>,
    /// None is every minor.
    pub minor: Option<u32>,
    pub read: bool,
    pub write: bool,
    pub mknod: bool,
}

impl DeviceRule {
    pub const fn char(major: u32, minor: Option<u32>) -> DeviceRule {
        DeviceRule {
            block: false,
            major: Some(major),
            minor,
            read: true,
            write: true,
            mknod: true,
        }
    }

    const fn mknod_any(block: bool) -> DeviceRule {
        DeviceRule {
            block,
            major: None,
            minor: None,
            read: false,
            write: false,
            mknod: true,
        }
    }

    /// What every container may use, after moby's `oci/defaults.go`: making nodes (opening is another matter), null,
    /// zero, full, random, urandom, tty, console, ptmx and the pseudo terminals.
    pub const DEFAULTS: [DeviceRule; 11] = [
        DeviceRule::mknod_any(false),
        DeviceRule::mknod_any(true),
        DeviceRule::char(1, Some(3)),
        DeviceRule::char(1, Some(5)),
        DeviceRule::char(1, Some(7)),
        DeviceRule::char(1, Some(8)),
        DeviceRule::char(1, Some(9)),
        DeviceRule::char(5, Some(0)),
        DeviceRule::char(5, Some(1)),
        DeviceRule::char(5, Some(2)),
        DeviceRule::char(136, None),
    ];
}

/// The devices a cgroup may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Devices {
    /// No rule of this cgroup's own.
    #[default]
    All,
    /// These and nothing else.
    Only(Vec<DeviceRule>),
}

/// Throttling of one block device, and its part of the device's time. None is unlimited, or as for all devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoLimit {
    pub major: u32,
    pub minor: u32,
    pub read_bytes_per_second: Option<u64>,
    pub write_bytes_per_second: Option<u64>,
    pub read_operations_per_second: Option<u64>,
    pub write_operations_per_second: Option<u64>,
    /// 1 to 10000, 100 is normal.
    pub weight: Option<u64>,
}

/// None leaves a value as it is. A limit that this kernel cannot hold is an error, never ignored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Hard limit: beyond it the OOM killer comes. Setting it below what is in use is refused with EBUSY.
    pub memory_bytes: Option<u64>,
    /// Memory and swap together, as Docker's `--memory-swap`; equal to `memory_bytes` means no swap, less is an error.
    pub memory_swap_bytes: Option<u64>,
    /// v2 only: so much reclaim never takes from it, whoever else needs it.
    pub memory_min_bytes: Option<u64>,
    /// Soft: on v1 what reclaim shrinks it to when the board runs short (memory.soft_limit), on v2 what reclaim leaves it
    /// as long as others have some (memory.low).
    pub memory_reservation_bytes: Option<u64>,
    /// v1 only: 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// v2 only: out of memory is the end of all its processes, not of one.
    pub oom_group: Option<bool>,
    /// v1 only: out of memory means waiting instead of dying.
    pub oom_kill_disabled: Option<bool>,
    /// Thousandths of one CPU: 1500 is one and a half.
    pub cpu_millis: Option<u64>,
    /// Beyond the quota of one period, µs: what was left over in periods before. At most as much as the quota.
    pub cpu_burst_micros: Option<u64>,
    /// 1 to 10000, 100 is normal (cgroup v2's scale).
    pub cpu_weight: Option<u64>,
    /// As `0-1,3`.
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// 1 to 10000, 100 is normal.
    pub io_weight: Option<u64>,
    pub io: Vec<IoLimit>,
    pub devices: Devices,
}

impl Limits {
    /// Docker's `--cpu-shares` (2 to 262144, 1024 normal) on the scale of `cpu_weight`, as runc (1.3.2) and crun (1.23) convert
    /// it: least, normal and most of the one are those of the other.
    pub fn weight_from_shares(shares: u64) -> u64 {
        match shares {
            ..=2 => 1,
            262_144.. => 10_000,
            _ => {
                let power = (shares as f64).log2();
                let exponent = (power * power + 125.0 * power) / 612.0 - 7.0 / 34.0;
                10_f64.powf(exponent).ceil() as u64
            }
        }
    }
}

/// Length of the period in which a CPU quota is counted, µs: the kernel's default.
pub(super) const CPU_PERIOD_MICROS: u64 = 100_000;

/// The kernel refuses a quota below 1 ms.
pub(super) fn cpu_quota_micros(millis: u64) -> u64 {
    (millis * CPU_PERIOD_MICROS / 1000).max(1000)
}

/// The kernel takes no quota below the burst that there is at the moment: where a smaller burst comes with it, that one goes
/// first.
pub(super) fn no_burst_before(
    limits: &Limits,
    now: impl FnOnce() -> Result<Option<u64>, CgroupError>,
) -> Result<Option<u64>, CgroupError> {
    let (Some(millis), Some(_)) = (limits.cpu_millis, limits.cpu_burst_micros) else {
        return Ok(None);
    };
    let beyond = now()?.filter(|burst| *burst > cpu_quota_micros(millis));
    Ok(beyond.map(|_| 0))
}

/// BFQ's scale ends at 1000; 100 is normal there too.
pub(super) fn bfq_weight(weight: u64) -> u64 {
    weight.clamp(1, 1000)
}
