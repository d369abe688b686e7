//! `update`: other limits for a container that runs.

use std::io::Read;
use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use crate::args::Update;
use crate::failure::{Failure, OnPath};
use crate::id::ContainerId;
use crate::journal::Journal;
use crate::store::Store;
use crate::{alive, limits};

pub fn update(
    store: &Store,
    id: &ContainerId,
    options: &Update,
    journal: &Journal,
) -> Result<(), Failure> {
    let entry = store.lock(id)?;
    let (record, status) = alive::read(&entry)?;
    if !status.is_alive() {
        return Err(Failure::WrongStatus {
            action: "update",
            id: id.to_string(),
            status,
        });
    }
    let resources = match &options.resources {
        Some(path) => read(path)?,
        None => named(options),
    };
    limits::update(
        &alive::cgroup(&record)?,
        &resources,
        record.scope.as_deref(),
        journal,
    )
}

fn read(path: &Path) -> Result<LinuxResources, Failure> {
    let text = if path == Path::new("-") {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text).on(path)?;
        text
    } else {
        std::fs::read(path).on(path)?
    };
    serde_json::from_slice(&text).map_err(|source| Failure::Json {
        path: path.into(),
        source,
    })
}

fn named(options: &Update) -> LinuxResources {
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(options.memory)
        .set_reservation(options.memory_reservation)
        .set_swap(options.memory_swap)
        .set_kernel(options.kernel_memory)
        .set_kernel_tcp(options.kernel_memory_tcp);
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(options.cpu_shares)
        .set_quota(options.cpu_quota)
        .set_period(options.cpu_period)
        .set_burst(options.cpu_burst)
        .set_idle(options.cpu_idle)
        .set_cpus(options.cpuset_cpus.clone())
        .set_mems(options.cpuset_mems.clone());
    let mut block_io = LinuxBlockIo::default();
    block_io.set_weight(options.blkio_weight);
    let mut resources = LinuxResources::default();
    resources
        .set_memory(Some(memory))
        .set_cpu(Some(cpu))
        .set_block_io(Some(block_io));
    if let Some(limit) = options.pids_limit {
        let mut pids = LinuxPids::default();
        // As in runc: none at all would leave no way to execute anything, and in a configuration 0 is "not set".
        pids.set_limit(if limit == 0 { 1 } else { limit });
        resources.set_pids(Some(pids));
    }
    resources
}
