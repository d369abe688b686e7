//! What a cgroup tells of its use.

use coracle_runtime::Limits;
use coracle_runtime::cgroup::Stats;

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
