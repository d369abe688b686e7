//! Launched and removed many times over: nothing may pile up. `CORACLE_CYCLES=10000` for the long form.

mod support;

use std::fs;
use std::path::Path;

use support::Bundle;

/// What could pile up on the host: cgroups, mounts, processes, states.
fn left(bundle: &Bundle) -> Vec<String> {
    let mut found = Vec::new();
    let mine = format!("coracle-runtime-coracle-test-{}-", std::process::id());
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    for folder in hierarchies
        .map(|entry| entry.path())
        .chain(["/sys/fs/cgroup".into()])
    {
        for name in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if name.file_name().to_string_lossy().starts_with(&mine) {
                found.push(name.path().display().to_string());
            }
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = bundle.path("");
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(place.to_str().unwrap().trim_end_matches('/')))
            .map(str::to_owned),
    );
    found.extend(support::names_below(&bundle.path("states")));
    found
}

/// Network namespaces are taken down by the kernel when it has time.
fn dying_cgroups() -> Option<u64> {
    let text = fs::read_to_string("/sys/fs/cgroup/cgroup.stat").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("nr_dying_descendants "))?;
    line.parse().ok()
}

#[test]
fn nothing_piles_up_over_many_launches() {
    let cycles: u32 = std::env::var("CORACLE_CYCLES").map_or(200, |text| {
        text.parse().expect("CORACLE_CYCLES is a number")
    });
    let bundle = Bundle::new("exit 3");
    bundle.save();
    for cycle in 0..cycles {
        let id = bundle.id();
        let said = bundle.runtime(&["run", &id]);
        assert_eq!(said.code, 3, "cycle {cycle}: {said:?}");
        if cycle % 100 == 0 {
            assert_eq!(left(&bundle), Vec::<String>::new(), "cycle {cycle}");
        }
    }
    assert_eq!(left(&bundle), Vec::<String>::new());
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        support::wait_until("the kernel to let go of cgroups", || {
            dying_cgroups().is_none_or(|dying| dying < 100)
        });
    }
}
