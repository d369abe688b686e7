//! Memory and swap.

use std::time::{Duration, Instant};

use coracle_runtime::cgroup::CgroupError;
use coracle_runtime::launch::Running;
use coracle_runtime::{Exit, Limits, reap};

use crate::support::{self, Place};

const MIB: u64 = 1 << 20;

/// With swap where it is given, else all in memory, as the supervisor asks for it.
fn memory(mib: u64, with_swap_mib: u64) -> Limits {
    Limits {
        memory_bytes: Some(mib * MIB),
        memory_swap_bytes: Some(with_swap_mib * MIB),
        ..Limits::default()
    }
}

/// With `/ys`, 64 MiB to fill memory with. Not zeros: Linux 6.12 and newer take pages of zeros back without swapping. Nor
/// from a pipe: one who writes into it may meet the full cgroup before a killed reader's memory is counted off (7.2).
fn place(limits: &Limits) -> Place {
    let place = Place::with(limits);
    std::fs::write(place.path("image/ys"), vec![b'y'; 64 << 20]).unwrap();
    place
}

/// Fills so many MiB at once, and tells how it ended: 0, or 137 for SIGKILL.
fn hog(mib: u64) -> String {
    format!("dd if=/ys of=/dev/null bs={mib}M count=1 2>/dev/null; echo {mib} MiB: $?")
}

/// Takes memory that can be given back to swap only: a file of a tmpfs.
fn fill_file(mib: u64) -> String {
    format!("dd if=/ys of=/dev/shm/file bs=1M count={mib} 2>/dev/null; echo full; exec sleep 60")
}

pub fn a_hog_is_killed_and_nothing_else() {
    let place = place(&memory(16, 16));
    let neighbour = Place::beside(&place, "neighbour", &memory(16, 16));
    let (other, _output) = neighbour.start("exec sleep 60");
    let outcome = place.shell(&format!("{}; {}", hog(64), hog(4)));
    assert_eq!(outcome.output, "64 MiB: 137\n4 MiB: 0\n");
    assert_eq!(
        outcome.exit,
        Exit::Code(0),
        "the container's first process lives on"
    );
    assert_eq!(neighbour.cgroup.processes().unwrap(), [other.pid]);

    let stats = place.cgroup.stats().unwrap();
    assert_eq!(stats.oom_kills, Some(1));
    assert_eq!(stats.memory_limit_bytes, Some(16 * MIB));
    // Kernels before 5.0, which have no such setting, let the one that they kill pass the limit by some pages on its way out.
    let is_older = !std::path::Path::new("/proc/sys/vm/watermark_boost_factor").exists();
    let more = if is_older { 256 << 10 } else { 0 };
    support::assert_peak(&place, &stats, 15 * MIB..=16 * MIB + more);
    assert_eq!(neighbour.cgroup.stats().unwrap().oom_kills, Some(0));
    neighbour.stop(other);
}

fn require_swap() {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap();
    if swaps.lines().count() < 2 {
        support::not_here("no swap is on");
    }
}

pub fn swap_is_bounded() {
    require_swap();
    let ends = |with_swap| place(&memory(16, with_swap)).shell(&hog(28)).output;
    assert_eq!(ends(48), "28 MiB: 0\n", "12 MiB of it are swapped out");
    assert_eq!(ends(20), "28 MiB: 137\n");
    assert_eq!(ends(16), "28 MiB: 137\n");
}

pub fn a_live_limit_bites() {
    let place = place(&memory(64, 64));
    let script = format!(
        "{}; read next; {}; read next; {}",
        hog(24),
        hog(24),
        hog(24)
    );
    let (running, mut input, mut output) = place.start_with_input(&script);
    for (mib, expected) in [(16, "24 MiB: 0\n"), (64, "24 MiB: 137\n")] {
        assert_eq!(output.line(), expected);
        place.cgroup.set_limits(&memory(mib, mib)).unwrap();
        let limit = place.cgroup.stats().unwrap().memory_limit_bytes;
        assert_eq!(limit, Some(mib * MIB));
        support::say_next(&mut input);
    }
    assert_eq!(output.line(), "24 MiB: 0\n");
    assert_eq!(reap::wait(running.pid), Some(Exit::Code(0)));
}

