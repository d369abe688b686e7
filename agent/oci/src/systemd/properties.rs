//! Limits in systemd's words (systemd.resource-control(5)), taken from what will be written to the cgroup's files: what
//! systemd has no property for stays a file alone, which it does not touch.

use coracle_runtime::cgroup::Controller;

use super::message::Value;
use crate::plan::resources::Write;

/// systemd's "infinity".
const UNLIMITED: u64 = u64::MAX;

/// The kernel's, in microseconds.
const PERIOD: u64 = 100_000;

/// A quota is kept as whole percents of a processor (`CPUQuota=`), and read back from there when systemd is reloaded.
const PERCENT: u64 = 10_000;

/// Since which systemd a property is known. One that is not would have the whole call refused.
const HAS_PERIOD: u32 = 242;
const HAS_CPUSETS: u32 = 244;
const HAS_IDLE: u32 = 252;

/// What an older one is set to by, on cgroup v1: its files in place of these.
const SCALARS: [(&str, &str); 10] = [
    ("memory.max", "MemoryMax"),
    ("memory.high", "MemoryHigh"),
    ("memory.low", "MemoryLow"),
    ("memory.min", "MemoryMin"),
    ("memory.swap.max", "MemorySwapMax"),
    ("cpu.weight", "CPUWeight"),
    ("pids.max", "TasksMax"),
    ("memory.limit_in_bytes", "MemoryLimit"),
    ("cpu.shares", "CPUShares"),
    ("blkio.weight", "BlockIOWeight"),
];

/// Those for which 0 is a limit and not an error.
const MAY_BE_ZERO: [&str; 3] = ["MemoryLow", "MemoryMin", "MemorySwapMax"];

/// Lines of v2's `io.max`, and v1's files: one limit of one device.
const RATES: [(&str, &str); 7] = [
    ("rbps", "IOReadBandwidthMax"),
    ("wbps", "IOWriteBandwidthMax"),
    ("riops", "IOReadIOPSMax"),
    ("wiops", "IOWriteIOPSMax"),
    ("blkio.throttle.read_bps_device", "BlockIOReadBandwidth"),
    ("blkio.throttle.write_bps_device", "BlockIOWriteBandwidth"),
    ("blkio.weight_device", "BlockIODeviceWeight"),
];

