//! What the kernel has counted of the app, read on the board's shell.

use super::{Bears, NAME, SHORT};
use crate::board::Layout;
use crate::shipped::machine::Machine;
use anyhow::{Context, Result};

pub struct Look {
    text: String,
    /// Since the board was switched on.
    pub seconds: f64,
    layout: Layout,
}

impl Look {
    pub fn at(machine: &mut Machine, bears: Bears) -> Result<Look> {
        let layout = bears.layout;
        let of = |controller: &str, files: &str| match layout {
            Layout::V2 => format!("cd /sys/fs/cgroup/coracle/{NAME} && grep -H . {files}"),
            _ => format!("cd /sys/fs/cgroup/{controller}/coracle/{NAME} && grep -H . {files}"),
        };
        let parts = match layout {
            Layout::V2 => vec![of(
                "",
                "memory.events memory.peak pids.current pids.events cpu.stat io.stat",
            )],
            _ => vec![
                of("memory", "memory.oom_control memory.max_usage_in_bytes"),
                of("pids", "pids.current pids.events"),
                of("cpu,cpuacct", "cpu.stat cpuacct.usage"),
                of(
                    "blkio",
                    "blkio.throttle.io_service_bytes blkio.throttle.io_serviced",
                ),
            ],
        };
        let board = "grep -H oom_kill /proc/vmstat; grep -H . /proc/uptime";
        // A file without a line is no failure.
        let text = machine.run(&format!("{}; {board}", parts.join("; ")), SHORT)?;
        let seconds = first(&text, "/proc/uptime:").context("no /proc/uptime")?;
        Ok(Look {
            seconds,
            text,
            layout,
        })
    }

    /// The number behind one of these, by the layout.
    fn number(&self, v2: &str, v1: &str) -> Result<u64> {
        let name = if self.layout == Layout::V2 { v2 } else { v1 };
        let number = first(&self.text, name);
        number.with_context(|| format!("the board shows no `{name}`:\n{}", self.text))
    }

    pub fn oom_kills(&self) -> Result<u64> {
        self.number("memory.events:oom_kill ", "memory.oom_control:oom_kill ")
    }

    /// On the whole board.
    pub fn all_oom_kills(&self) -> Result<u64> {
        self.number("/proc/vmstat:oom_kill ", "/proc/vmstat:oom_kill ")
    }

    pub fn memory_peak(&self) -> Result<u64> {
        self.number("memory.peak:", "memory.max_usage_in_bytes:")
    }

    pub fn processes(&self) -> Result<u64> {
        self.number("pids.current:", "pids.current:")
    }

    pub fn refused_forks(&self) -> Result<u64> {
        self.number("pids.events:max ", "pids.events:max ")
    }

    pub fn cpu_seconds(&self) -> Result<f64> {
        let used = self.number("cpu.stat:usage_usec ", "cpuacct.usage:")? as f64;
        Ok(used / if self.layout == Layout::V2 { 1e6 } else { 1e9 })
    }

    pub fn throttled(&self) -> Result<u64> {
        self.number("cpu.stat:nr_throttled ", "cpu.stat:nr_throttled ")
    }

    pub fn read(&self) -> u64 {
        self.moved("rbytes=", "blkio.throttle.io_service_bytes:", " Read ")
    }

    pub fn written(&self) -> u64 {
        self.moved("wbytes=", "blkio.throttle.io_service_bytes:", " Write ")
    }

    pub fn reads(&self) -> u64 {
        self.moved("rios=", "blkio.throttle.io_serviced:", " Read ")
    }

    pub fn writes(&self) -> u64 {
        self.moved("wios=", "blkio.throttle.io_serviced:", " Write ")
    }

    /// On all disks; none before the first one.
    fn moved(&self, v2: &str, v1_file: &str, v1: &str) -> u64 {
        let name = if self.layout == Layout::V2 { v2 } else { v1 };
        let lines = self.text.lines();
        lines
            .filter(|line| self.layout == Layout::V2 || line.starts_with(v1_file))
            .filter_map(|line| first::<u64>(line, name))
            .sum()
    }
}

/// The number right behind the first `name`.
pub fn first<T: std::str::FromStr>(text: &str, name: &str) -> Option<T> {
    leading(text.split_once(name)?.1)
}

fn leading<T: std::str::FromStr>(text: &str) -> Option<T> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    text.split(|c| !is_number(c)).next()?.parse().ok()
}