/// Neither version kills for it, though v2's `memory.max` would.
pub fn a_live_limit_below_what_is_used_is_refused() {
    let place = place(&memory(64, 64));
    let (running, mut output) = place.start(&fill_file(32));
    assert_eq!(output.line(), "full\n");
    let refused = place.cgroup.set_limits(&memory(16, 16)).unwrap_err();
    assert!(
        matches!(&refused, CgroupError::Write { source, .. } if source.raw_os_error() == Some(libc::EBUSY)),
        "{refused}"
    );
    assert_eq!(place.cgroup.processes().unwrap(), [running.pid]);
    let stats = place.cgroup.stats().unwrap();
    assert_eq!(stats.oom_kills, Some(0));
    assert_eq!(stats.memory_limit_bytes, Some(64 * MIB));
    place.cgroup.set_limits(&memory(48, 48)).unwrap();
    place.stop(running);
}

pub fn a_live_sum_below_what_is_used_is_refused() {
    require_swap();
    let place = place(&memory(16, 48));
    let (running, mut output) = place.start(&fill_file(28));
    assert_eq!(output.line(), "full\n");
    for refused in [memory(16, 20), memory(20, 20), memory(8, 20)] {
        let error = place.cgroup.set_limits(&refused).unwrap_err();
        assert!(
            matches!(&error, CgroupError::Write { source, .. } if source.raw_os_error() == Some(libc::EBUSY)),
            "{error}"
        );
        assert_eq!(
            place.cgroup.stats().unwrap().memory_limit_bytes,
            Some(16 * MIB)
        );
    }
    place.cgroup.set_limits(&memory(14, 44)).unwrap();
    assert_eq!(place.cgroup.processes().unwrap(), [running.pid]);
    place.stop(running);
}

/// `memory_swap_bytes` is the sum on both versions, also when only the other one changes; v2 counts swap by itself.
pub fn a_live_limit_keeps_the_sum_with_swap() {
    let place = place(&memory(16, 32));
    let only_memory = |mib: u64| Limits {
        memory_bytes: Some(mib * MIB),
        ..Limits::default()
    };
    place.cgroup.set_limits(&only_memory(32)).unwrap();
    place
        .cgroup
        .set_limits(&only_memory(33))
        .expect_err("more memory than memory and swap together");
    place.cgroup.set_limits(&only_memory(16)).unwrap();
    assert!(place.tree.create("other", &memory(16, 8)).is_err());
    assert_eq!(place.shell(&hog(40)).output, "40 MiB: 137\n");
}

/// Files on a disk are what can be taken back. Both hold 16 MiB of them, when this returns.
fn full_of_files(place: &Place, twin: &Place) -> [Running; 2] {
    let fill =
        "dd if=/dev/zero of=/file bs=1M count=16 conv=fsync 2>/dev/null; echo full; exec sleep 60";
    let started = [place, twin].map(|one| one.start(fill));
    let [(first, mut output), (second, mut other_output)] = started;
    assert_eq!(
        (output.line(), other_output.line()),
        ("full\n".into(), "full\n".into())
    );
    assert!(used(place) >= 16 * MIB && used(twin) >= 16 * MIB);
    [first, second]
}

fn used(place: &Place) -> u64 {
    place.cgroup.stats().unwrap().memory_bytes.unwrap()
}

