//! What each app more costs the board beside its own memory: the supervisor's records, its share of the process that writes
//! logs and of those that answer for names.

mod board;

use board::{Board, app, own_kib, rootfs};
use coracle_digest::Sha256Digest;
use coracle_images::layout::RunConfig;
use coracle_protocol::deploy::Delta;
use coracle_protocol::local::{Answer, LayerSource};
use coracle_protocol::names::AppName;
use coracle_protocol::release::Image;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// In KiB of PSS, without pages of files: which of those are mapped depends on what the machine held of the program before.
const BUDGET: u64 = 60;

fn pss_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:"));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

/// The supervisor and those of its children that run its own program.
fn ours_kib(board: &Board) -> u64 {
    let pid = board.supervisor_pid();
    let program = |pid: u32| -> Option<PathBuf> { fs::read_link(format!("/proc/{pid}/exe")).ok() };
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
    let own: Vec<u32> = children
        .filter(|child| program(*child) == program(pid))
        .collect();
    assert!(own.len() <= 3, "{own:?}: a process for each app");
    pss_kib(pid) + own.into_iter().map(pss_kib).sum::<u64>()
}

/// Pages that two supervisors share count half for each: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn an_app_more_takes_little_of_the_boards_memory() {
    let _alone = alone();
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "memory"), RunConfig::default());
    let mut with = |count: u64| {
        let apps = (0..count).map(|number| {
            let mut app = app(&image, "echo up; exec sleep 1000");
            app.name = AppName::new(&format!("app{number}")).unwrap();
            app.limits.memory_bytes = 4 << 20;
            app.limits.cpu_millis = 10;
            app.limits.disk_bytes = Some(1 << 20);
            app
        });
        board.commit(&count.to_string(), apps.collect());
        // What a deployment takes for a moment is given back, and so is what the last of its links brings.
        std::thread::sleep(Duration::from_secs(4));
        ours_kib(&board)
    };
    let (few, many) = (with(2), with(14));
    let each = many.saturating_sub(few) / 12;
    println!("{few} KiB for 2 apps, {many} KiB for 14");
    assert!(each <= BUDGET, "{few} KiB for 2 apps, {many} KiB for 14");
}

/// What a child that unpacks writes to at its peak, beside what it was born with, in KiB.
const UNPACKING: u64 = 5120;

/// A layer with a manual of nearly 1 MiB, packed by gzip, whose old text the board holds while it makes the new one; and a file
/// of so many pieces that no more are remembered.
fn manual(board: &Board, version: u32) -> Image {
    let root = rootfs(board, &format!("version {version}"));
    let mut text = format!("version {version}\n");
    let mut state = 5u32;
    for line in 0u32.. {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text += &format!("{line}: {state:x}\n");
        if text.len() > 1_040_000 {
            break;
        }
    }
    let mut words = Vec::new();
    for line in 0u32..32_000 {
        for _ in 0..16 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            words.extend((state >> 8).to_le_bytes());
        }
        if line % 2 == version % 2 {
            words.extend(state.rotate_left(9).to_le_bytes());
        }
    }
    fs::write(root.join("bin/words"), words).unwrap();
    let file = root.join("www/manual");
    fs::write(&file, text).unwrap();
    let packed = Command::new("gzip").arg("-n9").arg(file).status().unwrap();
    assert!(packed.success());
    board.image(&root, RunConfig::default())
}

/// The same of the largest of the supervisor's children.
fn largest_child(supervisor: u32) -> u64 {
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = fs::read_to_string(children).unwrap_or_default();
    let all = children.split_whitespace().filter_map(own_kib);
    all.max().unwrap_or_default()
}

#[test]
fn a_delta_is_unpacked_in_bounded_memory() {
    let _alone = alone();
    let mut board = Board::start();
    let (first, second) = (manual(&board, 1), manual(&board, 2));
    board.commit("1", vec![app(&first, "exec sleep 1000")]);
    let (from, to) = (first.layers[0].diff_id, second.layers[0].diff_id);
    let mut bytes = Vec::new();
    let (old, new) = (board.tar(&first), board.tar(&second));
    coracle_images::delta::make(&old[..], &new[..], &mut bytes).unwrap();
    assert!(
        bytes.len() < 500_000,
        "{} bytes: the text was not compared",
        bytes.len()
    );
    let digest = Sha256Digest::of(&bytes);
    fs::write(board.store_blob(digest), &bytes).unwrap();
    let (release, mut deploy) = board.documents("2", vec![app(&second, "exec sleep 1000")]);
    deploy.deltas = vec![Delta {
        from,
        to,
        media_type: coracle_images::delta::MEDIA_TYPE.into(),
        digest,
        size: bytes.len() as u64,
    }];
    board.needs("2", &release, &deploy);
    let supervisor = board.supervisor_pid();
    let done = AtomicBool::new(false);
    let held = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut held = 0;
            while !done.load(Ordering::Relaxed) {
                held = largest_child(supervisor).max(held);
                std::thread::yield_now();
            }
            held
        });
        let answer = board.stage("2", to, LayerSource::Delta(digest));
        done.store(true, Ordering::Relaxed);
        assert_eq!(answer, Answer::Done);
        looking.join().unwrap()
    });
    let born_with = own_kib(&supervisor.to_string()).unwrap();
    let written = held.saturating_sub(born_with);
    println!("{held} KiB, of which it was born with {born_with}");
    assert!(written > 3 << 10, "{held} KiB: the child was not seen");
    assert!(written <= UNPACKING, "{held} KiB, born with {born_with}");
}
