//! The container's first process: what it is told, and what it may do.

use coracle_runtime::spec::Rlimit;
use coracle_runtime::{Capability, Exit, LaunchSpec, Stdio, prepare, reap};
use std::fs;

use crate::support::{Place, launch};

pub fn a_program_runs_and_its_exit_is_told() {
    let place = Place::new();
    let outcome = place.shell("echo pid $$; hostname; pwd; exit 7");
    assert_eq!(outcome.output, "pid 1\ntest\n/\n");
    assert_eq!(outcome.exit, Exit::Code(7));

    let mut spec = place.spec("echo $A; pwd; id -u; id -G; stat -c %a /proc/self/fd/0 >/dev/null; ls /proc/self/fd | wc -l");
    spec.env.push("A=b c".into());
    spec.cwd = "/made/for/it".into();
    (spec.uid, spec.gid, spec.additional_gids) = (1000, 1001, vec![20, 21]);
    // 0, 1, 2 and the one that ls opens: nothing of the supervisor's.
    assert_eq!(
        launch(spec).unwrap().output,
        "b c\n/made/for/it\n1000\n1001 20 21\n4\n"
    );

    let killed = place.shell("kill -9 $$; kill -TERM $$; sh -c 'kill -34 $$' 2>/dev/null; echo $?");
    assert_eq!(
        killed.output, "162\n",
        "pid 1 is immune to its own signals, its children are not"
    );
}

pub fn the_process_is_confined() {
    let place = Place::new();
    let status = |spec: LaunchSpec<'_>| launch(spec).unwrap().output;
    let script = "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status";
    let default = status(place.spec(script));
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(default.contains(line), "{line} is missing in\n{default}");
    }

    let mut spec = place.spec(script);
    spec.capabilities = spec.capabilities.without(Capability::NET_RAW);
    assert!(status(spec).contains("CapBnd:\t00000000a80405fb"));

    let mut spec = place.spec(script);
    spec.no_new_privs = false;
    let without = status(spec);
    assert!(
        without.contains("NoNewPrivs:\t0") && without.contains("Seccomp:\t2"),
        "{without}"
    );

    let mut spec =
        place.spec("grep 'Max open files' /proc/self/limits; cat /proc/self/oom_score_adj");
    spec.rlimits.push(Rlimit {
        resource: libc::RLIMIT_NOFILE,
        soft: 77,
        hard: 88,
    });
    spec.oom_score_adj = Some(321);
    let limits = status(spec);
    assert!(
        limits.contains("77") && limits.contains("88") && limits.contains("321"),
        "{limits}"
    );
}

pub fn a_user_has_no_capabilities_but_ambient_ones() {
    let place = Place::new();
    let script = "grep -E 'CapEff|CapAmb' /proc/self/status";
    let as_user = |ambient| {
        let mut spec = place.spec(script);
        (spec.uid, spec.gid) = (1000, 1000);
        if ambient {
            spec.capabilities = spec.capabilities.ambient(Capability::NET_BIND_SERVICE);
        }
        launch(spec).unwrap().output
    };
    assert_eq!(
        as_user(false),
        "CapEff:\t0000000000000000\nCapAmb:\t0000000000000000\n"
    );
    assert_eq!(
        as_user(true),
        "CapEff:\t0000000000000400\nCapAmb:\t0000000000000400\n"
    );
}

pub fn seccomp_answers_for_forbidden_calls() {
    let place = Place::new();
    let confined = place.shell("unshare -U true; echo $?");
    assert!(
        confined.output.contains("Operation not permitted"),
        "{}",
        confined.output
    );
    let mut spec = place.spec("unshare -U true; echo $?");
    spec.seccomp = None;
    assert_eq!(
        launch(spec).unwrap().output,
        "0\n",
        "it is seccomp that forbids it"
    );
}

pub fn a_terminal_is_the_controlling_one() {
    let place = Place::new();
    let pair = nix::pty::openpty(None, None).unwrap();
    let mut spec = place.spec("test -t 0 && echo hello > /dev/tty; stat -c %F /dev/console");
    spec.stdio = Stdio {
        stdin: pair.slave.try_clone().unwrap(),
        stdout: pair.slave.try_clone().unwrap(),
        stderr: pair.slave,
        terminal: true,
    };
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    assert_eq!(reap::wait(running.pid), Some(Exit::Code(0)));
    let mut said = [0; 200];
    let length = std::io::Read::read(&mut fs::File::from(pair.master), &mut said).unwrap();
    let said = String::from_utf8_lossy(&said[..length]);
    assert!(said.starts_with("hello\r\n"), "{said}");
}
