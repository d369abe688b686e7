//! What an operator is to see of a board at a glance.

use coracle_protocol::report::BoardUse;
use serde::Serialize;

/// Hot from here on where the board's profile does not say from where apps are slowed, in thousandths of a degree Celsius: where
/// most chips begin to slow themselves.
const HOT: i32 = 85_000;
/// Short, when less than so many per cent of the memory are to be had.
const MEMORY_PERCENT: u64 = 5;
/// Nearly full, when less than so many per cent of a file system are free.
const DISK_PERCENT: u64 = 10;

/// Something about a board that somebody should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// It is as hot as where apps are slowed, or as 85 °C.
    Hot,
    /// Less than a twentieth of its memory is to be had.
    MemoryShort,
    /// Less than a tenth of the file system of its state or images is free.
    DiskNearlyFull,
}

impl Mark {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::MemoryShort => "memory short",
            Self::DiskNearlyFull => "disk nearly full",
        }
    }
}

/// Those of a board, in the order above.
pub fn of(used: &BoardUse) -> Vec<Mark> {
    let hot = used.throttle_celsius.map_or(HOT, |at| i32::from(at) * 1000);
    let is_hot = used.millidegrees.is_some_and(|at| at >= hot);
    let left = |used: Option<u64>, of: Option<u64>| Some(of?.saturating_sub(used?));
    let memory = left(used.memory_used_bytes, used.memory_total_bytes);
    let disks = [
        (used.state_free_bytes, used.state_total_bytes),
        (used.images_free_bytes, used.images_total_bytes),
    ];
    let is_full = |(free, of)| is_below(DISK_PERCENT, free, of);
    [
        (Mark::Hot, is_hot),
        (
            Mark::MemoryShort,
            is_below(MEMORY_PERCENT, memory, used.memory_total_bytes),
        ),
        (Mark::DiskNearlyFull, disks.into_iter().any(is_full)),
    ]
    .into_iter()
    .filter_map(|(mark, is_there)| is_there.then_some(mark))
    .collect()
}

fn is_below(percent: u64, part: Option<u64>, of: Option<u64>) -> bool {
    // In 128 bits, since these are a board's words.
    let hundredfold = |n: u64, times: u64| u128::from(n) * u128::from(times);
    let (Some(part), Some(of)) = (part, of) else {
        return false;
    };
    hundredfold(part, 100) < hundredfold(of, percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_marked_by_its_own_profile_and_by_what_is_left() {
        let calm = BoardUse {
            memory_total_bytes: Some(1000),
            memory_used_bytes: Some(950),
            millidegrees: Some(74_999),
            throttle_celsius: Some(75),
            state_total_bytes: Some(1000),
            state_free_bytes: Some(100),
            ..BoardUse::default()
        };
        assert_eq!(of(&calm), []);
        assert_eq!(of(&BoardUse::default()), []);
        let with = |change: fn(&mut BoardUse)| {
            let mut used = calm.clone();
            change(&mut used);
            of(&used)
        };
        assert_eq!(with(|u| u.millidegrees = Some(75_000)), [Mark::Hot]);
        assert_eq!(with(|u| u.throttle_celsius = None), []);
        let no_policy = with(|u| (u.throttle_celsius, u.millidegrees) = (None, Some(85_000)));
        assert_eq!(no_policy, [Mark::Hot]);
        assert_eq!(
            with(|u| u.memory_used_bytes = Some(951)),
            [Mark::MemoryShort]
        );
        assert_eq!(
            with(|u| u.state_free_bytes = Some(99)),
            [Mark::DiskNearlyFull]
        );
        let images = with(|u| {
            (u.images_free_bytes, u.images_total_bytes) = (Some(0), Some(u64::MAX));
            u.memory_used_bytes = Some(u64::MAX);
        });
        assert_eq!(images, [Mark::MemoryShort, Mark::DiskNearlyFull]);
    }
}
