//! The small process 1 of a container that asks for one.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use coracle_runtime::launch::Running;
use coracle_runtime::spec::Rlimit;
use coracle_runtime::{
    Capabilities, Capability, ExecSpec, Exit, LaunchSpec, Stdio, Step, exec_in, prepare, reap,
};

use crate::support::{self, Output, Place, launch};
use crate::users;

fn spec<'a>(place: &'a Place, script: &str) -> LaunchSpec<'a> {
    let mut spec = place.spec(script);
    spec.init = true;
    spec
}

/// One that goes on by itself, and what it says.
fn start(mut spec: LaunchSpec<'_>) -> (Running, Output) {
    let (output, stdio) = support::output_pipe();
    spec.stdio = stdio;
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    (running, Output::of(output))
}

pub fn it_ends_as_the_program_ends() {
    let place = Place::new();
    let outcome = launch(spec(&place, "echo $$; cat /proc/1/comm; exit 7")).unwrap();
    assert_eq!(outcome.output, "2\ncoracle-init\n");
    assert_eq!(outcome.exit, Exit::Code(7));
    for (signal, code) in [(9, 137), (15, 143), (34, 162)] {
        let killed = launch(spec(&place, &format!("kill -{signal} $$"))).unwrap();
        assert_eq!(killed.exit, Exit::Code(code));
    }
    // What it leaves behind ends with it.
    let left = launch(spec(&place, "sleep 60 & exit 0")).unwrap();
    assert_eq!(left.exit, Exit::Code(0));

    for (program, errno) in [
        ("/bin/nothing", libc::ENOENT),
        ("nothing", libc::ENOENT),
        ("/tmp", libc::EACCES),
    ] {
        let mut spec = spec(&place, "");
        spec.args = vec![program.into()];
        let failure = launch(spec).err().unwrap();
        assert_eq!((failure.step, failure.errno), (Step::Exec, errno));
        assert_eq!(failure.subject, program);
    }
    assert_eq!(reap::reap_all(), []);
}

pub fn signals_reach_the_program() {
    let place = Place::new();
    let (running, mut output) = start(spec(
        &place,
        "trap 'echo told; exit 42' TERM; trap 'echo real' 37; echo ready; while :; do sleep 0.05; done",
    ));
    assert_eq!(output.line(), "ready\n");
    running.signal(37).unwrap();
    assert_eq!(output.line(), "real\n");
    running.signal(libc::SIGTERM).unwrap();
    assert_eq!(output.line(), "told\n");
    assert_eq!(reap::wait(running.pid), Some(Exit::Code(42)));

    // Process 1 is immune to what it has no handler for; this one is not.
    let (running, mut output) = start(spec(&place, "echo ready; exec sleep 60"));
    assert_eq!(output.line(), "ready\n");
    running.signal(libc::SIGTERM).unwrap();
    assert_eq!(reap::wait(running.pid), Some(Exit::Code(143)));
    // From the first moment on.
    for _ in 0..20 {
        let (running, _output) = start(spec(&place, "exec sleep 60"));
        running.signal(libc::SIGTERM).unwrap();
        assert_eq!(reap::wait(running.pid), Some(Exit::Code(143)));
    }
    // Stopping it is not its end.
    let (running, mut output) = start(spec(&place, "echo ready; kill -STOP $$; echo on; exit 3"));
    assert_eq!(output.line(), "ready\n");
    std::thread::sleep(Duration::from_millis(100));
    running.signal(libc::SIGCONT).unwrap();
    assert_eq!(output.line(), "on\n");
    assert_eq!(reap::wait(running.pid), Some(Exit::Code(3)));
}

