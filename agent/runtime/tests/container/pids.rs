//! Processes and threads.

use coracle_runtime::{Exit, Limits, reap};

use crate::support::{self, Place};

fn pids(limit: u64) -> Limits {
    Limits {
        pids: Some(limit),
        ..Limits::default()
    }
}

pub fn a_fork_bomb_meets_the_limit() {
    let place = Place::with(&pids(20));
    let (running, mut output) = place.start("(while :; do sleep 60 & done); exec sleep 60");
    let complaint = output.line();
    assert!(complaint.contains("can't fork"), "{complaint}");
    let pids = place.cgroup.stats().unwrap().pids.unwrap();
    assert!((15..=20).contains(&pids), "{pids}");
    place.cgroup.kill_all().unwrap();
    assert_eq!(reap::wait(running.pid), Some(Exit::Signal(9)));
    place.cgroup.remove().unwrap();
}

pub fn a_live_limit_moves_the_border() {
    let place = Place::with(&pids(10));
    // The shell that cannot fork ends; the processes it has made stay.
    let bomb = "(while :; do sleep 60 & done) 2>/dev/null; echo full; read next";
    let script = format!("{bomb}; {bomb}");
    let (running, mut input, mut output) = place.start_with_input(&script);
    assert_eq!(output.line(), "full\n");
    let count = || place.cgroup.stats().unwrap().pids.unwrap();
    assert!((8..=10).contains(&count()), "{}", count());
    place.cgroup.set_limits(&pids(16)).unwrap();
    support::say_next(&mut input);
    assert_eq!(output.line(), "full\n");
    assert!((14..=16).contains(&count()), "{}", count());
    // Below what is there: nobody is killed, nobody is born.
    place.cgroup.set_limits(&pids(5)).unwrap();
    assert!((14..=16).contains(&count()), "{}", count());
    place.stop(running);
}