pub type Property = (&'static str, Value);

/// `now` reads a file of the cgroup, for limits of which one half is new.
pub fn of(
    writes: &[Write],
    unified: bool,
    version: u32,
    now: &dyn Fn(Controller, &str) -> Option<String>,
) -> Vec<Property> {
    let mut properties = Vec::new();
    for write in writes {
        let (file, value) = (write.file.as_str(), write.value.as_str());
        match file {
            "cpuset.cpus" if unified && version >= HAS_CPUSETS => {
                properties.extend(cpus(value).map(|set| ("AllowedCPUs", Value::Bytes(set))));
            }
            "cpuset.mems" if unified && version >= HAS_CPUSETS => {
                properties.extend(cpus(value).map(|set| ("AllowedMemoryNodes", Value::Bytes(set))));
            }
            // Its word for idle is a weight of 0; one that is given later takes it back.
            "cpu.idle" if unified && version >= HAS_IDLE => {
                let weight = if value == "1" { 0 } else { 100 };
                properties.push(("CPUWeight", Value::Number(weight)));
            }
            "io.weight" => properties.extend(io_weight(value)),
            "io.max" => properties.extend(io_max(value)),
            _ => properties.extend(scalar(file, value).or_else(|| rate(file, value))),
        }
    }
    properties.extend(quota(writes, unified, version, now));
    properties
}

fn scalar(file: &str, value: &str) -> Option<Property> {
    let (_, name) = SCALARS.into_iter().find(|(known, _)| *known == file)?;
    let amount = amount(value)?;
    if amount == 0 && !MAY_BE_ZERO.contains(&name) {
        return None;
    }
    Some((name, Value::Number(amount)))
}

/// A number as the kernel reads it: with a letter for a power of 1024. None for what it will refuse.
fn amount(text: &str) -> Option<u64> {
    let text = text.trim();
    if matches!(text, "max" | "-1") {
        return Some(UNLIMITED);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" => 1,
        "m" | "M" => 2,
        "g" | "G" => 3,
        "t" | "T" => 4,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1024u64.pow(power))
}

/// `8:0 1048576`
fn rate(file: &str, value: &str) -> Option<Property> {
    let (_, name) = RATES.into_iter().find(|(known, _)| *known == file)?;
    let (device, number) = value.split_once(' ')?;
    // v1 takes a limit back by 0, systemd by infinity.
    let number = match amount(number)? {
        0 => UNLIMITED,
        number => number,
    };
    Some((name, Value::Rates(vec![(block(device), number)])))
}

/// `8:0 rbps=1048576 wiops=max`
fn io_max(line: &str) -> Vec<Property> {
    let mut words = line.split_whitespace();
    let device = words.next().unwrap_or_default();
    let one = |word: &str| {
        let (key, number) = word.split_once('=')?;
        rate(key, &format!("{device} {number}"))
    };
    words.filter_map(one).collect()
}

/// `default 100`, `8:0 100`, or `100` alone.
fn io_weight(line: &str) -> Option<Property> {
    let (of, weight) = line.rsplit_once(' ').unwrap_or(("default", line));
    let weight = amount(weight).filter(|weight| (1..=10_000).contains(weight))?;
    Some(match of {
        "default" => ("IOWeight", Value::Number(weight)),
        device => (
            "IODeviceWeight",
            Value::Rates(vec![(block(device), weight)]),
        ),
    })
}

fn block(device: &str) -> String {
    format!("/dev/block/{device}")
}

/// How much of a second, and within which period. Either may be new, or both.
fn quota(
    writes: &[Write],
    unified: bool,
    version: u32,
    now: &dyn Fn(Controller, &str) -> Option<String>,
) -> Vec<Property> {
    let written = |file: &str| writes.iter().rev().find(|write| write.file == file);
    let value = |file: &str| match written(file) {
        Some(write) => Some(write.value.clone()),
        None => now(Controller::Cpu, file),
    };
    let (quota, period) = if unified {
        let Some(new) = written("cpu.max") else {
            return Vec::new();
        };
        let mut words = new.value.split_whitespace().map(str::to_owned);
        let quota = words.next();
        let kept = || {
            now(Controller::Cpu, "cpu.max")?
                .split_whitespace()
                .nth(1)
                .map(str::to_owned)
        };
        (quota, words.next().or_else(kept))
    } else {
        if written("cpu.cfs_quota_us")
            .or(written("cpu.cfs_period_us"))
            .is_none()
        {
            return Vec::new();
        }
        (value("cpu.cfs_quota_us"), value("cpu.cfs_period_us"))
    };
    let quota = quota.and_then(|text| amount(&text)).unwrap_or(UNLIMITED);
    let period = period
        .and_then(|text| amount(&text))
        .filter(|period| *period > 0)
        .unwrap_or(PERIOD);
    let of_a_second = match quota {
        UNLIMITED => UNLIMITED,
        quota => (quota.saturating_mul(1_000_000) / period).next_multiple_of(PERCENT),
    };
    let mut properties = vec![("CPUQuotaPerSecUSec", Value::Number(of_a_second))];
    if version >= HAS_PERIOD {
        properties.push(("CPUQuotaPeriodUSec", Value::Number(period)));
    }
    properties
}

/// More CPUs than a kernel can be built for.
const MOST_CPUS: usize = 8192;

/// `0-3,6` as a bit for each.
fn cpus(list: &str) -> Option<Vec<u8>> {
    let mut set = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last >= MOST_CPUS {
            return None;
        }
        for cpu in first..=last {
            if set.len() <= cpu / 8 {
                set.resize(cpu / 8 + 1, 0);
            }
            set[cpu / 8] |= 1 << (cpu % 8);
        }
    }
    Some(set)
}

#[cfg(test)]
mod tests;
