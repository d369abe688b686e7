//! What a board boots into.

use crate::apparmor;
use crate::board::{Board, QuotaDisk, Root};
use crate::cpio::Archive;
use crate::debian;
use crate::kernel::Kernel;
use crate::modules;
use crate::programs::Programs;
use crate::qemu::Disk;
use anyhow::{Context, Result};
use coracle_tests::packages::{Cache, usr_or_top};
use coracle_tests::service::run;
use std::path::Path;
use std::process::Command;

const INIT: &str = include_str!("init.sh");

/// veth: a device to give away; overlay: images; loop: a disk to throttle, and images of limited folders; zram: memory to swap
/// to; bfq: a scheduler with weights; ext4 and quota_v2: what limits disks, ext4 also in images.
const MODULES: [&str; 7] = ["veth", "overlay", "loop", "zram", "bfq", "ext4", "quota_v2"];
/// Those of the kernel's that are modules of their own. The checksum stands before ext4, which asks for it by an alias, and what
/// zram compresses with before zram (until Linux 5.1 it had another). The others are for networks, and for CRIU, which lists
/// sockets with them: nothing here loads a module when one is asked for.
const WELCOME: [&str; 27] = [
    "crc32c_generic",
    "lzo_rle",
    "bridge",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_ct",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_limit",
    "sch_tbf",
    "macvlan",
    "ipvlan",
    "8021q",
    "dummy",
    "sctp",
    "vcan",
    "can_raw",
    "kvaser_pci",
    "nf_conntrack_netlink",
    "unix_diag",
    "tcp_diag",
    "udp_diag",
    "raw_diag",
    "netlink_diag",
    "af_packet_diag",
];

/// f2fs asks for its checksum by an alias.
const F2FS_MODULES: [&str; 2] = ["crc32_generic", "f2fs"];
/// What QEMU's disk is driven by.
const DISK_MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];
/// The watchdog that it has.
const WATCHDOG_MODULE: &str = "i6300esb";
/// What a board that is reset keeps its state on.
const KEPT_SIZE: &str = "64M";

pub fn build(
    board: &Board,
    cache: &Cache,
    kernel: &Kernel,
    programs: &Programs,
    only: &str,
) -> Result<Vec<u8>> {
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    let mut archive = Archive::default();
    for folder in [
        "dev", "proc", "sys", "tmp", "run", "root", "etc", "mnt", "quota", "kept",
    ] {
        archive.folder(folder);
    }
    // The kernel opens it for init's output before anything is mounted.
    archive.character_device("dev/console", 5, 1);
    // `daemon` is who may talk to the supervisor.
    let passwd = b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/sh\n";
    archive.file("etc/passwd", 0o644, passwd);
    archive.file("etc/group", 0o644, b"root:x:0:\ndaemon:x:1:\n");
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file(
        "board/settings",
        0o644,
        format!(
            "root={}\nlayout={}\nquota={}\nresets={}\nlinks='{}'\nonly='{only}'\nwithout='{}'\n",
            board.root().name(),
            board.layout.name(),
            board.quota_disk.name(),
            board.resets,
            board.links,
            board.without.join(" ")
        )
        .as_bytes(),
    );
    let busybox = cache.unpacked(board.arch.busybox_package(), board.arch.suite())?;
    archive.file(
        "bin/busybox",
        0o755,
        &read(&usr_or_top(&busybox, "bin/busybox"))?,
    );
    archive.link("bin/sh", "busybox");

    let mut wanted = MODULES.to_vec();
    if board.has_disk() {
        wanted.extend(DISK_MODULES);
    }
    if board.resets > 0 {
        wanted.push(WATCHDOG_MODULE);
    }
    match board.quota_disk {
        QuotaDisk::Ext4 => {}
        QuotaDisk::Xfs => wanted.push("xfs"),
        QuotaDisk::F2fs => wanted.extend(F2FS_MODULES),
    }
    let loaded = modules::in_load_order(&kernel.modules, &WELCOME, &wanted)?;
    for (at, (name, content)) in loaded.iter().enumerate() {
        archive.file(&format!("board/modules/{at:02}-{name}.ko"), 0o644, content);
    }

    archive.file(
        "board/quota.gz",
        0o644,
        &quota_disk(board.quota_disk, cache)?,
    );
    if board.has_oci() {
        archive.file("board/apparmor", 0o644, &apparmor::profile(cache)?);
    }

    let mut libraries: Vec<&Path> = Vec::new();
    let tests = programs.tests.iter().map(|program| ("tests", program));
    let started = programs.started.iter().map(|program| ("bin", program));
    for (folder, program) in tests.chain(started) {
        archive.file(
            &format!("board/{folder}/{}", program.name),
            0o755,
            &read(&program.file)?,
        );
        libraries.extend(program.libraries.iter().map(|library| library.as_path()));
    }
    libraries.sort_unstable();
    libraries.dedup();
    for library in libraries {
        let path = library.strip_prefix("/")?.to_string_lossy();
        archive.file(&path, 0o755, &read(library)?);
    }
    Ok(archive.finish())
}

