//! One process launches and removes containers many times over, as the supervisor does: nothing may pile up in it, nor
//! beside it. `CORACLE_CYCLES=10000` for the long form.
//!
//! A network namespace lives for as long as a process, a descriptor or a mount holds it: those are what is counted.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;

use coracle_runtime::namespaces::UserNs;
use coracle_runtime::{
    ExecSpec, Exit, LaunchSpec, Limits, Mount, Stdio, Step, exec_in, prepare, reap,
};

use crate::support::{self, Place};
use crate::users;

/// What a process gets from the allocator and does not give back at once, in KiB.
const SOME_PAGES: u64 = 128;

#[derive(Debug, PartialEq, Eq)]
struct Held {
    /// What each descriptor leads to.
    descriptors: Vec<String>,
    mounts: usize,
    cgroups: Vec<String>,
}

impl Held {
    fn now(place: &Place) -> Held {
        assert_eq!(reap::reap_all(), [], "a child that nobody waited for");
        let entries = fs::read_dir("/proc/self/fd").unwrap();
        let links = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        let mut descriptors: Vec<String> = links.map(|link| link.display().to_string()).collect();
        // The listing's own.
        descriptors.retain(|link| !link.ends_with("/fd"));
        descriptors.sort();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let folder = place.path("");
        let folder = folder.to_str().unwrap().trim_end_matches('/');
        Held {
            descriptors,
            mounts: mounts.lines().filter(|line| line.contains(folder)).count(),
            cgroups: place.tree.list(),
        }
    }
}

fn pss_kib() -> u64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

pub fn nothing_piles_up_in_a_process_that_launches() {
    let cycles: u32 = std::env::var("CORACLE_CYCLES").map_or(200, |text| {
        text.parse().expect("CORACLE_CYCLES is a number")
    });
    let place = Place::layered();
    let own_users = coracle_runtime::namespaces::try_range(&place.path(""), false, users::FIRST);
    let own_users = own_users.is_ok();
    // What is made once: the filter, the allocator's pages, the first of all stacks.
    (0..50).for_each(|number| cycle(&place, number, own_users));
    let (before, memory) = (Held::now(&place), pss_kib());
    let mut most = memory;
    for number in 0..cycles {
        cycle(&place, number, own_users);
        if number % 100 == 0 {
            assert_eq!(Held::now(&place), before, "cycle {number}");
            most = most.max(pss_kib());
        }
    }
    assert_eq!(Held::now(&place), before);
    most = most.max(pss_kib());
    assert!(
        most <= memory + SOME_PAGES,
        "{memory} KiB have become {most} in {cycles} cycles"
    );
    let names: BTreeSet<String> = place.tree.list().into_iter().collect();
    assert_eq!(names, BTreeSet::from(["container".to_owned()]));
}

/// A launch to its end; and what else becomes of containers, each now and then.
fn cycle(place: &Place, number: u32, own_users: bool) {
    let cgroup = place
        .tree
        .create(
            "cycle",
            &Limits {
                memory_bytes: Some(32 << 20),
                pids: Some(20),
                ..Limits::default()
            },
        )
        .expect("a cgroup");
    let spec = |script: &str| {
        let mut spec = place.spec(script);
        spec.cgroup = &cgroup;
        spec.init = (number / 6).is_multiple_of(2);
        spec.mounts = vec![Mount::tmpfs("/run", Some(1 << 20))];
        if own_users && number.is_multiple_of(2) {
            spec.namespaces.user = UserNs::Range(users::FIRST);
        }
        spec
    };
    match number % 6 {
        0 => fails(spec("true"), Step::Exec, |spec| {
            spec.args = vec!["/bin/nothing".into()];
        }),
        1 => fails(spec("true"), Step::Mount, |spec| {
            spec.mounts.push(Mount::bind("/nonexistent", "/x", false));
        }),
        2 => {
            let created = prepare(&spec("true"), &|| Ok(())).expect("a container");
            let netns = created.netns().expect("its network");
            assert_eq!(created.kill_and_reap(), Some(Exit::Signal(9)));
            drop(netns);
        }
        3 => {
            let sleeper = spec("exec sleep 60");
            let running = prepare(&sleeper, &|| Ok(())).and_then(|created| created.start());
            let running = running.expect("a launch");
            let args = ["/bin/sh", "-c", "exit 7"].map(Into::into).to_vec();
            let stdio = Stdio::null().expect("null");
            let exec = ExecSpec::like(&sleeper, running.pid, running.pidfd.as_fd(), args, stdio);
            let executed = exec_in(&exec).expect("an exec");
            assert_eq!(reap::wait(executed.pid), Some(Exit::Code(7)));
            cgroup.kill_all().expect("a kill");
            assert_eq!(reap::wait(running.pid), Some(Exit::Signal(9)));
        }
        _ => {
            let outcome = support::launch(spec("sleep 100 & exit 3")).expect("a launch");
            assert_eq!(outcome.exit, Exit::Code(3));
        }
    }
    cgroup.remove().expect("its cgroup goes");
}

fn fails(mut spec: LaunchSpec<'_>, step: Step, change: impl Fn(&mut LaunchSpec<'_>)) {
    change(&mut spec);
    let failure = support::launch(spec).err().expect("a failure");
    assert_eq!(failure.step, step, "{failure}");
}
