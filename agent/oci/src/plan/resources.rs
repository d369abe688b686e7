//! Limits as writes to the kernel's files: a pure function for each version of cgroups.

use coracle_runtime::cgroup::Controller;
use oci_spec::runtime::{LinuxResources, LinuxThrottleDevice};

use crate::failure::Failure;

mod v1;
mod v2;

pub use v1::{KERNEL_MEMORY, KERNEL_MEMORY_TCP, plan as for_v1};
pub use v2::{AS_IT_IS, plan as for_v2};

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub controller: Controller,
    pub file: String,
    pub value: String,
}

fn write(controller: Controller, file: &str, value: impl ToString) -> Write {
    Write {
        controller,
        file: file.into(),
        value: value.to_string(),
    }
}

/// The specification's 0 is "not set", as all runtimes read it.
fn given<T: PartialEq + From<u8>>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::from(0))
}

/// Below 0 is no limit.
fn or_max(value: i64) -> String {
    if value < 0 {
        "max".into()
    } else {
        value.to_string()
    }
}

/// The same file on both versions.
fn pids(resources: &LinuxResources) -> Option<Write> {
    let limit = given(resources.pids().as_ref().map(|pids| pids.limit()))?;
    Some(write(Controller::Pids, "pids.max", or_max(limit)))
}

/// `8:0 1048576`
fn throttle(device: &LinuxThrottleDevice) -> String {
    format!("{}:{} {}", device.major(), device.minor(), device.rate())
}

/// What both versions have and nothing here sets.
fn refuse_rare(resources: &LinuxResources) -> Result<(), Failure> {
    if resources
        .rdma()
        .as_ref()
        .is_some_and(|rdma| !rdma.is_empty())
    {
        return Err(Failure::Unsupported(
            "resources.rdma: this program sets no limits of RDMA".into(),
        ));
    }
    Ok(())
}
