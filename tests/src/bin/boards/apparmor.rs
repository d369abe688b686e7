//! A profile for `agent/oci/tests/apparmor.rs`, as the kernel takes it: a board has no compiler for it.

use anyhow::{Context, Result};
use coracle_tests::packages::{Cache, usr_or_top};
use coracle_tests::service::run;
use std::process::Command;

/// All that root may do otherwise, but for one file.
const PROFILE: &str = "profile coracle-test flags=(attach_disconnected) {
  file,
  capability,
  network,
  signal,
  ptrace,
  deny /secret rw,
}
";
/// Of a kernel that is older than any board's: this machine may have no AppArmor to ask.
const FEATURES: &str = "etc/apparmor.d/abi/kernel-5.4-vanilla";

pub fn profile(cache: &Cache) -> Result<Vec<u8>> {
    let package = cache.unpacked("apparmor", None)?;
    let at = |name: &str| {
        cache
            .folder()
            .join(format!("apparmor-{}.{name}", std::process::id()))
    };
    let (text, made) = (at("profile"), at("binary"));
    std::fs::write(&text, PROFILE).with_context(|| text.display().to_string())?;
    let compiled = run(Command::new(usr_or_top(&package, "sbin/apparmor_parser"))
        .args([
            "--config-file",
            "/dev/null",
            "--skip-cache",
            "--skip-kernel-load",
        ])
        .arg("--features-file")
        .arg(package.join(FEATURES))
        .arg("--ofile")
        .args([&made, &text]))
    .and_then(|_| std::fs::read(&made).with_context(|| made.display().to_string()));
    for file in [text, made] {
        let _ = std::fs::remove_file(file);
    }
    compiled
}