/// A program that waits for nobody leaves the dead of others as they are.
pub fn zombies_are_reaped() {
    let place = Place::new();
    let orphans = "for _ in 1 2 3; do (sleep 0.05 &); done; echo ready; exec sleep 60";
    for (init, expected) in [(false, true), (true, false)] {
        let mut spec = spec(&place, orphans);
        spec.init = init;
        let (running, mut output) = start(spec);
        assert_eq!(output.line(), "ready\n");
        std::thread::sleep(Duration::from_millis(500));
        let (output, stdio) = support::output_pipe();
        let look = ["sh", "-c", "cat /proc/[0-9]*/stat"].map(Into::into);
        let of = place.spec("");
        let exec = ExecSpec::like(&of, running.pid, running.pidfd.as_fd(), look.into(), stdio);
        let executed = exec_in(&exec).unwrap();
        drop(exec);
        let processes = support::read(output);
        reap::wait(executed.pid);
        assert!(processes.contains("(sleep) S"), "{processes}");
        assert_eq!(processes.contains(") Z "), expected, "{processes}");
        running.signal(libc::SIGKILL).unwrap();
        assert_eq!(reap::wait(running.pid), Some(Exit::Signal(9)));
    }
}

/// All that a process has mapped, and can be read.
fn memory(pid: &str) -> Vec<u8> {
    let maps = File::open(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();
    for line in BufReader::new(maps).lines().map(Result::unwrap) {
        let mut words = line.split(' ');
        let (from, to) = words.next().unwrap().split_once('-').unwrap();
        if !words.next().unwrap().starts_with('r') || line.ends_with("[vvar]") {
            continue;
        }
        let at = |text| u64::from_str_radix(text, 16).unwrap();
        let Ok(_) = memory.seek(SeekFrom::Start(at(from))) else {
            continue;
        };
        // The kernel's own pages cannot be read so.
        let _ = (&mut memory).take(at(to) - at(from)).read_to_end(&mut all);
    }
    all
}

fn holds(memory: &[u8], text: &[u8]) -> bool {
    memory.windows(text.len()).any(|window| window == text)
}

pub fn nothing_of_the_caller_is_in_its_memory() {
    // On the heap, and put together here, so that no other part of this program has it.
    let secret = [b"a secret of ".as_slice(), b"the caller's"].concat();
    assert!(holds(&memory("self"), &secret));
    let place = Place::new();
    let (running, mut output) = start(spec(&place, "echo ready; exec sleep 60"));
    assert_eq!(output.line(), "ready\n");
    let first = memory(&running.pid.to_string());
    assert!(holds(&first, b"coracle-init"), "{} bytes", first.len());
    assert!(!holds(&first, &secret));
    // Nor a descriptor but for the three streams, nor a variable.
    let of = |what: &str| format!("/proc/{}/{what}", running.pid);
    assert_eq!(fs::read_dir(of("fd")).unwrap().count(), 3);
    assert_eq!(fs::read(of("environ")).unwrap(), b"");
    let rollup = fs::read_to_string(of("smaps_rollup")).unwrap_or_default();
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    // Before 4.14 nobody adds it up.
    if let Some(pss) = pss {
        let kib: u64 = pss.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib <= 64, "{rollup}");
    }
    // Kept open until nobody executes it any more, which alone would forbid to write: it is sealed besides.
    let program = File::open(of("exe")).unwrap();
    place.stop(running);
    let again = File::options()
        .write(true)
        .open(format!("/proc/self/fd/{}", program.as_raw_fd()));
    let written = again.and_then(|mut file| file.write_all(b"x"));
    assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EPERM));
}

