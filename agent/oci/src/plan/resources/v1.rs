//! cgroup v1 (runtime-spec config-linux.md; kernel, Documentation/admin-guide/cgroup-v1).

use coracle_runtime::cgroup::Controller::{Blkio, Cpu, Cpuset, Hugetlb, Memory, NetCls, NetPrio};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources};

use super::{Write, given, pids, refuse_rare, throttle, write};
use crate::failure::Failure;

/// Of the kernel's own memory: held by kernels before 5.16, taken without effect or refused since, and not there on v2.
pub const KERNEL_MEMORY: &str = "memory.kmem.limit_in_bytes";
/// Of the buffers of TCP; not there on v2.
pub const KERNEL_MEMORY_TCP: &str = "memory.kmem.tcp.limit_in_bytes";

pub fn plan(resources: &LinuxResources) -> Result<Vec<Write>, Failure> {
    refuse_rare(resources)?;
    let unsupported = |what: &str| Err(Failure::Unsupported(what.into()));
    if resources
        .unified()
        .as_ref()
        .is_some_and(|unified| !unified.is_empty())
    {
        return unsupported("resources.unified: this machine has cgroup v1");
    }
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
        let file = format!("hugetlb.{}.limit_in_bytes", limit.page_size());
        writes.push(write(Hugetlb, &file, limit.limit()));
    }
    if let Some(network) = resources.network() {
        plan_network(network, &mut writes);
    }
    Ok(writes)
}

/// Marks for tc(8) and nft(8), and priorities by device.
fn plan_network(network: &LinuxNetwork, writes: &mut Vec<Write>) {
    let class = given(network.class_id());
    writes.extend(class.map(|class| write(NetCls, "net_cls.classid", class)));
    for one in network.priorities().iter().flatten() {
        let line = format!("{} {}", one.name(), one.priority());
        writes.push(write(NetPrio, "net_prio.ifpriomap", line));
    }
}

fn plan_memory(memory: &LinuxMemory, writes: &mut Vec<Write>) -> Result<(), Failure> {
    // Without a limit of memory there is none of both together, which would be below it.
    let unlimited = memory.limit().filter(|limit| *limit < 0);
    for (file, value) in [
        ("memory.limit_in_bytes", memory.limit()),
        (
            "memory.memsw.limit_in_bytes",
            given(memory.swap()).or(unlimited),
        ),
        ("memory.soft_limit_in_bytes", memory.reservation()),
        (KERNEL_MEMORY, memory.kernel()),
        (KERNEL_MEMORY_TCP, memory.kernel_tcp()),
    ] {
        writes.extend(given(value).map(|value| write(Memory, file, value)));
    }
    match memory.swappiness() {
        // What engines send for "not set".
        None | Some(u64::MAX) => {}
        Some(value @ 0..=100) => writes.push(write(Memory, "memory.swappiness", value)),
        Some(value) => {
            return Err(Failure::Config(format!(
                "swappiness {value} is not 0 to 100"
            )));
        }
    }
    if memory.disable_oom_killer() == Some(true) {
        writes.push(write(Memory, "memory.oom_control", 1));
    }
    Ok(())
}

/// The period before the quota: the kernel checks one against the other.
fn plan_cpu(cpu: &LinuxCpu, writes: &mut Vec<Write>) {
    let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    writes.extend(given(cpu.shares()).map(|value| write(Cpu, "cpu.shares", value)));
    writes.extend(given(cpu.period()).map(|value| write(Cpu, "cpu.cfs_period_us", value)));
    writes.extend(given(cpu.quota()).map(|value| write(Cpu, "cpu.cfs_quota_us", value)));
    writes.extend(
        cpu.burst()
            .map(|value| write(Cpu, "cpu.cfs_burst_us", value)),
    );
    writes.extend(cpu.idle().map(|value| write(Cpu, "cpu.idle", value)));
    writes.extend(given(cpu.realtime_period()).map(|value| write(Cpu, "cpu.rt_period_us", value)));
    writes
        .extend(given(cpu.realtime_runtime()).map(|value| write(Cpu, "cpu.rt_runtime_us", value)));
    writes.extend(text(cpu.cpus()).map(|value| write(Cpuset, "cpuset.cpus", value)));
    writes.extend(text(cpu.mems()).map(|value| write(Cpuset, "cpuset.mems", value)));
}

