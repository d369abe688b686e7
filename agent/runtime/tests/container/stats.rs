//! What a cgroup tells of its use.

use std::time::Duration;

use coracle_runtime::Limits;
use coracle_runtime::cgroup::{Pressures, Stats};

use crate::support::{self, Place};

pub fn figures_are_of_the_cgroup_alone() {
    let place = Place::new();
    let idle = Place::beside(&place, "idle", &Limits::default());
    let (running, mut output) = place.start(
        "dd if=/dev/zero of=/dev/shm/file bs=1M count=8 2>/dev/null; sleep 60 & sleep 60 & \
         i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo worked; wait",
    );
    assert_eq!(output.line(), "worked\n");
    let stats = place.cgroup.stats().unwrap();
    let memory = stats.memory_bytes.unwrap();
    assert!((8 << 20..64 << 20).contains(&memory), "{stats:?}");
    support::assert_peak(&place, &stats, memory..=64 << 20);
    assert!(stats.cpu_micros.unwrap() > 5_000, "{stats:?}");
    assert_eq!(stats.pids, Some(3), "{stats:?}");
    assert_eq!((stats.memory_limit_bytes, stats.oom_kills), (None, Some(0)));

    let unused = idle.cgroup.stats().unwrap();
    let nothing = Stats {
        memory_bytes: Some(0),
        memory_peak_bytes: unused.memory_peak_bytes,
        memory_limit_bytes: None,
        oom_kills: Some(0),
        cpu_micros: Some(0),
        pids: Some(0),
    };
    assert_eq!(unused, nothing);
    assert_eq!(unused.memory_peak_bytes.unwrap_or(0), 0);
    place.stop(running);
}

/// Two that spin share a twentieth of a core: they wait nearly all the time, and who sleeps beside them does not.
pub fn waiting_for_cpu_is_told_of_who_waits() {
    let quota = Limits {
        cpu_millis: Some(50),
        ..Limits::default()
    };
    let place = Place::with(&quota);
    if place.cgroup.pressures() == Pressures::default() {
        support::not_here(
            "the kernel tells no pressure of cgroups: it does on v2, unless it is left out or switched off",
        );
    }
    let calm = Place::beside(&place, "calm", &Limits::default());
    let spin = "while :; do :; done & while :; do :; done";
    let ((running, _output), (sleeper, _other)) = (place.start(spin), calm.start("exec sleep 60"));
    let waited = |place: &Place| place.cgroup.pressures().cpu.unwrap().some;
    let before = (waited(&place).total_micros, waited(&calm).total_micros);
    // The average is made every two seconds.
    std::thread::sleep(Duration::from_secs(5));
    let (busy, idle) = (waited(&place), waited(&calm));
    assert!(busy.total_micros - before.0 > 2_000_000, "{busy:?}");
    assert!((1..=10_000).contains(&busy.avg10_hundredths), "{busy:?}");
    assert!(idle.total_micros - before.1 < 500_000, "{idle:?}");
    for none in [place.cgroup.pressures().memory, place.cgroup.pressures().io] {
        assert!(none.unwrap().some.total_micros < 1_000_000, "{none:?}");
    }
    place.stop(running);
    calm.stop(sleeper);
}
