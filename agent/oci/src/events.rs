//! `events`: what a container has used, and that its memory ran out, in runc's form.

use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use coracle_runtime::Cgroup;
use coracle_runtime::cgroup::Controller::{self, Blkio, Cpu, Cpuacct, Memory, Pids};
use coracle_runtime::cgroup::{CgroupError, OomWatch};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Map, Value, json};

use crate::alive;
use crate::failure::{Doing, Failure};
use crate::id::ContainerId;
use crate::store::Store;

pub fn events(store: &Store, id: &ContainerId, once: bool, interval: &str) -> Result<(), Failure> {
    let interval = seconds(interval)?;
    let entry = store.look(id)?;
    let (record, status) = alive::read(&entry)?;
    if !status.is_alive() {
        return Err(Failure::WrongStatus {
            action: "read",
            id: id.to_string(),
            status,
        });
    }
    let cgroup = alive::cgroup(&record)?;
    if once {
        tell(&record.id, "stats", Some(figures(&cgroup)?));
        return Ok(());
    }
    // Without the memory controller there are figures only.
    let mut watch = cgroup.watch_oom().ok();
    loop {
        tell(&record.id, "stats", Some(figures(&cgroup)?));
        let next = Instant::now() + interval;
        while let Some(left) = next
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            wait(watch.as_ref(), left)?;
            if !look(&mut watch, &record.id) {
                watch = None;
            }
        }
        if !alive::status(&entry, &record)?.is_alive() {
            // It may have ended by it.
            look(&mut watch, &record.id);
            return Ok(());
        }
    }
}

/// Whether there is more to come.
fn look(watch: &mut Option<OomWatch>, id: &str) -> bool {
    let happened = watch.as_mut().and_then(OomWatch::happened);
    if happened == Some(true) {
        tell(id, "oom", None);
    }
    happened.is_some()
}

fn tell(id: &str, kind: &str, data: Option<Value>) {
    let mut event = json!({"type": kind, "id": id});
    if let Some(data) = data {
        event["data"] = data;
    }
    println!("{event}");
}

/// Until the memory has run out, or that long.
fn wait(watch: Option<&OomWatch>, left: Duration) -> Result<(), Failure> {
    let Some(watch) = watch else {
        thread::sleep(left);
        return Ok(());
    };
    // What is awaited is the exception on v2, whose file can be read at any time.
    let flags = if watch.wakes_by_exception() {
        PollFlags::POLLPRI
    } else {
        PollFlags::POLLIN
    };
    let mut watched = [PollFd::new(watch.as_fd(), flags)];
    let left = left + Duration::from_millis(1);
    let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut watched, left) {
        Err(Errno::EINTR) => Ok(()),
        other => other.doing("waiting").map(drop),
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
    let mut figures = json!({
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
    });
    for (part, controller, file) in [
        ("cpu", Cpu, "cpu.pressure"),
        ("memory", Memory, "memory.pressure"),
        ("blkio", Blkio, "io.pressure"),
    ] {
        if let Some(pressure) = pressure(cgroup, controller, file)? {
            figures[part]["psi"] = pressure;
        }
    }
    Ok(figures)
}

/// Of the time, how much was spent waiting (accounting/psi.rst). v1 has none, nor a kernel where it is switched off.
fn pressure(cgroup: &Cgroup, controller: Controller, file: &str) -> Result<Option<Value>, Failure> {
    let text = match cgroup.read_raw(controller, file) {
        Err(CgroupError::Io { source, .. }) if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            return Ok(None);
        }
        other => other?,
    };
    let Some(text) = text else { return Ok(None) };
    let line = |line: &str| {
        let (kind, rest) = line.split_once(' ')?;
        let figures: Map<String, Value> = rest
            .split(' ')
            .filter_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                Some((key.to_owned(), serde_json::from_str(value).ok()?))
            })
            .collect();
        Some((kind.to_owned(), Value::Object(figures)))
    };
    let kinds: Map<String, Value> = text.lines().filter_map(line).collect();
    Ok((!kinds.is_empty()).then_some(Value::Object(kinds)))
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
