//! What a board takes while nothing is asked of it: memory of our processes, how often they wake up, disk.

use super::machine::Machine;
use crate::arch::Arch;
use anyhow::{Context, Result, ensure};
use coracle_tests::measure::Pss;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What a board holds while it waits; not what it holds the moment after it gave back.
const QUIET: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_secs(60);
/// What still goes on after a deployment may take the first of them.
const WINDOWS: usize = 3;
const SHORT: Duration = Duration::from_secs(60);
/// How often a thread may wake up in so many seconds: once in each.
const fn most_wakes(seconds: u64) -> u64 {
    seconds
}

/// Each of ours with its parent and name, and of each of its mappings what [`Pss::read`] asks for.
const MEMORY: &str = "for p in $(pidof coracle-supervisor coracled); do \
     of() { sed -n \"s/^$1:[[:space:]]*//p\" /proc/$p/status; }; \
     echo process $p $(of PPid) $(of Name); \
     grep -E '^([0-9a-f]+-|Pss:|Anonymous:)' /proc/$p/smaps; \
   done";

/// Of each thread how often it went to sleep, which is how often it woke up.
const SLEEPS: &str = "for t in $(pidof coracle-supervisor coracled | sed 's|[0-9][0-9]*|/proc/&/task/*|g'); do \
  sed -n \"s|^voluntary_ctxt_switches:|$t|p\" $t/status 2>/dev/null; done; true";

const DISK: &str = "df -k / /var/lib/coracle; grep -E '^Mem(Total|Available):' /proc/meminfo";

/// PSS of both processes. An x86-64's instructions take more room (docs/boards.md).
fn most_kib(arch: Arch) -> u64 {
    match arch {
        Arch::Arm64 | Arch::Armhf => 5 << 10,
        Arch::X86_64 => 21 << 8,
    }
}

/// A board at rest.
#[derive(Debug, Clone, Copy)]
pub struct Rest {
    pub supervisor: Pss,
    pub daemon: Pss,
    /// Of those that write logs and answer for names.
    pub others_kib: u64,
    /// The most that a thread woke up in a minute, and all threads together.
    pub wakes: (u64, u64),
    pub memory_kib: u64,
    pub memory_left_kib: u64,
    pub root_kib: u64,
    pub data_kib: u64,
}

impl Rest {
    /// Both processes.
    pub fn pss_kib(&self) -> u64 {
        self.supervisor.in_all() + self.daemon.in_all()
    }

    /// Fails where both processes take more than they may.
    pub fn within(&self, arch: Arch) -> Result<()> {
        let most = most_kib(arch);
        ensure!(
            self.pss_kib() <= most,
            "supervisor and daemon take {} KiB PSS, {most} are their goal: {self:?}",
            self.pss_kib()
        );
        Ok(())
    }
}

/// Takes a minute and a half; fails where a thread wakes up too often.
pub fn of(machine: &mut Machine) -> Result<Rest> {
    std::thread::sleep(QUIET);
    let (supervisor, daemon, others_kib) = memory(&machine.run(MEMORY, SHORT)?)?;
    println!(
        "  at rest, in KiB of PSS: supervisor {supervisor:?}, daemon {daemon:?}, others {others_kib}"
    );
    let wakes = wakes(machine)?;
    println!(
        "  the thread that woke up most often did so {} times in a minute, all together {}",
        wakes.0, wakes.1
    );
    let text = machine.run(DISK, SHORT)?;
    // The kernel's `MemTotal:  251234 kB`, and df's third column.
    let number = |name: &str, column: usize| {
        let line = text.lines().find(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(name) || words.next_back() == Some(name)
        });
        let word = line.and_then(|line| line.split_whitespace().nth(column)?.parse().ok());
        word.with_context(|| format!("nothing of {name} in:\n{text}"))
    };
    Ok(Rest {
        supervisor,
        daemon,
        others_kib,
        wakes,
        memory_kib: number("MemTotal:", 1)?,
        memory_left_kib: number("MemAvailable:", 1)?,
        root_kib: number("/", 2)?,
        data_kib: number("/var/lib/coracle", 2)?,
    })
}

/// Supervisor, daemon, and all that the supervisor has started of its own program.
fn memory(text: &str) -> Result<(Pss, Pss, u64)> {
    let (mut supervisor, mut daemon, mut others) = (None, None, 0);
    // One that ends meanwhile, such as one that asks for an app's health, leaves a part of it.
    let parts: Vec<(u32, u32, &str, Pss)> = text
        .split("process ")
        .skip(1)
        .filter_map(|part| {
            let (head, smaps) = part.split_once('\n')?;
            let mut words = head.splitn(3, ' ');
            let mut number = || words.next()?.parse().ok();
            let (pid, parent) = (number()?, number()?);
            Some((pid, parent, words.next()?, Pss::read(smaps).ok()?))
        })
        .collect();
    for (_, parent, name, pss) in &parts {
        if parts.iter().any(|(pid, ..)| pid == parent) {
            others += pss.in_all();
        } else if name.starts_with("coracled") {
            daemon = Some(*pss);
        } else {
            supervisor = Some(*pss);
        }
    }
    let supervisor = supervisor.context("no supervisor")?;
    Ok((supervisor, daemon.context("no daemon")?, others))
}

/// In the quietest window.
fn wakes(machine: &mut Machine) -> Result<(u64, u64)> {
    let mut told = Vec::new();
    for _ in 0..WINDOWS {
        let before = sleeps(&machine.run(SLEEPS, SHORT)?);
        ensure!(
            before.len() >= 2,
            "not each process has a thread: {before:?}"
        );
        let start = Instant::now();
        std::thread::sleep(WINDOW);
        let after = sleeps(&machine.run(SLEEPS, SHORT)?);
        // The shell takes its time: a minute at least.
        let seconds = start.elapsed().as_secs();
        let woken: Vec<u64> = after
            .iter()
            .filter_map(|(thread, count)| Some(count - before.get(thread)?))
            .collect();
        let most = woken.iter().copied().max().unwrap_or(0);
        if most <= most_wakes(seconds) {
            return Ok((most, woken.iter().sum()));
        }
        told.push((woken, seconds));
    }
    anyhow::bail!(
        "a thread of ours wakes up too often (how often each did, in so many seconds): {told:?}"
    )
}

fn sleeps(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (thread, count) = line.split_once(char::is_whitespace)?;
        Some((thread.to_owned(), count.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_board_says_is_read_by_process_and_thread() {
        let mapping = |kib| {
            format!("55d0-55d9 rw-p 0000 00:00 0 [heap]\nPss: {kib} kB\nAnonymous: {kib} kB\n")
        };
        let text = format!(
            "process 90 88 coracle-supervi\n{}process 88 1 coracle-supervi\n{}process 99 1 coracled\n{}process 95 88\n",
            mapping(10),
            mapping(200),
            mapping(300)
        );
        let (supervisor, daemon, others) = memory(&text).expect("as the shell says it");
        assert_eq!((supervisor.own, daemon.own, others), (200, 300, 10));
        assert!(memory("process 99 1 coracled\n").is_err(), "no memory");

        let threads = sleeps("/proc/88/task/88\t7\n/proc/99/task/100\t12\n");
        assert_eq!(threads["/proc/88/task/88"], 7);
        assert_eq!(threads["/proc/99/task/100"], 12);
    }
}
