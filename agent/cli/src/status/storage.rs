//! What is written to the board's disks, in words.

use crate::human::size;
use coracle_protocol::report::{FlashReserve, StorageWear};

pub fn describe(disk: &StorageWear) -> String {
    let written = size(disk.written_bytes);
    let budget = size(disk.budget_bytes);
    let mut text = format!("{} {written} written in a day, of {budget}", disk.disk);
    if disk.is_too_much() {
        text += ": more than this board's profile allows, it wears out early";
    }
    match disk.worn_percent {
        Some(percent @ ..=100) => text += &format!("; up to {percent} % of its life are used"),
        Some(_) => text += "; all of its life is used: replace it",
        None => {}
    }
    match disk.reserve {
        Some(FlashReserve::Low) => text += "; four fifths of its spare blocks are used",
        Some(FlashReserve::Urgent) => {
            text += "; nine tenths of its spare blocks are used: replace it"
        }
        Some(FlashReserve::Normal) | None => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_written_too_much_is_told() {
        let mut disk = StorageWear {
            disk: "mmcblk0".into(),
            written_bytes: 1 << 30,
            budget_bytes: 2 << 30,
            worn_percent: None,
            reserve: None,
        };
        assert_eq!(describe(&disk), "mmcblk0 1 GiB written in a day, of 2 GiB");
        disk.written_bytes = 3 << 30;
        disk.worn_percent = Some(20);
        disk.reserve = Some(FlashReserve::Low);
        assert_eq!(
            describe(&disk),
            "mmcblk0 3 GiB written in a day, of 2 GiB: more than this board's profile allows, it wears out early; \
             up to 20 % of its life are used; four fifths of its spare blocks are used"
        );
        disk.worn_percent = Some(110);
        disk.reserve = Some(FlashReserve::Normal);
        assert!(describe(&disk).ends_with("; all of its life is used: replace it"));
    }
}
