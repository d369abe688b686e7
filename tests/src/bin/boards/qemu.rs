//! Booting a board in QEMU, by software emulation: KVM is not everywhere, and not needed.

use crate::arch::Arch;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Machine {
    pub arch: Arch,
    /// Further arguments.
    pub devices: &'static [&'static str],
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    /// A disk that outlives resets. A board that has one comes up again after each.
    pub kept: Option<PathBuf>,
    pub time_limit: Duration,
    /// Gets what the serial console says.
    pub log: PathBuf,
}

/// What timeout(1) ends with after SIGKILL.
const KILLED: i32 = 128 + 9;
/// What timeout(1) ends with when there is no such program.
const MISSING: i32 = 127;
/// Two, so that a CPU set has something to leave out.
const CPUS: &str = "2";
/// The initramfs, its copy in a tmpfs, and the tests' containers.
const MEMORY_MIB: &str = "768";
impl Machine {
    /// From power on to power off. Every line of the console goes to `hear` as well as to the log.
    pub fn boot(&self, hear: impl Fn(&str)) -> Result<()> {
        let mut log = File::create(&self.log).with_context(|| self.log.display().to_string())?;
        let mut child = self.start()?;
        let console = BufReader::new(child.stdout.take().context("QEMU's output")?);
        for line in console.split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            writeln!(log, "{line}")?;
            hear(line);
        }
        let status = child.wait()?;
        if status.code() == Some(KILLED) || status.signal().is_some() {
            bail!(
                "still not off after {} s: killed",
                self.time_limit.as_secs()
            );
        }
        ensure!(
            status.code() != Some(MISSING),
            "{} is missing: make setup-boards installs it",
            self.arch.qemu()
        );
        ensure!(status.success(), "{} ended with {status}", self.arch.qemu());
        Ok(())
    }

    fn start(&self) -> Result<Child> {
        let console = self.arch.console();
        let kept = match &self.kept {
            Some(disk) => vec![
                "-drive".to_owned(),
                format!("file={},format=raw,if=virtio", disk.display()),
            ],
            // A panic ends QEMU at once then.
            None => vec!["-no-reboot".to_owned()],
        };
        // timeout(1) holds the limit also when this program is killed.
        Command::new("timeout")
            .args(["--foreground", "--signal=KILL"])
            .arg(self.time_limit.as_secs().to_string())
            .arg(self.arch.qemu())
            .args(self.arch.qemu_arguments())
            .args(self.devices)
            .args(["-accel", self.arch.qemu_accelerator()])
            .args(["-smp", CPUS, "-m", MEMORY_MIB])
            .args(["-nodefaults", "-no-user-config"])
            .args(kept)
            .args(["-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs)
            .args([
                "-append",
                &format!(
                    "console={console} panic=-1 loglevel=5 cgroup_enable=memory swapaccount=1 psi=1{}",
                    self.arch.kernel_words()
                ),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting timeout(1)")
    }
}
