//! CPU time and CPU sets.

use std::time::{Duration, Instant};

use coracle_runtime::cgroup::CgroupError;
use coracle_runtime::{Exit, Limits, reap};

use crate::support::{self, Place};

/// Two processes, so that a quota cannot be mistaken for what one of them gets anyway.
const SPIN: &str = "while :; do :; done & while :; do :; done";

pub fn the_quota_holds_and_can_change() {
    let quota = |millis| Limits {
        cpu_millis: Some(millis),
        ..Limits::default()
    };
    let place = Place::with(&quota(200));
    let (running, _output) = place.start(SPIN);
    for millis in [200, 500] {
        place.cgroup.set_limits(&quota(millis)).unwrap();
        assert_used(&place, millis);
    }
    place.stop(running);
}

/// Never more than a tenth beyond it. Nor less, unless this machine had nothing left to give.
fn assert_used(place: &Place, millis: u64) {
    let wanted = millis as f64 * 1000.0;
    let used = || place.cgroup.stats().unwrap().cpu_micros.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        // The period that has begun has the old quota.
        std::thread::sleep(Duration::from_millis(300));
        // The clock is read before and after all else: an emulated board stands still in between when its machine is busy.
        let started = Instant::now();
        let (used_before, idle_before) = (used(), idle_micros());
        std::thread::sleep(Duration::from_secs(5));
        let (used, idle) = (used() - used_before, idle_micros() - idle_before);
        let seconds = started.elapsed().as_secs_f64();
        let (used, idle) = (used as f64 / seconds, idle as f64 / seconds);
        assert!(used <= 1.1 * wanted, "{used} of {wanted} µs");
        if used >= 0.9 * wanted || used + idle < wanted {
            return;
        }
        seen.push((used, idle));
    }
    panic!("{seen:?} µs used and idle in each second, of {wanted}");
}

/// Of all CPUs: the fourth figure of the first line, in hundredths of a second (proc_stat(5)).
fn idle_micros() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let idle = stat.split_whitespace().nth(4).unwrap();
    idle.parse::<u64>().unwrap() * 10_000
}

/// Two that want all of one CPU share it by their weights, whatever else runs there; live ones too.
pub fn weights_share_a_cpu_and_can_change() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let last = allowed_cpus(&status).rsplit([',', '-']).next();
    let on_one = |weight| Limits {
        cpu_weight: Some(weight),
        cpuset_cpus: last.map(str::to_owned),
        ..Limits::default()
    };
    let light = Place::with(&on_one(100));
    let heavy = Place::beside(&light, "heavy", &on_one(300));
    let places = [&light, &heavy];
    let [(first, _light_says), (second, _heavy_says)] = places.map(|place| place.start(SPIN));
    let used = || places.map(|place| place.cgroup.stats().unwrap().cpu_micros.unwrap());
    for weights in [[100, 300], [300, 100]] {
        for (place, weight) in places.iter().zip(weights) {
            place.cgroup.set_limits(&on_one(weight)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(300));
        let before = used();
        std::thread::sleep(Duration::from_secs(5));
        let [light, heavy] = [0, 1].map(|at| (used()[at] - before[at]) as f64);
        let (share, wanted) = (light / (light + heavy), weights[0] as f64 / 400.0);
        assert!(
            (share / wanted - 1.0).abs() < 0.15,
            "{share} of {wanted}, with {weights:?}"
        );
    }
    light.stop(first);
    heavy.stop(second);
}

pub fn the_set_of_cpus_holds_and_can_change() {
    let cpus = allowed_cpus(&std::fs::read_to_string("/proc/self/status").unwrap()).to_owned();
    let (Some(first), Some(last)) = (
        cpus.split([',', '-']).next(),
        cpus.rsplit([',', '-']).next(),
    ) else {
        panic!("{cpus}");
    };
    if first == last {
        support::not_here("there is one CPU only");
    }
    let only = |cpu: &str| Limits {
        cpuset_cpus: Some(cpu.into()),
        ..Limits::default()
    };
    let place = Place::with(&only(last));
    let script = format!(
        "try() {{ busybox taskset -p -c {first} $$ >/dev/null 2>&1; echo leaving: $?; grep Cpus_allowed_list /proc/self/status; }}; \
         try; read next; busybox taskset -p -c {first} $$ >/dev/null; grep Cpus_allowed_list /proc/self/status"
    );
    let (running, mut input, mut output) = place.start_with_input(&script);
    assert_eq!(output.line(), "leaving: 1\n");
    assert_eq!(allowed_cpus(&output.line()), last);
    place.cgroup.set_limits(&only(first)).unwrap();
    support::say_next(&mut input);
    assert_eq!(allowed_cpus(&output.line()), first);
    assert_eq!(reap::wait(running.pid), Some(Exit::Code(0)));
}

/// What `/proc/PID/status` says in `Cpus_allowed_list`.
fn allowed_cpus(status: &str) -> &str {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.expect("a line for CPUs").trim()
}

/// It works now and then: what a period left over is used in a later one. Over seconds the quota holds all the same.
pub fn a_burst_is_what_was_left_over_and_no_more() {
    let quota = |burst| Limits {
        cpu_millis: Some(200),
        cpu_burst_micros: Some(burst),
        ..Limits::default()
    };
    let place = Place::with(&Limits::default());
    let set = place.cgroup.set_limits(&quota(20_000));
    let file = ["cpu.max.burst", "cpu.cfs_burst_us"]
        .into_iter()
        .find(|file| place.cgroup_file(file).is_some());
    let Some(file) = file else {
        assert!(
            matches!(
                set,
                Err(CgroupError::Unsupported {
                    limit: "cpu burst",
                    ..
                })
            ),
            "{set:?}"
        );
        return;
    };
    set.unwrap();
    assert_eq!(place.cgroup_file(file).as_deref(), Some("20000\n"));
    place
        .cgroup
        .set_limits(&quota(20_001))
        .expect_err("more than a quota");
    assert_eq!(
        place.cgroup_file(file).as_deref(),
        Some("20000\n"),
        "what is refused changes nothing"
    );
    // A smaller quota than the burst was, with a burst that fits it; and back.
    let smaller = Limits {
        cpu_millis: Some(100),
        ..quota(5_000)
    };
    place.cgroup.set_limits(&smaller).unwrap();
    assert_eq!(place.cgroup_file(file).as_deref(), Some("5000\n"));
    place.cgroup.set_limits(&quota(20_000)).unwrap();
    let bursts = || {
        let stat = place.cgroup_file("cpu.stat").unwrap();
        let mut lines = stat.lines();
        let count = lines.find_map(|line| line.strip_prefix("nr_bursts "));
        count.unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(bursts(), 0);
    // Each bout is twice as long, until one needs more than a quota: on a fast machine and on a slow one.
    let bouts = "n=500; while :; do sleep 0.3; n=$((n*2)); i=0; while [ $i -lt $n ]; do i=$((i+1)); done; done";
    let (running, _output) = place.start(bouts);
    let end = Instant::now() + Duration::from_secs(60);
    while bursts() == 0 {
        assert!(Instant::now() < end, "{:?}", place.cgroup_file("cpu.stat"));
        std::thread::sleep(Duration::from_millis(50));
    }
    place.stop(running);

    let (running, _output) = place.start(SPIN);
    assert_used(&place, 200);
    place.stop(running);
}
