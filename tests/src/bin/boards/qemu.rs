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
    pub memory_mib: u32,
    /// The first is `/dev/vda`, where no device of the board's is that.
    pub disks: Vec<Disk>,
    /// Whether it comes up again after a reset. Else that is its end, as a panic is.
    pub resets: bool,
    pub time_limit: Duration,
    /// Gets what the serial console says.
    pub log: PathBuf,
}

/// A file that is a disk of the board's.
pub struct Disk {
    pub file: PathBuf,
    /// Whether what the board writes is gone with it, and the file stays as it is.
    pub forgets: bool,
}

/// What timeout(1) ends with after SIGKILL.
const KILLED: i32 = 128 + 9;
/// What timeout(1) ends with when there is no such program.
const MISSING: i32 = 127;
/// Two, so that a CPU set has something to leave out.
const CPUS: &str = "2";

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
        let drives = self.disks.iter().flat_map(|disk| {
            let snapshot = if disk.forgets { "on" } else { "off" };
            let file = disk.file.display();
            let drive = format!("file={file},format=raw,if=virtio,snapshot={snapshot}");
            ["-drive".to_owned(), drive]
        });
        // timeout(1) holds the limit also when this program is killed.
        Command::new("timeout")
            .args(["--foreground", "--signal=KILL"])
            .arg(self.time_limit.as_secs().to_string())
            .arg(self.arch.qemu())
            .args(self.arch.qemu_arguments())
            .args(self.devices)
            .args(["-accel", self.arch.qemu_accelerator()])
            .args(["-smp", CPUS, "-m", &self.memory_mib.to_string()])
            .args(["-nodefaults", "-no-user-config"])
            .args(drives)
            .args((!self.resets).then_some("-no-reboot"))
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
