//! `update`: limits by option, or a `resources` of the specification.

use std::path::PathBuf;

use lexopt::prelude::*;

use super::{take_id, wanted};
use crate::failure::Failure;
use crate::id::ContainerId;

#[derive(Debug, Default)]
pub struct Update {
    /// `-` is standard input.
    pub resources: Option<PathBuf>,
    pub memory: Option<i64>,
    pub memory_reservation: Option<i64>,
    pub memory_swap: Option<i64>,
    pub kernel_memory: Option<i64>,
    pub kernel_memory_tcp: Option<i64>,
    pub cpu_period: Option<u64>,
    pub cpu_quota: Option<i64>,
    pub cpu_burst: Option<u64>,
    pub cpu_idle: Option<i64>,
    pub cpu_shares: Option<u64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    pub pids_limit: Option<i64>,
    pub blkio_weight: Option<u16>,
}

pub(super) fn parse(parser: &mut lexopt::Parser) -> Result<(ContainerId, Update), Failure> {
    let (mut id, mut update) = (None, Update::default());
    while let Some(argument) = parser.next()? {
        match argument {
            Long("resources") | Short('r') => update.resources = Some(parser.value()?.into()),
            Long("memory") => update.memory = Some(bytes(&parser.value()?.string()?)?),
            Long("memory-reservation") => {
                update.memory_reservation = Some(bytes(&parser.value()?.string()?)?);
            }
            Long("memory-swap") => update.memory_swap = Some(bytes(&parser.value()?.string()?)?),
            Long("cpu-period") => update.cpu_period = Some(parser.value()?.parse()?),
            Long("cpu-quota") => update.cpu_quota = Some(parser.value()?.parse()?),
            Long("cpu-burst") => update.cpu_burst = Some(parser.value()?.parse()?),
            Long("cpu-idle") => update.cpu_idle = Some(parser.value()?.parse()?),
            Long("cpu-share" | "cpu-shares") => update.cpu_shares = Some(parser.value()?.parse()?),
            Long("cpuset-cpus") => update.cpuset_cpus = Some(parser.value()?.string()?),
            Long("cpuset-mems") => update.cpuset_mems = Some(parser.value()?.string()?),
            Long("pids-limit") => update.pids_limit = Some(parser.value()?.parse()?),
            Long("blkio-weight") => update.blkio_weight = Some(parser.value()?.parse()?),
            Long("kernel-memory") => {
                update.kernel_memory = Some(bytes(&parser.value()?.string()?)?);
            }
            Long("kernel-memory-tcp") => {
                update.kernel_memory_tcp = Some(bytes(&parser.value()?.string()?)?);
            }
            other => take_id(&mut id, other)?,
        }
    }
    Ok((wanted(id)?, update))
}

/// `-1`, `1048576`, `64M`, `1gb`.
pub(super) fn bytes(text: &str) -> Result<i64, Failure> {
    let wrong = || Failure::Usage(format!("{text:?} is no number of bytes"));
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let lower = lower.strip_suffix('i').unwrap_or(lower);
    let shift = match lower.chars().last() {
        Some('k') => 10,
        Some('m') => 20,
        Some('g') => 30,
        Some('t') => 40,
        _ => 0,
    };
    let digits = if shift == 0 {
        lower
    } else {
        &lower[..lower.len() - 1]
    };
    let number: i64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}
