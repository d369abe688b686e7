//! One more process in a running container.

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use coracle_runtime::{ExecSpec, Exit, Step, exec_in, prepare, reap};

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
