//! `execCPUAffinity` (runtime-spec config.md): which CPUs a process has that is executed in a container.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use oci_spec::runtime::Process;

use crate::failure::{Doing, Failure};
use crate::journal::Journal;
use crate::plan;

/// CPUs until the process is in the container's cgroup, and from then on.
pub(super) type Affinity = (Option<Vec<usize>>, Option<Vec<usize>>);

pub(super) fn planned(process: &Process) -> Result<Affinity, Failure> {
    let Some(wanted) = process.exec_cpu_affinity() else {
        return Ok((None, None));
    };
    let list = |text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        text.map(plan::process::number_list).transpose()
    };
    Ok((list(wanted.initial())?, list(wanted.cpu_affinity_final())?))
}

/// This command, and so all that it starts.
pub(super) fn move_there(cpus: &[usize], journal: &Journal) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu).doing("execCPUAffinity.initial")?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).doing("execCPUAffinity.initial")?;
    let mask = cpus.iter().fold(0_u128, |mask, cpu| {
        mask | 1_u128.checked_shl(*cpu as u32).unwrap_or(0)
    });
    journal.debug(&format!("initial CPU affinity: 0x{mask:x}"));
    Ok(())
}
