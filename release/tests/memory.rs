//! Applying a delta takes as little memory as on a board, whatever is in the layers.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{Place, Ran};

/// What a process may write to (RLIMIT_DATA), in bytes. What it reads of its own files comes on top, some 2.5 MiB: 8 together.
const DATA: u64 = 5632 << 10;

fn gzipped(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    let done = Command::new("gzip").arg("-n9").arg(path).status().unwrap();
    assert!(done.success());
}

/// So many times a manual of nearly 1 MiB, packed, beside a file of so many pieces that no more are remembered.
fn tree(place: &Place, name: &str, version: u32, times: u32) {
    let folder = place.path(name);
    fs::create_dir(&folder).unwrap();
    for number in 0..times {
        files(&folder, version, number);
    }
    let packed = Command::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--mtime=@0", "-cf"])
        .arg(place.path(&format!("{name}.tar")))
        .arg("-C")
        .arg(&folder)
        .arg(".")
        .status()
        .unwrap();
    assert!(packed.success());
}

fn files(folder: &Path, version: u32, number: u32) {
    let mut text = format!("version {version}\n");
    let mut words = Vec::new();
    let mut state = 5 + number;
    for line in 0u32.. {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if text.len() < 1_040_000 {
            text += &format!("{line}: {state:x}\n");
        }
        if words.len() >= 6 << 20 {
            break;
        }
        for _ in 0..16 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            words.extend((state >> 8).to_le_bytes());
        }
        if line % 2 == version % 2 {
            words.extend(state.rotate_left(9).to_le_bytes());
        }
    }
    gzipped(&folder.join(format!("manual{number}")), &text);
    fs::write(folder.join(format!("words{number}")), words).unwrap();
}

fn apply(place: &Place, data: u64) -> Ran {
    let output = Command::new("prlimit")
        .arg(format!("--data={data}"))
        .args([env!("CARGO_BIN_EXE_coracle-release"), "delta", "apply"])
        .args(["--base", "old", "--delta", "d", "--output", "out"])
        .current_dir(place.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ran {
        // A process that gets no memory is ended by a signal.
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A number of KiB in a file about a process.
fn kib(pid: u32, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// KiB of its program and libraries that a process has on its page tables, once it has touched the models' memory.
fn of_files(pid: u32) -> Option<u64> {
    let own = kib(pid, "smaps_rollup", "Anonymous:")?;
    (own > 3 << 10).then_some(kib(pid, "smaps_rollup", "Rss:")? - own)
}

/// What `look` saw while a delta was applied.
fn while_applying(place: &Place, look: impl Fn(u32) -> Option<u64>) -> Vec<u64> {
    let mut applying = Command::new(env!("CARGO_BIN_EXE_coracle-release"))
        .args(["delta", "apply"])
        .args(["--base", "old", "--delta", "d", "--output", "again"])
        .current_dir(place.path(""))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    while applying.try_wait().unwrap().is_none() {
        seen.extend(look(applying.id()));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(applying.wait().unwrap().success());
    seen
}

/// Makes the delta between two layers of so many files.
fn made(times: u32) -> Place {
    let place = Place::new();
    tree(&place, "old", 1, times);
    tree(&place, "new", 2, times);
    place
        .run("delta make --base old.tar --target new.tar --output d")
        .ok();
    place
}

#[test]
fn a_delta_is_applied_in_the_memory_of_a_board() {
    let place = made(1);
    assert_ne!(apply(&place, DATA / 2).code, 0, "the limit does not count");
    apply(&place, DATA).ok();
    assert!(place.read("out") == place.read("new.tar"));
    let seen = while_applying(&place, of_files);
    let (most, last) = (*seen.iter().max().unwrap(), *seen.last().unwrap());
    assert!(last * 4 < most * 3, "{most} KiB at first, {last} at last");
}

#[test]
fn a_layer_of_four_times_the_size_is_applied_in_the_same_memory() {
    let peaks = [1, 4].map(|times| {
        let place = made(times);
        apply(&place, DATA).ok();
        assert!(place.read("out") == place.read("new.tar"));
        // The most that was resident, by the kernel's own account.
        let peaks = while_applying(&place, |pid| kib(pid, "status", "VmHWM:"));
        *peaks.last().unwrap()
    });
    // The kernel counts in batches of some hundred KiB; the layers differ by 20 MB.
    assert!(peaks[0].abs_diff(peaks[1]) < 1024, "{peaks:?} KiB");
}
