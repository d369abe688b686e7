//! What is not a limit: freezing, killing, refusing, and what only v2 has.

use std::time::Duration;

use coracle_runtime::cgroup::{CgroupError, DeviceRule, Devices};
use coracle_runtime::{Exit, Limits, Step, prepare, reap};

use crate::support::{self, Place};

const SPIN: &str = "while :; do :; done";

pub fn freezing_stops_and_thawing_goes_on() {
    let place = Place::new();
    let (running, _output) = place.start(SPIN);
    let used_in = |pause: u64| {
        let before = place.cgroup.stats().unwrap().cpu_micros.unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        place.cgroup.stats().unwrap().cpu_micros.unwrap() - before
    };
    place.cgroup.freeze().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(used_in(200) < 5_000);
    place.cgroup.thaw().unwrap();
    assert!(used_in(300) > 20_000);
    place.cgroup.freeze().unwrap();
    place.cgroup.kill_all().unwrap();
    assert_eq!(
        reap::wait(running.pid),
        Some(Exit::Signal(9)),
        "killing works on a frozen one too"
    );
}

pub fn a_limit_that_cannot_be_held_is_an_error() {
    let place = Place::new();
    let nonsense = Limits {
        cpuset_cpus: Some("4000".into()),
        ..Limits::default()
    };
    assert!(place.tree.create("other", &nonsense).is_err());
    assert_eq!(
        place.tree.list(),
        ["container"],
        "what was made for it is gone again"
    );
    assert!(place.tree.open("../escape").is_err());
}

/// CLONE_INTO_CGROUP, the eBPF device program, cgroup.freeze and cgroup.kill, also on the v2 tree of a hybrid machine.
pub fn version_two_starts_inside_filters_devices_and_kills() {
    let only = |rules: &[DeviceRule]| Limits {
        devices: Devices::Only(rules.to_vec()),
        ..Limits::default()
    };
    let place = Place::unified(&only(&DeviceRule::DEFAULTS));
    let script = "cat /proc/self/cgroup | grep ^0::; head -c 0 /dev/zero && echo zero; mknod /tmp/mem c 1 1; \
                  head -c 1 /tmp/mem; ls /sys/fs/cgroup/cgroup.procs; echo 1 > /sys/fs/cgroup/cgroup.freeze";
    let output = place.shell(script).output;
    for part in [
        "0::/\nzero\n",
        "/tmp/mem: Operation not permitted",
        "/sys/fs/cgroup/cgroup.procs",
        "Read-only",
    ] {
        assert!(output.contains(part), "{part} is missing in\n{output}");
    }
    // New rules replace the old ones.
    place.cgroup.set_limits(&only(&[])).unwrap();
    let (output, stdio) = support::output_pipe();
    let mut spec = place.spec("true");
    spec.stdio = stdio;
    let failure = prepare(&spec, &|| Ok(())).unwrap().start().unwrap_err();
    assert_eq!(
        (failure.step, failure.errno),
        (Step::Dev, libc::EPERM),
        "{failure}"
    );
    drop((spec, output));
    place
        .cgroup
        .set_limits(&only(&DeviceRule::DEFAULTS))
        .unwrap();

    let (running, _output) = place.start(SPIN);
    assert_eq!(place.cgroup.processes().unwrap(), [running.pid]);
    place.cgroup.freeze().unwrap();
    place.cgroup.kill_all().unwrap();
    assert_eq!(reap::wait(running.pid), Some(Exit::Signal(9)));
    assert_eq!(place.tree.list(), ["container"]);
}

/// A hybrid machine's v2 tree has no controllers: asking it for a limit is an error, never nothing.
pub fn a_tree_without_controllers_holds_no_limit() {
    if support::version_two() {
        support::not_here("this v2 tree has its controllers");
    }
    let place = Place::unified(&Limits::default());
    let pids = Limits {
        pids: Some(5),
        ..Limits::default()
    };
    let refused = place.tree.create("other", &pids);
    assert!(
        matches!(refused, Err(CgroupError::Unsupported { limit: "pids", .. })),
        "{refused:?}"
    );
    assert_eq!(place.tree.list(), ["container"]);
}