/// The pressure comes from above our folder, which must have its share of what is promised to those in it. The twin without
/// a promise loses its files.
pub fn memory_that_is_promised_is_not_taken_back() {
    let outer = Place::with(&memory(256, 256));
    let promised = Limits {
        memory_min_bytes: Some(20 * MIB),
        ..memory(64, 64)
    };
    if outer.tree.create("probe", &promised).is_err() {
        support::not_here("this version of cgroups, or this kernel, has no memory.min");
    }
    outer.tree.open("probe").unwrap().remove().unwrap();
    let place = Place::nested(&outer, "promised", &promised).on_ext4();
    let twin = Place::beside(&place, "twin", &memory(64, 64)).on_ext4();
    let [running, other] = full_of_files(&place, &twin);

    outer.squeeze(22);
    assert!(used(&twin) < 8 * MIB, "{} of the twin", used(&twin));
    assert!(
        used(&place) >= 15 * MIB,
        "{} of who was promised 20 MiB",
        used(&place)
    );

    // Live: without the promise it goes the same way.
    let none = Limits {
        memory_min_bytes: Some(0),
        ..Limits::default()
    };
    place.cgroup.set_limits(&none).unwrap();
    outer.squeeze(8);
    assert!(used(&place) < 8 * MIB, "{} without a promise", used(&place));
    place.stop(running);
    twin.stop(other);
}

/// Makes the whole machine run short, until `enough`, which it is to be before all is gone. Only on a virtual board, which is
/// nobody else's.
fn run_short(enough: impl Fn() -> bool) {
    let swappiness = "/proc/sys/vm/swappiness";
    let before = std::fs::read_to_string(swappiness).unwrap();
    // What is taken here stays in memory.
    std::fs::write(swappiness, "0").unwrap();
    let available = || {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = line.unwrap().trim_end_matches("kB").trim().parse::<u64>();
        kib.unwrap() * 1024
    };
    let mut taken = Vec::new();
    while !enough() && available() > 12 * MIB {
        taken.push(vec![1_u8; 1 << 20]);
    }
    std::fs::write(swappiness, before).unwrap();
}

/// As a promise, while others have something to give; then it goes too, and nobody is killed for it. v1 looks at reservations
/// only when the whole machine runs short, and takes what others have beyond theirs: the twin has one too.
pub fn memory_that_is_reserved_is_taken_back_last() {
    let outer = Place::with(&memory(256, 256));
    let soft = support::parent_file("memory.soft_limit_in_bytes").is_some();
    if soft && std::env::var_os("CORACLE_VIRTUAL").is_none() {
        support::not_here("v1 minds a reservation only when the whole machine runs short");
    }
    let reserved = |mib: u64| Limits {
        memory_reservation_bytes: Some(mib * MIB),
        ..memory(64, 64)
    };
    let place = Place::nested(&outer, "reserved", &reserved(20)).on_ext4();
    let twin = Place::beside(&place, "twin", &reserved(1)).on_ext4();
    let [running, other] = full_of_files(&place, &twin);

    match soft {
        true => run_short(|| used(&twin) < 8 * MIB),
        false => outer.squeeze(22),
    }
    assert!(used(&twin) < 8 * MIB, "{} of the twin", used(&twin));
    assert!(
        used(&place) >= 15 * MIB,
        "{} of who has 20 MiB reserved",
        used(&place)
    );

    if !soft {
        outer.squeeze(8);
        let left = used(&place);
        assert!(left < 8 * MIB, "{left} where others have nothing to give");
    }
    for (place, running) in [(&place, running), (&twin, other)] {
        assert_eq!(place.cgroup.stats().unwrap().oom_kills, Some(0));
        place.stop(running);
    }
}

/// A soft one has a file on both versions, and is gone from those above with its cgroup.
pub fn a_reservation_is_set_and_goes_with_its_cgroup() {
    let reserved = |mib: u64| Limits {
        memory_reservation_bytes: Some(mib * MIB),
        ..memory(64, 64)
    };
    let place = Place::with(&reserved(8));
    let own = || {
        let files = ["memory.low", "memory.soft_limit_in_bytes"];
        let text = files.iter().find_map(|file| place.cgroup_file(file));
        text.unwrap().trim().parse::<u64>().unwrap()
    };
    assert_eq!(own(), 8 * MIB);
    place.cgroup.set_limits(&reserved(12)).unwrap();
    assert_eq!(own(), 12 * MIB);

    let above =
        || support::parent_file("memory.low").map(|text| text.trim().parse::<u64>().unwrap());
    let other = Place::beside(&place, "other", &reserved(4));
    assert!(above().is_none_or(|sum| sum == 16 * MIB), "{:?}", above());
    drop(other);
    assert!(above().is_none_or(|sum| sum == 12 * MIB), "{:?}", above());
}

