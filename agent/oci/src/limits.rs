//! Putting planned limits on a cgroup.

use coracle_runtime::cgroup::{CgroupError, Controller};
use coracle_runtime::{Cgroup, Limits};
use oci_spec::runtime::LinuxResources;

use crate::failure::Failure;
use crate::journal::Journal;
use crate::plan::devices;
use crate::plan::resources::{self, Write};
use crate::systemd;

/// Also device rules: a new container has those that every container has, when none are listed.
pub fn of_new(
    cgroup: &Cgroup,
    writes: &[Write],
    resources: Option<&LinuxResources>,
    journal: &Journal,
) -> Result<(), Failure> {
    write(cgroup, writes)?;
    if let Some(resources) = resources {
        tell_what_is_not_held(cgroup, resources, journal)?;
    }
    set_devices(cgroup, resources)
}

/// Only what is named. systemd is told first, where the cgroup is a scope of its own.
pub fn update(
    cgroup: &Cgroup,
    resources: &LinuxResources,
    scope: Option<&str>,
    journal: &Journal,
) -> Result<(), Failure> {
    let writes = planned(cgroup, Some(resources))?;
    if let Some(unit) = scope {
        systemd::change(unit, cgroup, &writes, resources)?;
    }
    write(cgroup, &writes)?;
    tell_what_is_not_held(cgroup, resources, journal)?;
    match resources.devices() {
        Some(list) if !list.is_empty() => set_devices(cgroup, Some(resources)),
        _ => Ok(()),
    }
}

/// As they are to be written to this cgroup, which may not be there yet.
pub fn planned(cgroup: &Cgroup, resources: Option<&LinuxResources>) -> Result<Vec<Write>, Failure> {
    let Some(resources) = resources else {
        return Ok(Vec::new());
    };
    let (mut writes, usage) = if cgroup.is_unified() {
        (resources::for_v2(resources)?, "memory.current")
    } else {
        (resources::for_v1(resources)?, "memory.usage_in_bytes")
    };
    let memory = resources.memory().as_ref();
    if let Some(memory) = memory.filter(|memory| memory.check_before_update() == Some(true)) {
        let used = cgroup.read_raw(Controller::Memory, usage)?;
        let used: i64 = used.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        if memory
            .limit()
            .is_some_and(|limit| limit > 0 && limit < used)
        {
            let reason = format!("memory.limit is below the {used} bytes in use");
            return Err(Failure::Config(reason));
        }
    }
    if cgroup.is_unified() {
        keep_quota(cgroup, &mut writes)?;
    } else {
        order_memory(cgroup, &mut writes)?;
    }
    Ok(writes)
}

fn write(cgroup: &Cgroup, writes: &[Write]) -> Result<(), Failure> {
    for Write {
        controller,
        file,
        value,
    } in writes
    {
        match cgroup.write_raw(*controller, file, value) {
            // bfq took the place of the older scheduler's weight.
            Err(CgroupError::Unsupported { .. })
                if ["blkio.weight", "blkio.weight_device"].contains(&file.as_str()) =>
            {
                let file = file.replace("blkio.", "blkio.bfq.");
                cgroup.write_raw(*controller, &file, value)?;
            }
            // No limit where the kernel has none.
            Err(CgroupError::Unsupported { .. })
                if is_swap(file) && (value == "max" || value == "-1") => {}
            // Told afterwards, by what the kernel holds then: the specification makes it no error.
            Err(CgroupError::Unsupported { .. }) if is_kernel_memory(file) => {}
            Err(CgroupError::Write { source, .. })
                if is_kernel_memory(file) && source.raw_os_error() == Some(NOT_SUPPORTED) => {}
            other => other?,
        }
    }
    Ok(())
}

/// What kernels since 5.16 say to a limit of their own memory: ENOTSUPP of theirs, which no header has.
const NOT_SUPPORTED: i32 = 524;

fn is_kernel_memory(file: &str) -> bool {
    [resources::KERNEL_MEMORY, resources::KERNEL_MEMORY_TCP].contains(&file)
}

/// Limits of the kernel's own memory: some kernels take the number and hold nothing, so that it is read back.
fn tell_what_is_not_held(
    cgroup: &Cgroup,
    resources: &LinuxResources,
    journal: &Journal,
) -> Result<(), Failure> {
    let Some(memory) = resources.memory() else {
        return Ok(());
    };
    for (name, file, wanted) in [
        ("kernel", resources::KERNEL_MEMORY, memory.kernel()),
        (
            "kernelTCP",
            resources::KERNEL_MEMORY_TCP,
            memory.kernel_tcp(),
        ),
    ] {
        let Some(wanted) = wanted.filter(|wanted| *wanted > 0) else {
            continue;
        };
        let held = cgroup.read_raw(Controller::Memory, file)?;
        let held = held.and_then(|text| text.trim().parse::<i64>().ok());
        if held.is_none_or(|held| held > wanted) {
            journal.warn(&format!(
                "memory.{name} of {wanted} bytes is not enforced: this kernel has no such limit any more; memory.limit counts the kernel's memory too"
            ));
        }
    }
    Ok(())
}

fn is_swap(file: &str) -> bool {
    matches!(file, "memory.swap.max" | "memory.memsw.limit_in_bytes")
}

/// v2 has quota and period in one file.
fn keep_quota(cgroup: &Cgroup, writes: &mut [Write]) -> Result<(), Failure> {
    let Some(write) = writes.iter_mut().find(|write| write.file == "cpu.max") else {
        return Ok(());
    };
    if let Some(period) = write.value.strip_prefix(resources::AS_IT_IS) {
        let now = cgroup.read_raw(Controller::Cpu, "cpu.max")?;
        let now = now.unwrap_or_default();
        let quota = now.split_whitespace().next().unwrap_or("max");
        write.value = format!("{quota}{period}");
    }
    Ok(())
}

/// The kernel keeps memory within memory and swap together at every moment: raising starts with the second.
fn order_memory(cgroup: &Cgroup, writes: &mut [Write]) -> Result<(), Failure> {
    const BOTH: &str = "memory.memsw.limit_in_bytes";
    let at = |name: &str| writes.iter().position(|write| write.file == name);
    let (Some(memory), Some(both)) = (at("memory.limit_in_bytes"), at(BOTH)) else {
        return Ok(());
    };
    let number = |text: &str| match text.trim().parse::<i64>() {
        Ok(number) if number >= 0 => number,
        _ => i64::MAX,
    };
    let now = cgroup.read_raw(Controller::Memory, BOTH)?;
    let now = now.map_or(i64::MAX, |text| number(&text));
    if number(&writes[memory].value) > now {
        writes.swap(memory, both);
    }
    Ok(())
}

fn set_devices(cgroup: &Cgroup, resources: Option<&LinuxResources>) -> Result<(), Failure> {
    if cgroup.is_unified() {
        let devices = devices::allowed(resources)?;
        return Ok(cgroup.set_limits(&Limits {
            devices,
            ..Limits::default()
        })?);
    }
    for (file, line) in devices::v1_lines(resources)? {
        cgroup.write_raw(Controller::Devices, file, &line)?;
    }
    Ok(())
}