fn plan_io(io: &LinuxBlockIo, writes: &mut Vec<Write>) {
    writes.extend(given(io.weight()).map(|value| write(Blkio, "blkio.weight", value)));
    writes.extend(given(io.leaf_weight()).map(|value| write(Blkio, "blkio.leaf_weight", value)));
    for device in io.weight_device().iter().flatten() {
        let line = |value| format!("{}:{} {value}", device.major(), device.minor());
        writes.extend(
            given(device.weight()).map(|value| write(Blkio, "blkio.weight_device", line(value))),
        );
        writes.extend(
            given(device.leaf_weight())
                .map(|value| write(Blkio, "blkio.leaf_weight_device", line(value))),
        );
    }
    for (file, devices) in [
        (
            "blkio.throttle.read_bps_device",
            io.throttle_read_bps_device(),
        ),
        (
            "blkio.throttle.write_bps_device",
            io.throttle_write_bps_device(),
        ),
        (
            "blkio.throttle.read_iops_device",
            io.throttle_read_iops_device(),
        ),
        (
            "blkio.throttle.write_iops_device",
            io.throttle_write_iops_device(),
        ),
    ] {
        writes.extend(
            devices
                .iter()
                .flatten()
                .map(|device| write(Blkio, file, throttle(device))),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Vec<String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let line = |write: Write| format!("{}={}", write.file, write.value);
        plan(&resources).unwrap().into_iter().map(line).collect()
    }

    #[test]
    fn values_go_to_the_files_unchanged() {
        let all = planned(
            r#"{"memory":{"limit":67108864,"swap":-1,"kernel":1048576,"kernelTCP":2097152,
                "swappiness":10,"disableOOMKiller":true},
                "cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0"},
                "pids":{"limit":-1},
                "blockIO":{"weight":200,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}]}}"#,
        );
        let expected = [
            "memory.limit_in_bytes=67108864",
            "memory.memsw.limit_in_bytes=-1",
            "memory.kmem.limit_in_bytes=1048576",
            "memory.kmem.tcp.limit_in_bytes=2097152",
            "memory.swappiness=10",
            "memory.oom_control=1",
            "cpu.shares=512",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=50000",
            "cpuset.cpus=0",
            "pids.max=max",
            "blkio.weight=200",
            "blkio.throttle.read_bps_device=8:0 600",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn huge_pages_and_marks_of_packets_have_hierarchies_of_their_own() {
        let all = planned(
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}],
                "network":{"classID":1048577,"priorities":[{"name":"lo","priority":5}]}}"#,
        );
        let expected = [
            "hugetlb.2MB.limit_in_bytes=4194304",
            "net_cls.classid=1048577",
            "net_prio.ifpriomap=lo 5",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn nothing_is_written_for_what_is_not_set() {
        assert!(
            planned(r#"{"memory":{"limit":0},"cpu":{"shares":0},"pids":{"limit":0}}"#).is_empty()
        );
    }

    #[test]
    fn what_it_cannot_hold_is_refused_by_name() {
        for (json, name) in [
            (r#"{"unified":{"memory.high":"1"}}"#, "unified"),
            (r#"{"rdma":{"mlx5_1":{"hcaHandles":3}}}"#, "rdma"),
        ] {
            let resources: LinuxResources = serde_json::from_str(json).unwrap();
            let refused = plan(&resources).unwrap_err().to_string();
            assert!(refused.contains(name), "{refused}");
        }
    }
}