/// Root with all rights there are, and no filter: no way leads to a program of the board, nor to another container's.
pub fn its_file_cannot_be_changed() {
    let place = Place::new();
    let own = fs::read("/proc/self/exe").unwrap();
    let mut spec = spec(
        &place,
        "ls -l /proc/1/exe\n\
         for way in 'echo x > /proc/1/exe' 'echo x >> /proc/1/exe' 'dd if=/bin/busybox of=/proc/1/exe conv=notrunc' \
         'mount -o remount,bind,rw /proc/1/exe' 'mount -o bind /bin/busybox /proc/1/exe && ! busybox cmp -s /bin/busybox /proc/1/exe' \
         'busybox truncate -s 0 /proc/1/exe' 'rm /proc/1/exe'\n\
         do sh -c \"$way\" 2>/dev/null && echo \"$way\"; done\n\
         head -c 4 /proc/1/exe | tail -c 3; echo",
    );
    // This machine's root may lack some.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = u64::from_str_radix(held.unwrap().trim(), 16).unwrap();
    let all = Capability::ALL.iter().copied();
    let all = all.filter(|one| held & 1 << *one as u8 != 0);
    spec.capabilities = all.fold(spec.capabilities, Capabilities::with);
    spec.seccomp = None;
    spec.no_new_privs = false;
    let output = launch(spec).unwrap().output;
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines[0].contains("memfd:coracle-init"), "{output}");
    assert_eq!(lines[1..], ["ELF"], "{output}");
    assert_eq!(fs::read("/proc/self/exe").unwrap(), own);
    assert_eq!(place.shell("exit 0").exit, Exit::Code(0));
}

pub fn both_are_confined_as_the_program_alone_is() {
    let place = Place::new();
    let lines = "grep -hE 'Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:' ";
    for user in [false, true] {
        let of = |init: bool, process: &str| {
            let mut spec = spec(
                &place,
                &format!("{lines}/proc/{process}/status; pwd; umask; ulimit -n"),
            );
            spec.init = init;
            spec.cwd = "/tmp".into();
            spec.umask = 0o027;
            spec.rlimits.push(Rlimit {
                resource: libc::RLIMIT_NOFILE,
                soft: 77,
                hard: 88,
            });
            if user {
                (spec.uid, spec.gid, spec.additional_gids) = (1000, 1001, vec![20]);
                spec.capabilities = spec.capabilities.ambient(Capability::NET_BIND_SERVICE);
            }
            launch(spec).unwrap().output
        };
        let alone = of(false, "self");
        assert!(alone.contains("Seccomp:\t2"), "{alone}");
        assert_eq!(of(true, "self"), alone);
        assert_eq!(of(true, "1"), alone);
    }
}

pub fn its_users_may_be_its_own() {
    let place = users::place();
    let mut spec = users::spec(&place, users::FIRST, "id -u; cat /proc/1/comm; exit 5");
    spec.init = true;
    let outcome = launch(spec).unwrap();
    assert_eq!(outcome.output, "0\ncoracle-init\n");
    assert_eq!(outcome.exit, Exit::Code(5));
}

/// What is typed at it goes to the program, which reads it in the foreground.
pub fn the_terminal_is_the_programs() {
    let place = Place::new();
    let pair = nix::pty::openpty(None, None).unwrap();
    let mut spec = spec(
        &place,
        "trap 'echo interrupted; exit 9' INT; echo ready > /dev/tty; read line; echo got $line; while :; do sleep 0.05; done",
    );
    spec.stdio = Stdio {
        stdin: pair.slave.try_clone().unwrap(),
        stdout: pair.slave.try_clone().unwrap(),
        stderr: pair.slave,
        terminal: true,
    };
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    drop(spec);
    let mut master = File::from(pair.master);
    let mut said = Output::of(master.try_clone().unwrap());
    assert_eq!(said.line(), "ready\r\n");
    master.write_all(b"hello\n").unwrap();
    assert_eq!(said.line(), "hello\r\n");
    assert_eq!(said.line(), "got hello\r\n");
    master.write_all(b"\x03").unwrap();
    assert!(said.line().contains("interrupted"));
    assert_eq!(reap::wait(running.pid), Some(Exit::Code(9)));
}

/// Without a second process the program does not run, and the reason is told.
pub fn it_counts_as_a_process() {
    let place = Place::with(&coracle_runtime::Limits {
        pids: Some(1),
        ..Default::default()
    });
    let failure = launch(spec(&place, "exec true")).err().unwrap();
    assert_eq!((failure.step, failure.errno), (Step::Init, libc::EAGAIN));
    assert_eq!(reap::reap_all(), []);
}
