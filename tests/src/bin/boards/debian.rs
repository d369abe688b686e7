//! A disk with a small Debian, and in it what drives containers: engines, systemd, CRIU.

use crate::initramfs::ext4;
use crate::qemu::Disk;
use anyhow::{Context, Result};
use coracle_tests::packages::Cache;
use coracle_tests::service::run;
use std::process::Command;

/// Whose kernel boards have unless they say otherwise.
const SUITE: &str = "bookworm";
/// Beside the essential packages. An engine that finds AppArmor in the kernel and its parser here confines containers by it.
const INCLUDED: &str = "podman,containerd,docker.io,criu,apparmor,systemd,dbus,busybox-static,iproute2,iptables,procps";
/// What nobody reads there.
const LEFT_OUT: [&str; 3] = ["doc", "man", "locale"];
/// Three times of what the tree takes: the rest is for images and containers.
const SIZE: &str = "2G";

/// Made once, and again when other packages are asked for. It takes some minutes, and 700 MB.
pub fn disk(cache: &Cache) -> Result<Disk> {
    let file = cache.folder().join(format!("{SUITE}-engines.ext4"));
    let list = cache.folder().join(format!("{SUITE}-engines.list"));
    let forgets = true;
    if file.exists() && std::fs::read_to_string(&list).is_ok_and(|text| text == INCLUDED) {
        return Ok(Disk { file, forgets });
    }
    println!("making a disk with a {SUITE} of {INCLUDED}");
    let tree = cache.folder().join(format!("{SUITE}-engines.part"));
    let _ = std::fs::remove_file(&list);
    let _ = std::fs::remove_dir_all(&tree);
    run(Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase"])
        .arg(format!("--include={INCLUDED}"))
        .args(LEFT_OUT.map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*")))
        .arg(SUITE)
        .arg(&tree))
    .context("mmdebstrap (package mmdebstrap)")?;
    let from = tree.to_str().context("a path that is no text")?;
    let _ = std::fs::remove_file(&file);
    ext4(&file, &["-d", from], SIZE)?;
    std::fs::remove_dir_all(&tree).with_context(|| tree.display().to_string())?;
    std::fs::write(&list, INCLUDED).with_context(|| list.display().to_string())?;
    Ok(Disk { file, forgets })
}
