//! Booting a board in QEMU, by software emulation: KVM is not everywhere, and not needed.

use crate::arch::Arch;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

pub struct Machine {
    pub arch: Arch,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub time_limit: Duration,
    /// Gets what the serial console says.
    pub log: PathBuf,
}

/// Two, so that a CPU set has something to leave out.
const CPUS: &str = "2";
/// The initramfs, its copy in a tmpfs, and the tests' containers.
const MEMORY_MIB: &str = "768";
/// Lines that may wait for the log; beyond them QEMU waits.
const LINES_WAITING: usize = 256;

impl Machine {
    /// From power on to power off. Every line of the console goes to `hear` as well as to the log.
    pub fn boot(&self, hear: impl Fn(&str)) -> Result<()> {
        let mut log = File::create(&self.log).with_context(|| self.log.display().to_string())?;
        let mut child = self.start()?;
        let stdout = child.stdout.take().context("QEMU's output")?;
        let (lines, reader) = read_lines(stdout);
        let end = Instant::now() + self.time_limit;
        let heard = loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    writeln!(log, "{line}")?;
                    hear(&line);
                }
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
                Err(RecvTimeoutError::Timeout) => break Err(self.time_limit),
            }
        };
        if heard.is_err() {
            let _ = child.kill();
        }
        drop(lines);
        let status = child.wait()?;
        let _ = reader.join();
        if let Err(limit) = heard {
            bail!("still not off after {} s: killed", limit.as_secs());
        }
        if !status.success() {
            bail!("{} ended with {status}", self.arch.qemu());
        }
        Ok(())
    }

    fn start(&self) -> Result<Child> {
        let console = self.arch.console();
        Command::new(self.arch.qemu())
            .args(self.arch.qemu_arguments())
            .args(["-accel", "tcg,thread=multi", "-smp", CPUS, "-m", MEMORY_MIB])
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs)
            // With -no-reboot a panic ends QEMU at once.
            .args([
                "-append",
                &format!(
                    "console={console} panic=-1 loglevel=5 cgroup_enable=memory swapaccount=1"
                ),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {} (make boards installs it)", self.arch.qemu()))
    }
}

/// A thread of its own waits for lines, so that the caller can wait with a limit.
fn read_lines(from: ChildStdout) -> (Receiver<String>, std::thread::JoinHandle<()>) {
    let (sender, receiver) = sync_channel(LINES_WAITING);
    let thread = std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line);
            if sender.send(line.trim_end_matches('\r').to_owned()).is_err() {
                break;
            }
        }
    });
    (receiver, thread)
}