/// The first of these files that the container's cgroup has, as a number.
fn number(place: &Place, file: &str) -> Option<u64> {
    place.cgroup_file(file)?.trim().parse().ok()
}

fn assert_not_there(set: Result<(), CgroupError>, name: &str) {
    assert!(
        matches!(&set, Err(CgroupError::Unsupported { limit, .. }) if *limit == name),
        "{name}: {set:?}"
    );
}

/// A limit that only one version has is set there and read back, and an error on the other.
pub fn swappiness_is_set_or_refused() {
    let place = Place::new();
    let swappiness = |value| Limits {
        memory_swappiness: Some(value),
        ..Limits::default()
    };
    if number(&place, "memory.swappiness").is_none() {
        assert_not_there(
            place.cgroup.set_limits(&swappiness(10)),
            "memory swappiness",
        );
        return;
    }
    for value in [0, 10, 100] {
        place.cgroup.set_limits(&swappiness(value)).unwrap();
        assert_eq!(number(&place, "memory.swappiness"), Some(value));
    }
    place.cgroup.set_limits(&swappiness(100_000)).unwrap_err();
    assert_eq!(number(&place, "memory.swappiness"), Some(100));
}

/// A string that is doubled until it has 32 MiB: memory that the program itself touches, which is where the kernel lets it wait.
const GROW: &str =
    "busybox awk 'BEGIN { s = \"x\"; for (i = 0; i < 25; i++) s = s s; print length(s) }'; echo $?";

pub fn without_an_oom_kill_a_hog_waits_until_there_is_more() {
    let waits = Limits {
        oom_kill_disabled: Some(true),
        ..memory(16, 16)
    };
    let place = Place::with(&memory(16, 16));
    let set = place.cgroup.set_limits(&waits);
    let Some(control) = place.cgroup_file("memory.oom_control") else {
        assert_not_there(set, "oom kill");
        return;
    };
    set.unwrap();
    assert!(control.contains("oom_kill_disable"), "{control}");
    let (running, mut output) = place.start(GROW);
    let waits = || {
        let control = place.cgroup_file("memory.oom_control").unwrap();
        assert!(control.contains("oom_kill_disable 1"), "{control}");
        control.contains("under_oom 1")
    };
    let end = Instant::now() + Duration::from_secs(60);
    while !waits() {
        assert!(Instant::now() < end, "it never ran out of memory");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(1));
    assert!(waits());
    let stats = place.cgroup.stats().unwrap();
    assert_eq!(
        (stats.oom_kills, stats.pids),
        (Some(0), Some(2)),
        "{stats:?}"
    );
    assert!(stats.memory_bytes.unwrap() <= 16 * MIB, "{stats:?}");

    place.cgroup.set_limits(&memory(128, 128)).unwrap();
    assert_eq!(
        (output.line(), output.line()),
        ("33554432\n".into(), "0\n".into())
    );
    assert_eq!(reap::wait(running.pid), Some(Exit::Code(0)));
    assert_eq!(place.cgroup.stats().unwrap().oom_kills, Some(0));
}

/// All of a container ends, where else the one that is largest does.
pub fn an_oom_kill_takes_the_group_where_it_is_asked_for() {
    let group = |all| Limits {
        oom_group: Some(all),
        ..memory(16, 16)
    };
    let place = place(&memory(16, 16));
    let set = place.cgroup.set_limits(&group(true));
    if number(&place, "memory.oom.group").is_none() {
        assert_not_there(set, "oom group");
        return;
    }
    set.unwrap();
    let script = format!("sleep 60 & {}", hog(64));
    let outcome = place.shell(&script);
    assert_eq!(
        (outcome.output.as_str(), outcome.exit),
        ("", Exit::Signal(9))
    );
    place.cgroup.set_limits(&group(false)).unwrap();
    assert_eq!(place.shell(&hog(64)).output, "64 MiB: 137\n");
}
