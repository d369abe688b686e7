//! One more process in a running container.

use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use coracle_runtime::launch::Running;
use coracle_runtime::spec::ProcessSettings;
use coracle_runtime::{
    Child, ExecSpec, Exit, Stdio, Step, exec_in, exec_with, prepare, reap, spawn_plain,
};

use crate::support::{self, Place};

pub fn exec_joins_everything() {
    let place = Place::new();
    let (_output, stdio) = support::output_pipe();
    let mut spec = place.spec("echo secret > /tmp/inside; exec sleep 60");
    spec.stdio = stdio;
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    let exec = |script: &str, uid| {
        let (output, stdio) = support::output_pipe();
        let args = vec!["sh".into(), "-c".into(), script.into()];
        let mut exec = ExecSpec::like(&spec, running.pid, running.pidfd.as_fd(), args, stdio);
        exec.uid = uid;
        let executed = exec_in(&exec).unwrap();
        drop(exec);
        let output = support::read(output);
        (output, reap::wait(executed.pid).unwrap())
    };
    std::thread::sleep(Duration::from_millis(100));
    let (output, exit) = exec("cat /tmp/inside; hostname; id -u; exit 3", 0);
    assert_eq!(
        (output.as_str(), exit),
        ("secret\ntest\n0\n", Exit::Code(3))
    );
    let (status, _) = exec(
        "grep -E 'CapBnd|CapEff|NoNewPrivs|Seccomp:' /proc/self/status; cat /proc/self/cgroup",
        1000,
    );
    for line in [
        "CapEff:\t0000000000000000",
        "CapBnd:\t00000000a80425fb",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line} is missing in\n{status}");
    }
    assert!(!status.contains("coracle-test"), "{status}");
    let namespaces = "for n in ipc uts net pid mnt cgroup; do stat -L -c %i /proc/self/ns/$n; done";
    let (own, _) = exec(namespaces, 0);
    let expected: String = ["ipc", "uts", "net", "pid", "mnt", "cgroup"]
        .iter()
        .map(|name| {
            let link = fs::read_link(format!("/proc/{}/ns/{name}", running.pid)).unwrap();
            let text = link.to_str().unwrap().to_owned();
            format!("{}\n", text.split(['[', ']']).nth(1).unwrap())
        })
        .collect();
    assert_eq!(own, expected);

    running.signal(libc::SIGKILL).unwrap();
    reap::wait(running.pid);
}

pub fn a_failed_exec_leaves_the_container_alone() {
    let place = Place::new();
    let (_output, stdio) = support::output_pipe();
    let mut spec = place.spec("exec sleep 60");
    spec.stdio = stdio;
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    let args = vec!["/bin/nothing".into()];
    let (_output, stdio) = support::output_pipe();
    let exec = ExecSpec::like(&spec, running.pid, running.pidfd.as_fd(), args, stdio);
    let failure = exec_in(&exec).unwrap_err();
    assert_eq!((failure.step, failure.errno), (Step::Exec, libc::ENOENT));
    assert_eq!(
        reap::reap_all(),
        [],
        "the container runs, and nothing else is left"
    );
    assert_eq!(place.cgroup.processes().unwrap(), [running.pid]);

    running.signal(libc::SIGKILL).unwrap();
    reap::wait(running.pid);
    let failure = exec_in(&exec).unwrap_err();
    assert_eq!(failure.step, Step::Namespace, "{failure}");
    assert_eq!(reap::reap_all(), []);
}

/// A child that keeps `sleep 60` of user 1000 in the container, for ever when that was executed within `most`.
fn keeper(place: &Place, running: &Running, most: Duration) -> Child {
    let app = running.pidfd.as_fd().try_clone_to_owned().unwrap();
    spawn_plain(vec![app], |files| {
        let spec = place.spec("");
        let args = ["sleep", "60"].map(String::from).into();
        let stdio = Stdio::null().unwrap();
        let mut exec = ExecSpec::like(&spec, running.pid, files[0].as_fd(), args, stdio);
        (exec.uid, exec.gid) = (1000, 1000);
        let settings = ProcessSettings {
            kept: Some(most),
            ..ProcessSettings::default()
        };
        match exec_with(&exec, &settings) {
            Ok(_) => loop {
                std::thread::sleep(Duration::from_secs(60));
            },
            Err(failure) => u8::from(failure.to_string().contains("held it up")),
        }
    })
    .unwrap()
}

fn wait_for_processes(place: &Place, count: usize) {
    let end = Instant::now() + Duration::from_secs(10);
    while place.cgroup.processes().unwrap().len() != count {
        let there = place.cgroup.processes().unwrap();
        assert!(
            Instant::now() < end,
            "{there:?}, where {count} were expected"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn a_kept_program_ends_with_its_keeper() {
    let place = Place::new();
    let (running, _output) = place.start("exec sleep 60");
    let keeper_of_program = keeper(&place, &running, Duration::from_secs(10));
    wait_for_processes(&place, 2);
    keeper_of_program.kill().unwrap();
    reap::wait(keeper_of_program.pid);
    wait_for_processes(&place, 1);

    // While it stands still, on its way or as a program.
    for on_its_way in [false, true] {
        let freeze = || place.cgroup.freeze().unwrap();
        on_its_way.then(freeze);
        let keeper_of_program = keeper(&place, &running, Duration::from_secs(10));
        wait_for_processes(&place, 2);
        (!on_its_way).then(freeze);
        keeper_of_program.kill().unwrap();
        reap::wait(keeper_of_program.pid);
        place.cgroup.thaw().unwrap();
        wait_for_processes(&place, 1);
    }
    running.signal(libc::SIGKILL).unwrap();
    reap::wait(running.pid);
}

pub fn a_start_that_is_held_up_is_given_up() {
    let place = Place::new();
    let (running, _output) = place.start("exec sleep 60");
    place.cgroup.freeze().unwrap();
    let begun = Instant::now();
    let keeper = keeper(&place, &running, Duration::from_millis(300));
    assert_eq!(reap::wait(keeper.pid), Some(Exit::Code(1)));
    let took = begun.elapsed();
    assert!((250..30_000).contains(&took.as_millis()), "{took:?}");
    place.cgroup.thaw().unwrap();
    wait_for_processes(&place, 1);
    running.signal(libc::SIGKILL).unwrap();
    reap::wait(running.pid);
}

/// Before Linux 5.8 setns takes no descriptor of a process, as it never takes a folder, which is one before 5.3.
pub fn the_namespaces_of_another_with_the_same_number_are_not_joined() {
    let place = Place::new();
    let (first, _output) = place.start("exec sleep 60");
    let gone = fs::File::open(format!("/proc/{}", first.pid)).unwrap();
    let spec = place.spec("");
    let exec_by_folder = |pid| {
        let args = vec!["true".into()];
        let exec = ExecSpec::like(&spec, pid, gone.as_fd(), args, Stdio::null().unwrap());
        exec_in(&exec).map(|executed| reap::wait(executed.pid))
    };
    assert_eq!(exec_by_folder(first.pid).unwrap(), Some(Exit::Code(0)));
    first.signal(libc::SIGKILL).unwrap();
    reap::wait(first.pid);

    let other = Place::beside(&place, "other", &Default::default());
    let (second, _output) = other.start("exec sleep 60");
    let failure = exec_by_folder(second.pid).unwrap_err();
    assert_eq!(
        (failure.step, failure.errno),
        (Step::Namespace, libc::ESRCH)
    );
    second.signal(libc::SIGKILL).unwrap();
    reap::wait(second.pid);
}
