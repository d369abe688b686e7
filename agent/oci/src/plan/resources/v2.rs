//! cgroup v2 (kernel, Documentation/admin-guide/cgroup-v2.rst), with runc's conversions of what v1 counted otherwise.

use coracle_runtime::Limits;
use coracle_runtime::cgroup::Controller::{Blkio, Cpu, Cpuset, Memory};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::{Write, given, or_max, pids, refuse_rare, write};
use crate::failure::Failure;

pub fn plan(resources: &LinuxResources) -> Result<Vec<Write>, Failure> {
    refuse_rare(resources)?;
    let mut writes = Vec::new();
    if let Some(memory) = resources.memory() {
        plan_memory(memory, &mut writes)?;
    }
    if let Some(cpu) = resources.cpu() {
        plan_cpu(cpu, &mut writes);
    }
    writes.extend(pids(resources));
    if let Some(io) = resources.block_io() {
        plan_io(io, &mut writes);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.max", limit.page_size());
        writes.push(write(Memory, &file, or_max(limit.limit())));
    }
    // Last, since the specification lets it overrule the rest.
    for (file, value) in resources.unified().iter().flatten() {
        if file.contains('/') || file.starts_with("cgroup.") || !file.contains('.') {
            return Err(Failure::Config(format!(
                "resources.unified {file:?} is no limit"
            )));
        }
        writes.push(write(Memory, file, value));
    }
    Ok(writes)
}

fn plan_memory(memory: &LinuxMemory, writes: &mut Vec<Write>) -> Result<(), Failure> {
    let unsupported = |what: &str| {
        Err(Failure::Unsupported(format!(
            "memory.{what} with cgroup v2"
        )))
    };
    if memory.swappiness().is_some_and(|value| value != u64::MAX) {
        return unsupported("swappiness");
    }
    if memory.disable_oom_killer() == Some(true) {
        return unsupported("disableOOMKiller");
    }
    let limit = given(memory.limit());
    writes.extend(limit.map(|value| write(Memory, "memory.max", or_max(value))));
    writes.extend(
        given(memory.reservation()).map(|value| write(Memory, "memory.low", or_max(value))),
    );
    // v1 counted both together.
    match (given(memory.swap()), limit) {
        // Without a limit of memory there is none of both together.
        (None, Some(limit)) if limit < 0 => writes.push(write(Memory, "memory.swap.max", "max")),
        (None, _) => {}
        (Some(swap), _) if swap < 0 => writes.push(write(Memory, "memory.swap.max", "max")),
        (Some(swap), Some(limit)) if limit >= 0 && swap >= limit => {
            writes.push(write(Memory, "memory.swap.max", swap - limit));
        }
        (Some(_), _) => {
            return Err(Failure::Config(
                "memory.swap is less than memory.limit, or alone".into(),
            ));
        }
    }
    Ok(())
}

/// In place of the quota in cpu.max: a new period alone leaves it.
pub const AS_IT_IS: &str = "-";

fn plan_cpu(cpu: &LinuxCpu, writes: &mut Vec<Write>) {
    let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    writes.extend(cpu.idle().map(|value| write(Cpu, "cpu.idle", value)));
    writes.extend(
        given(cpu.shares())
            .map(|value| write(Cpu, "cpu.weight", Limits::weight_from_shares(value))),
    );
    let quota = given(cpu.quota());
    let period = given(cpu.period());
    // A quota alone leaves the period, which the kernel sees to.
    let line = match (quota.map(or_max), period) {
        (None, None) => None,
        (Some(quota), None) => Some(quota),
        (quota, Some(period)) => {
            let quota = quota.unwrap_or_else(|| AS_IT_IS.into());
            Some(format!("{quota} {period}"))
        }
    };
    writes.extend(line.map(|line| write(Cpu, "cpu.max", line)));
    writes.extend(cpu.burst().map(|value| write(Cpu, "cpu.max.burst", value)));
    writes.extend(text(cpu.cpus()).map(|value| write(Cpuset, "cpuset.cpus", value)));
    writes.extend(text(cpu.mems()).map(|value| write(Cpuset, "cpuset.mems", value)));
}

/// blkio's 10 to 1000 on the scale of 1 to 10000.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990
}

fn plan_io(io: &LinuxBlockIo, writes: &mut Vec<Write>) {
    writes.extend(
        given(io.weight())
            .map(|value| write(Blkio, "io.weight", format!("default {}", io_weight(value)))),
    );
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = given(device.weight()) {
            let line = format!(
                "{}:{} {}",
                device.major(),
                device.minor(),
                io_weight(weight)
            );
            writes.push(write(Blkio, "io.weight", line));
        }
    }
    for (key, devices) in [
        ("rbps", io.throttle_read_bps_device()),
        ("wbps", io.throttle_write_bps_device()),
        ("riops", io.throttle_read_iops_device()),
        ("wiops", io.throttle_write_iops_device()),
    ] {
        for device in devices.iter().flatten() {
            let line = format!(
                "{}:{} {key}={}",
                device.major(),
                device.minor(),
                device.rate()
            );
            writes.push(write(Blkio, "io.max", line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Result<Vec<String>, Failure> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let line = |write: Write| format!("{}={}", write.file, write.value);
        Ok(plan(&resources)?.into_iter().map(line).collect())
    }

    #[test]
    fn what_v1_counted_is_converted() {
        let all = planned(
            r#"{"memory":{"limit":100,"swap":150,"reservation":-1},"cpu":{"shares":1024,"quota":-1,"period":50000},
                "blockIO":{"weight":1000,"throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":600}]},
                "hugepageLimits":[{"pageSize":"2MB","limit":4194304}],"unified":{"memory.high":"90"}}"#,
        );
        let expected = [
            "memory.max=100",
            "memory.low=max",
            "memory.swap.max=50",
            "cpu.weight=100",
            "cpu.max=max 50000",
            "io.weight=default 10000",
            "io.max=8:0 wbps=600",
            "hugetlb.2MB.max=4194304",
            "memory.high=90",
        ];
        assert_eq!(all.unwrap(), expected);
        for (json, write) in [
            (r#"{"memory":{"reservation":80}}"#, "memory.low=80"),
            (r#"{"unified":{"memory.min":"30"}}"#, "memory.min=30"),
            (r#"{"unified":{"memory.low":"40"}}"#, "memory.low=40"),
        ] {
            assert_eq!(planned(json).unwrap(), [write]);
        }
    }

    #[test]
    fn files_of_the_kernel_s_own_are_no_limits() {
        for file in ["cgroup.procs", "../memory.max", "x"] {
            let json = format!(r#"{{"unified":{{"{file}":"1"}}}}"#);
            assert!(planned(&json).is_err(), "{file}");
        }
        assert!(planned(r#"{"memory":{"swappiness":60}}"#).is_err());
        let period = planned(r#"{"cpu":{"period":50000}}"#).unwrap();
        assert_eq!(period, ["cpu.max=- 50000"]);
        let quota = planned(r#"{"cpu":{"quota":20000}}"#).unwrap();
        assert_eq!(quota, ["cpu.max=20000"]);
        let unlimited = planned(r#"{"memory":{"limit":-1}}"#).unwrap();
        assert_eq!(unlimited, ["memory.max=max", "memory.swap.max=max"]);
        assert!(planned(r#"{"memory":{"swap":60}}"#).is_err());
    }
}
