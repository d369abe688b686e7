use super::*;
use coracle_board_support::wear::Reading;
use std::path::Path;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const TEN_MINUTES: Duration = Duration::from_secs(600);

fn reading(disk: &str, written_bytes: u64) -> Reading {
    Reading {
        disk: disk.try_into().unwrap(),
        written_bytes,
        worn_percent: None,
        reserve: None,
    }
}

#[test]
fn what_was_written_a_day_ago_is_forgotten() {
    let mut day = Day::default();
    for hour in 1..=30 {
        day.add(hour);
        day.turn(1);
    }
    // The 24 hours are the running one and 23 before it.
    assert_eq!(day.total(), (8..=30).sum::<u64>());
    day.add(u64::MAX);
    assert_eq!(day.total(), u64::MAX, "no overflow");
    day.turn(usize::MAX);
    assert_eq!(day.total(), 0);
    assert_eq!(Day::of(&[1; 100]).total(), 24);
}

#[test]
fn a_disk_counts_from_where_it_is_first_seen() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::load(&folder.path().join("written"), "boot");
    assert!(ledger.is_new());
    ledger.look(&[reading("mmcblk0", 1_000_000)], Duration::ZERO);
    assert_eq!(ledger.of_day("mmcblk0"), 0);
    ledger.look(&[reading("mmcblk0", 1_000_700)], TEN_MINUTES);
    assert_eq!(ledger.of_day("mmcblk0"), 700);
    // Another card in the same slot, or a counter that went round.
    ledger.look(&[reading("mmcblk0", 5)], TEN_MINUTES);
    assert_eq!(ledger.of_day("mmcblk0"), 705);
    // One that is gone is not kept for ever.
    ledger.look(&[reading("sda", 1)], TEN_MINUTES);
    assert_eq!(ledger.of_day("mmcblk0"), 0);
    let many: Vec<Reading> = (0..9).map(|at| reading(&format!("sd{at}"), at)).collect();
    ledger.look(&many, TEN_MINUTES);
    ledger.store().unwrap();
    let text = std::fs::read_to_string(folder.path().join("written")).unwrap();
    assert_eq!(text.matches("hours").count(), ledger::DISKS, "{text}");
}

#[test]
fn the_disk_is_written_once_an_hour() {
    let mut ledger = Ledger::load(Path::new("/nowhere/written"), "boot");
    let mut stores = 0;
    for look in 1..=24 * 6 {
        let passed = ledger.look(&[reading("sda", look * 10)], TEN_MINUTES);
        stores += usize::from(passed == Passed::AnHour);
    }
    assert_eq!(stores, 24);
    assert_eq!(
        ledger.look(&[reading("sda", 0)], 100 * HOUR),
        Passed::AnHour
    );
    assert!(ledger.store().is_err());
}

#[test]
fn what_was_counted_outlives_restarts_and_reboots() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("written");
    let mut ledger = Ledger::load(&file, "first");
    ledger.look(&[reading("mmcblk0", 1000)], Duration::ZERO);
    ledger.look(&[reading("mmcblk0", 1500)], TEN_MINUTES);
    ledger.store().unwrap();

    // The same boot: what was written while no supervisor was there counts, once.
    let mut ledger = Ledger::load(&file, "first");
    assert!(!ledger.is_new());
    assert_eq!(ledger.of_day("mmcblk0"), 500);
    ledger.look(&[reading("mmcblk0", 1700)], Duration::ZERO);
    assert_eq!(ledger.of_day("mmcblk0"), 700);

    // The next boot: the kernel began at 0, and passed what it had counted before.
    let mut ledger = Ledger::load(&file, "second");
    ledger.look(&[reading("mmcblk0", 2000)], Duration::ZERO);
    assert_eq!(ledger.of_day("mmcblk0"), 2500);

    // 50 minutes more end the hour that the first boot began.
    assert_eq!(
        ledger.look(&[reading("mmcblk0", 2000)], 5 * TEN_MINUTES),
        Passed::AnHour
    );
}

#[test]
fn a_file_that_cannot_be_read_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("written");
    std::fs::write(&file, "{\"boot\":").unwrap();
    assert!(Ledger::load(&file, "boot").is_new());
    assert!(!file.exists());
    assert!(folder.path().join("written.bad").exists());
}
