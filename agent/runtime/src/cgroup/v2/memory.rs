//! Memory and swap on v2, with the meaning that [`Limits`] gives them and that v1's files have.
//!
//! v2 differs twice: swap is counted by itself, not together with memory; and `memory.max`, set below what is in use,
//! kills where v1's file refuses.

use std::io;
use std::path::Path;

use super::super::files::{read_number, write};
use super::super::{CgroupError, Limits};
use super::set;

pub(super) fn set_memory(folder: &Path, limits: &Limits) -> Result<(), CgroupError> {
    if limits.memory_bytes.is_none() && limits.memory_swap_bytes.is_none() {
        return Ok(());
    }
    let memory_now = read_number(&folder.join("memory.max"))?;
    let swap_now = read_number(&folder.join("memory.swap.max"))?;
    let swap = swap(limits, memory_now, swap_now)?;
    // First, so that memory which is lowered cannot flow where it may not be.
    if let Some(swap) = swap {
        set_swap(folder, swap)?;
    }
    let memory = limits
        .memory_bytes
        .map_or(Ok(()), |memory| set_max(folder, memory, memory_now));
    let held = memory.and_then(|()| swapped_within(folder, swap));
    if held.is_err() {
        // What is refused leaves both as they were. The refusal is the one to tell.
        let old = |limit: Option<u64>| limit.map_or_else(|| "max".into(), |n| n.to_string());
        let _ = write(&folder.join("memory.max"), &old(memory_now));
        if swap.is_some() {
            let _ = write(&folder.join("memory.swap.max"), &old(swap_now));
        }
    }
    held
}

fn set_swap(folder: &Path, swap: u64) -> Result<(), CgroupError> {
    set(
        folder,
        "memory.swap.max",
        "memory and swap",
        &swap.to_string(),
    )
}

fn set_max(folder: &Path, memory: u64, now: Option<u64>) -> Result<(), CgroupError> {
    if memory < now.unwrap_or(u64::MAX) {
        lower(folder, memory)
    } else {
        set(folder, "memory.max", "memory", &memory.to_string())
    }
}

/// v2 takes a limit of swap that is passed already, and only lets no more in.
fn swapped_within(folder: &Path, swap: Option<u64>) -> Result<(), CgroupError> {
    let used = read_number(&folder.join("memory.swap.current"))?;
    match (used, swap) {
        (Some(used), Some(swap)) if used > swap => {
            Err(in_use(&folder.join("memory.swap.max"), swap))
        }
        _ => Ok(()),
    }
}

fn in_use(file: &Path, value: u64) -> CgroupError {
    CgroupError::Write {
        path: file.into(),
        value: value.to_string(),
        source: io::Error::from_raw_os_error(libc::EBUSY),
    }
}

/// What is left of the sum for swap; None when no sum was ever given.
fn swap(
    limits: &Limits,
    memory_now: Option<u64>,
    swap_now: Option<u64>,
) -> Result<Option<u64>, CgroupError> {
    let sum_now = memory_now.zip(swap_now).map(|(memory, swap)| memory + swap);
    let memory = limits.memory_bytes.or(memory_now).unwrap_or(u64::MAX);
    match limits.memory_swap_bytes.or(sum_now) {
        None => Ok(None),
        Some(sum) => sum
            .checked_sub(memory)
            .map(Some)
            .ok_or(CgroupError::SumBelowMemory { sum, memory }),
    }
}

/// Lowers `memory.max`, but never below what is in use after the kernel has taken back what it can.
fn lower(folder: &Path, memory: u64) -> Result<(), CgroupError> {
    let (max, high) = (folder.join("memory.max"), folder.join("memory.high"));
    let too_much =
        || Ok(read_number(&folder.join("memory.current"))?.is_some_and(|used| used > memory));
    if !too_much()? {
        return set(folder, "memory.max", "memory", &memory.to_string());
    }
    // memory.high takes back and slows down, and kills nobody (cgroup-v2.rst).
    write(&high, &memory.to_string())?;
    let outcome = match too_much() {
        Ok(true) => Err(in_use(&max, memory)),
        Ok(false) => write(&max, &memory.to_string()),
        Err(error) => Err(error),
    };
    outcome.and(write(&high, "max"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(memory: Option<u64>, sum: Option<u64>) -> Limits {
        Limits {
            memory_bytes: memory,
            memory_swap_bytes: sum,
            ..Limits::default()
        }
    }

    #[test]
    fn the_sum_is_kept_when_memory_changes() {
        let swap = |memory, sum| swap(&limits(memory, sum), Some(16), Some(16)).ok();
        assert_eq!(swap(Some(24), None), Some(Some(8)));
        assert_eq!(swap(Some(33), None), None);
        assert_eq!(swap(None, Some(20)), Some(Some(4)));
        assert_eq!(swap(Some(10), Some(10)), Some(Some(0)));
    }

    #[test]
    fn without_a_sum_swap_is_left_alone() {
        assert_eq!(swap(&limits(Some(24), None), None, None).ok(), Some(None));
        assert_eq!(
            swap(&limits(Some(24), None), Some(8), None).ok(),
            Some(None)
        );
        assert!(swap(&limits(None, Some(8)), None, None).is_err());
    }
}