/// Debian, or of a board that is reset an empty one, for `/kept`, that outlives that.
pub fn disks(board: &Board, cache: &Cache) -> Result<Vec<Disk>> {
    if board.root() == Root::Disk {
        return Ok(vec![debian::disk(cache)?]);
    }
    if board.resets == 0 {
        return Ok(Vec::new());
    }
    let file = cache.folder().join(format!("{}.ext4", board.name));
    let _ = std::fs::remove_file(&file);
    ext4(&file, &[], KEPT_SIZE)?;
    let forgets = false;
    Ok(vec![Disk { file, forgets }])
}

/// Of a size as mke2fs has it.
pub fn ext4(file: &Path, options: &[&str], size: &str) -> Result<()> {
    run(tool("mke2fs")
        .args(["-q", "-F", "-t", "ext4"])
        .args(options)
        .arg(file)
        .arg(size))
    .map(drop)
}

/// Of those who are not root, many have no sbin in their PATH.
pub fn tool(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let mut command = Command::new(name);
    command.env("PATH", path);
    command
}

/// An empty file of so many MiB.
fn blank(file: &Path, mib: u64) -> Result<()> {
    std::fs::File::create(file)
        .and_then(|made| made.set_len(mib << 20))
        .with_context(|| file.display().to_string())
}

/// A file system that can count projects, packed, for `/quota`. About 32 MiB of each can be written.
fn quota_disk(kind: QuotaDisk, cache: &Cache) -> Result<Vec<u8>> {
    let file = cache
        .folder()
        .join(format!("quota-{}.{}", std::process::id(), kind.name()));
    let made = match kind {
        QuotaDisk::Ext4 => {
            let options = ["-O", "quota,project", "-E", "quotatype=prjquota"];
            ext4(&file, &options, "32M")
        }
        // Fewer than 300 MiB are for tests alone, says mkfs.
        QuotaDisk::Xfs => blank(&file, 48)
            .and_then(|()| run(tool("mkfs.xfs").args(["-q", "--unsupported"]).arg(&file)))
            .context("mkfs.xfs (package xfsprogs)")
            .map(drop),
        // It keeps a third of so small a disk for its cleaning.
        QuotaDisk::F2fs => blank(&file, 96)
            .and_then(|()| {
                run(tool("mkfs.f2fs")
                    .args(["-q", "-O", "extra_attr,project_quota,quota"])
                    .arg(&file))
            })
            .context("mkfs.f2fs (package f2fs-tools)")
            .map(drop),
    };
    let packed = made.and_then(|()| {
        let output = Command::new("gzip").arg("-9c").arg(&file).output()?;
        anyhow::ensure!(output.status.success(), "gzip ended with {}", output.status);
        Ok(output.stdout)
    });
    let _ = std::fs::remove_file(&file);
    packed
}
