//! What a cut left of the data partition, mounted on this machine in a mount namespace of its own.

use crate::shipped::disk::DATA_AT;
use anyhow::{Context, Result};
use coracle_tests::service::{Service, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Gone with this value, however the program ends.
pub struct Mounted {
    holder: Service,
    /// The mount point, as this program sees it.
    pub inside: PathBuf,
}

impl Mounted {
    /// Replays the journal, looks whether anything is to be repaired then, and mounts it at `state`. `also`: a command of the
    /// shell that is run in the namespace then.
    pub fn checked(image: &Path, state: &Path, also: &str, logs: &Path) -> Result<Mounted> {
        let (at, from) = (state.display(), image.display());
        let mount = format!("mount -o loop,noatime,offset={DATA_AT} {from} {at}");
        run(Command::new("unshare")
            .args(["--mount", "sh", "-c"])
            .arg(format!("{mount} && umount {at}")))?;
        run(Command::new("e2fsck")
            .args(["-f", "-n"])
            .arg(format!("{from}?offset={DATA_AT}")))
        .context("e2fsck")?;
        let up = image.with_extension("up");
        let _ = std::fs::remove_file(&up);
        let mut holder = Command::new("setpriv");
        holder
            .args([
                "--pdeathsig",
                "KILL",
                "--",
                "unshare",
                "--mount",
                "sh",
                "-c",
            ])
            .arg(format!(
                "{mount} && {also} && touch {} && exec sleep 1000",
                up.display()
            ));
        let mut holder = Service::start("holder", holder, logs)?;
        holder.wait_for("the mount", LIMIT, || Ok(up.exists().then_some(())))?;
        let inside = PathBuf::from(format!("/proc/{}/root{at}", holder.pid()));
        Ok(Mounted { holder, inside })
    }

    /// The process whose namespace has the mount.
    pub fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// Takes the mount away.
    pub fn end(mut self) -> Result<()> {
        self.holder.kill().map(drop)
    }
}
