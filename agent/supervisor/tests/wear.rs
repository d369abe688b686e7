//! What is written to a board's disk, under the real supervisor: a card's counter that the test writes.

mod board;

use board::Board;
use coracle_protocol::report::{FlashReserve, StorageWear};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn hardware(board: &Board) -> PathBuf {
    board.dir.path().join("hardware")
}

/// So much was written to the card since it was powered.
fn written(board: &Board, bytes: u64) {
    let card = hardware(board).join("sys/class/block/mmcblk0");
    let stat = format!("9 0 9 9 9 0 {} 9 0 9 9 0 0 0 0 0 0\n", bytes / 512);
    fs::write(card.join("stat"), stat).unwrap();
}

fn boot(board: &Board, id: &str) {
    let folder = hardware(board).join("proc/sys/kernel/random");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("boot_id"), format!("{id}\n")).unwrap();
}

/// A card that bears 8 MiB a day.
fn board() -> Board {
    let mut board = Board::start();
    board.kill_supervisor();
    let site = "[storage]\nstate = [{ device = \"/dev/mmcblk?\", medium = \"emmc\" }]\n\
        [storage.wear]\nwrite_mib_per_day = 8\n";
    fs::write(board.config().with_file_name("board.toml"), site).unwrap();
    let card = hardware(&board).join("sys/class/block/mmcblk0");
    fs::create_dir_all(card.join("device")).unwrap();
    fs::write(card.join("dev"), "179:0\n").unwrap();
    written(&board, 100 * MIB);
    boot(&board, "first");
    let root = format!(
        "[agent]\nhardware_root = \"{}\"\n",
        hardware(&board).display()
    );
    let text = fs::read_to_string(board.config()).unwrap();
    fs::write(board.config(), text.replacen("[agent]\n", &root, 1)).unwrap();
    board.start_supervisor();
    board
}

fn storage(board: &Board) -> StorageWear {
    let mut all = board.status().storage;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Ends the supervisor on purpose, as a board does that is powered off.
fn end(board: &mut Board) {
    let pid = Pid::from_raw(board.supervisor_pid() as i32).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    board::wait_for("its last words", Duration::from_secs(20), || {
        let last = board.log();
        last.contains("the apps stay as they are").then_some(())
    });
    board.kill_supervisor();
    fs::write(board.dir.path().join("log"), "").unwrap();
}

#[test]
fn more_than_the_budget_of_a_day_is_told_across_restarts_and_reboots() {
    let mut board = board();
    let first = storage(&board);
    assert_eq!((first.disk.as_str(), first.written_bytes), ("mmcblk0", 0));
    assert_eq!(first.budget_bytes, 8 * MIB);
    assert_eq!((first.worn_percent, first.reserve), (None, None));
    assert!(!board.log().contains("wears out early"));

    // A crash loses nothing that the kernel counted.
    board.kill_supervisor();
    written(&board, 105 * MIB);
    board.start_supervisor();
    assert_eq!(storage(&board).written_bytes, 5 * MIB);

    // After a reboot the kernel counts from nothing.
    end(&mut board);
    written(&board, 2 * MIB);
    boot(&board, "second");
    board.start_supervisor();
    assert_eq!(storage(&board).written_bytes, 7 * MIB);
    assert!(!board.log().contains("wears out early"));

    end(&mut board);
    written(&board, 4 * MIB);
    let device = hardware(&board).join("sys/class/block/mmcblk0/device");
    fs::write(device.join("life_time"), "0x03 0x01\n").unwrap();
    fs::write(device.join("pre_eol_info"), "0x02\n").unwrap();
    board.start_supervisor();
    let last = storage(&board);
    assert_eq!(last.written_bytes, 9 * MIB);
    assert!(last.is_too_much());
    assert_eq!(last.worn_percent, Some(30));
    assert_eq!(last.reserve, Some(FlashReserve::Low));
    assert!(board.log().contains("wears out early"), "{}", board.log());
}

#[test]
fn a_board_without_a_budget_counts_nothing() {
    let mut board = board();
    storage(&board);
    board.kill_supervisor();
    let file = board.state().join("deployments/written");
    fs::remove_file(&file).unwrap();
    let site = "[storage]\nstate = [{ device = \"/dev/mmcblk?\", medium = \"emmc\" }]\n";
    fs::write(board.config().with_file_name("board.toml"), site).unwrap();
    board.start_supervisor();
    assert_eq!(board.status().storage, []);
    assert!(!file.exists());
}
