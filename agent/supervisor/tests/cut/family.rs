//! The same of a process with all its threads and children: what a power cut ends, or what the kernel does to a child that takes
//! too much.

use super::{Cut, call_that_changes};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whose calls count, and who is killed before the n-th.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Those of the process, its threads and children; all of them.
    All,
    /// Those of its children; the one that makes it.
    Children,
}

/// Looks at the process `pid` and whatever it starts from `begin` on, up to the n-th call that changes something, and no longer than until it
/// is `over`. Whoever is meant has been killed then, and the others run on.
pub fn cut_family(
    pid: u32,
    log: &Path,
    whose: Whose,
    n: usize,
    over: &AtomicBool,
    begin: impl FnOnce() + Send,
) -> Cut {
    // They are let go when the thread that looks at them ends.
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut family = Family::seize(pid, log, whose);
            begin();
            family.run_to(n, over)
        });
        looking.join().unwrap()
    })
}

struct Family<'a> {
    head: Pid,
    log: &'a Path,
    whose: Whose,
    /// Those that were heard of.
    members: BTreeSet<Pid>,
}

/// To which process a thread belongs.
fn process_of(thread: Pid) -> Option<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok().map(Pid::from_raw)
}

impl<'a> Family<'a> {
    fn seize(pid: u32, log: &'a Path, whose: Whose) -> Self {
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD
            | ptrace::Options::PTRACE_O_TRACECLONE
            | ptrace::Options::PTRACE_O_TRACEFORK
            | ptrace::Options::PTRACE_O_TRACEVFORK;
        let mut family = Self {
            head: Pid::from_raw(pid as i32),
            log,
            whose,
            members: BTreeSet::new(),
        };
        for entry in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let thread = Pid::from_raw(name.parse().unwrap());
            // A thread may have ended since.
            if ptrace::seize(thread, options).is_ok() && ptrace::interrupt(thread).is_ok() {
                family.members.insert(thread);
            }
        }
        family
    }

    fn run_to(&mut self, n: usize, over: &AtomicBool) -> Cut {
        let mut seen = 0;
        // This thread's own, and nobody's who runs beside it in this program.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
        while !over.load(Ordering::Relaxed) {
            let (stopped, signal) = match waitpid(Pid::from_raw(-1), Some(flags)) {
                Ok(WaitStatus::StillAlive) => {
                    std::thread::sleep(Duration::from_micros(100));
                    continue;
                }
                Ok(WaitStatus::PtraceSyscall(thread)) => (thread, None),
                Ok(WaitStatus::PtraceEvent(thread, ..)) => (thread, None),
                Ok(WaitStatus::Stopped(thread, signal)) => (thread, Some(signal)),
                Ok(WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..)) => {
                    self.members.remove(&thread);
                    continue;
                }
                Err(Errno::ECHILD) => return Cut::Over(seen),
                other => panic!("a process that is cut: {other:?}"),
            };
            self.members.insert(stopped);
            let enters = ptrace::syscall_info(stopped)
                .is_ok_and(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY);
            let process = process_of(stopped).unwrap_or(stopped);
            let counts = self.whose == Whose::All || process != self.head;
            if enters
                && counts
                && let Some(call) = call_that_changes(stopped, self.log)
            {
                seen += 1;
                if seen == n {
                    self.kill(process);
                    return Cut::Before(call);
                }
            }
            match ptrace::syscall(stopped, signal) {
                // It was killed meanwhile.
                Ok(()) | Err(Errno::ESRCH) => {}
                other => other.unwrap(),
            }
        }
        Cut::Over(seen)
    }

    fn kill(&self, one: Pid) {
        let mut doomed = BTreeSet::from([one]);
        if self.whose == Whose::All {
            doomed.insert(self.head);
            doomed.extend(self.members.iter().filter_map(|thread| process_of(*thread)));
        }
        for process in doomed {
            let _ = kill(process, Signal::SIGKILL);
        }
    }
}
