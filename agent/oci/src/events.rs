//! `events`: what a container has used, in runc's form.

use std::thread;
use std::time::Duration;

use coracle_runtime::Cgroup;
use coracle_runtime::cgroup::Controller::{Cpu, Cpuacct, Memory, Pids};
use serde_json::{Map, Value, json};

use crate::alive;
use crate::failure::Failure;
use crate::id::ContainerId;
use crate::store::Store;

pub fn events(store: &Store, id: &ContainerId, once: bool, interval: &str) -> Result<(), Failure> {
    let interval = seconds(interval)?;
    let entry = store.look(id)?;
    loop {
        let (record, status) = alive::read(&entry)?;
        if !status.is_alive() {
            if once {
                return Err(Failure::WrongStatus {
                    action: "read",
                    id: id.to_string(),
                    status,
                });
            }
            return Ok(());
        }
        let data = figures(&alive::cgroup(&record)?)?;
        println!(
            "{}",
            json!({"type": "stats", "id": record.id, "data": data})
        );
        if once {
            return Ok(());
        }
        thread::sleep(interval);
    }
}

/// `5s`, `500ms`, `1m`.
fn seconds(text: &str) -> Result<Duration, Failure> {
    let wrong = || Failure::Usage(format!("{text:?} is no interval"));
    let (digits, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let interval = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        _ => return Err(wrong()),
    };
    if interval.is_zero() {
        Err(wrong())
    } else {
        Ok(interval)
    }
}

fn figures(cgroup: &Cgroup) -> Result<Value, Failure> {
    let stats = cgroup.stats()?;
    let number = |controller, file: &str| -> Result<Option<u64>, Failure> {
        let text = cgroup.read_raw(controller, file)?;
        Ok(text.and_then(|text| text.trim().parse().ok()))
    };
    let keyed = |controller, file: &str| -> Result<Map<String, Value>, Failure> {
        let text = cgroup.read_raw(controller, file)?.unwrap_or_default();
        let pair = |line: &str| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), json!(value.parse::<u64>().ok()?)))
        };
        Ok(text.lines().filter_map(pair).collect())
    };
    let throttling = keyed(Cpu, "cpu.stat")?;
    let of = |key: &str| throttling.get(key).cloned().unwrap_or(json!(0));
    let per_cpu = cgroup
        .read_raw(Cpuacct, "cpuacct.usage_percpu")?
        .unwrap_or_default();
    let per_cpu: Vec<u64> = per_cpu
        .split_ascii_whitespace()
        .filter_map(|one| one.parse().ok())
        .collect();
    let (limit_file, events) = if cgroup.is_unified() {
        ("memory.max", "memory.events")
    } else {
        ("memory.limit_in_bytes", "memory.oom_control")
    };
    let failures = if cgroup.is_unified() {
        keyed(Memory, events)?
            .get("max")
            .cloned()
            .unwrap_or(json!(0))
    } else {
        json!(number(Memory, "memory.failcnt")?.unwrap_or(0))
    };
    Ok(json!({
        "cpu": {
            "usage": {
                "total": stats.cpu_micros.unwrap_or(0) * 1000,
                "percpu": per_cpu,
                "kernel": number(Cpuacct, "cpuacct.usage_sys")?.unwrap_or(0),
                "user": number(Cpuacct, "cpuacct.usage_user")?.unwrap_or(0),
            },
            "throttling": {
                "periods": of("nr_periods"),
                "throttledPeriods": of("nr_throttled"),
                "throttledTime": of("throttled_time"),
            },
        },
        "memory": {
            "usage": {
                "limit": number(Memory, limit_file)?.unwrap_or(u64::MAX),
                "usage": stats.memory_bytes.unwrap_or(0),
                "max": stats.memory_peak_bytes.unwrap_or(0),
                "failcnt": failures,
            },
            "raw": keyed(Memory, "memory.stat")?,
        },
        "pids": {
            "current": stats.pids.unwrap_or(0),
            "limit": number(Pids, "pids.max")?.unwrap_or(0),
        },
        "blkio": {},
        "hugetlb": {},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_units() {
        assert_eq!(seconds("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(seconds("250ms").unwrap(), Duration::from_millis(250));
        for wrong in ["", "5", "s", "0s", "5h"] {
            assert!(seconds(wrong).is_err(), "{wrong:?}");
        }
    }
}
