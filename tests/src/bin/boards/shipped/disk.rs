//! The disk as shipped, made by `images/boards/build.sh`, and the initramfs that finds it.

use crate::arch::Arch;
use crate::board::{Board, Layout};
use crate::cpio::Archive;
use crate::kernel::Kernel;
use crate::modules;
use anyhow::{Context, Result, bail, ensure};
use coracle_tests::packages::{Cache, usr_or_top};
use coracle_tests::service::run;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Below the project's top.
const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const INIT: &str = include_str!("../../../../../images/boards/initramfs/init");

/// MiB of the first partition, the read-only root with busybox.
pub const ROOT_MIB: u64 = 48;
/// The same with systemd.
const SYSTEMD_ROOT_MIB: u64 = 320;
/// Debian's suite that the tree with systemd is of, as the kernel is; and what it has beside the essential packages.
const SUITE: &str = "bookworm";
const INCLUDED: &str = "systemd,systemd-sysv,udev,dbus,ca-certificates";
/// MiB of the second one, the data.
pub const DATA_MIB: u64 = 975;
/// Where on the disk that one begins, in bytes.
pub const DATA_AT: u64 = (1 + ROOT_MIB) << 20;

/// What drives the disk, the network and the shell; ext4 with the checksum that it asks for by name, and its quotas; what
/// apps need.
const MODULES: [&str; 21] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "crc32c_generic",
    "ext4",
    "quota_v2",
    "overlay",
    "bridge",
    "veth",
    "nf_tables",
    "nf_conntrack",
    "nft_ct",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_fib_inet",
    "nft_limit",
    "sch_tbf",
];

/// What drives a stick, where the kernel has USB.
const USB_MODULES: [&str; 3] = ["xhci_pci", "usb_storage", "sd_mod"];

/// What starts the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// busybox, with the init scripts that ship.
    Sysvinit,
    /// Debian's systemd, with the units that ship.
    Systemd,
}

impl Init {
    /// What the kernel's command line says so that cgroups are mounted in this way.
    fn words(self, layout: Layout) -> Result<&'static str> {
        Ok(match (self, layout) {
            (_, Layout::V2) => "",
            (Init::Sysvinit, Layout::V1) => " cgroups=v1",
            (Init::Systemd, Layout::V1) => {
                " systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1"
            }
            (_, Layout::Hybrid) => bail!("no disk mounts cgroups as {}", layout.name()),
        })
    }
}

/// What a disk is made with.
pub struct Order<'a> {
    pub init: Init,
    /// The fleet's root document.
    pub trust: &'a Path,
    /// What the board's site changes of its profile, as board.toml has it.
    pub site: Option<&'a str>,
    /// Whether the data partition has project quotas. A kernel without them does not mount it then.
    pub quotas: bool,
    /// Whether sticks are plugged into it.
    pub usb: bool,
}

/// All that a board is booted from.
pub struct Shipped {
    pub arch: Arch,
    pub kernel: PathBuf,
    pub release: String,
    /// What its command line says beside the console; begins with a space.
    pub words: &'static str,
    pub layout: Layout,
    pub initramfs: PathBuf,
    pub disk: PathBuf,
    /// The program that is supervisor, daemon and command line.
    pub agent: PathBuf,
    /// The example app for the board's architecture.
    pub app: PathBuf,
}

/// Programs as they ship, and the example app.
pub struct Programs {
    pub folder: PathBuf,
    pub app: PathBuf,
}

impl Shipped {
    /// Builds the programs, the disk, and the initramfs, below `folder`.
    pub fn build(
        board: &Board,
        cache: &Cache,
        order: &Order<'_>,
        folder: &Path,
    ) -> Result<Shipped> {
        let kernel = Kernel::of(board, cache)?;
        let programs = programs(board.arch, order.init, cache)?;
        let disk = folder.join("disk.img");
        build_disk(board.arch, cache, &programs.folder, order, &disk)?;
        let initramfs = folder.join("initramfs.cpio");
        std::fs::write(
            &initramfs,
            initramfs_of(board.arch, cache, &kernel, order.usb)?,
        )
        .with_context(|| initramfs.display().to_string())?;
        Ok(Shipped {
            arch: board.arch,
            kernel: kernel.image,
            release: kernel.release,
            words: order.init.words(board.layout)?,
            layout: board.layout,
            initramfs,
            disk,
            agent: programs.folder.join("coracle-agent"),
            app: programs.app,
        })
    }
}

/// Runs `images/boards/build.sh`.
fn build_disk(
    arch: Arch,
    cache: &Cache,
    programs: &Path,
    order: &Order<'_>,
    disk: &Path,
) -> Result<()> {
    let mut build = Command::new(format!("{TOP}/images/boards/build.sh"));
    build
        .arg("--programs")
        .arg(programs)
        .arg("--trust")
        .arg(order.trust);
    if let Some(site) = order.site {
        let file = disk.with_file_name("board.toml");
        std::fs::write(&file, site).with_context(|| file.display().to_string())?;
        build.arg("--site").arg(file);
    }
    let root_mib = match order.init {
        Init::Sysvinit => {
            build.arg("--busybox").arg(busybox(arch, cache)?);
            ROOT_MIB
        }
        Init::Systemd => {
            ensure!(
                arch == Arch::X86_64,
                "a tree with systemd is made for x86-64 only"
            );
            build.arg("--base").arg(debian_tree(cache)?);
            SYSTEMD_ROOT_MIB
        }
    };
    build
        .args(["--root-mib", &root_mib.to_string()])
        .args(["--data-mib", &DATA_MIB.to_string()])
        .args(["--quotas", if order.quotas { "yes" } else { "no" }])
        .arg("--output")
        .arg(disk);
    if arch.cross().is_none() {
        for library in crate::programs::libraries(&programs.join("coracle-agent"))? {
            build.arg("--library").arg(library);
        }
    }
    run(&mut build).map(drop)
}

/// A small Debian with systemd, made once.
fn debian_tree(cache: &Cache) -> Result<PathBuf> {
    let tree = cache.folder().join(format!("{SUITE}-systemd"));
    if tree.exists() {
        return Ok(tree);
    }
    println!("making a tree of {SUITE} with systemd");
    let part = cache.folder().join(format!("{SUITE}-systemd.part"));
    let _ = std::fs::remove_dir_all(&part);
    run(Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase"])
        .arg(format!("--include={INCLUDED}"))
        .arg(SUITE)
        .arg(&part))?;
    std::fs::rename(&part, &tree)?;
    Ok(tree)
}

/// The static one of the board's architecture.
pub fn busybox(arch: Arch, cache: &Cache) -> Result<PathBuf> {
    let package = cache.unpacked(arch.busybox_package(), arch.suite())?;
    Ok(usr_or_top(&package, "bin/busybox"))
}

/// As `make static` and `make arm` build them; where a distribution shares its C library with all others, as `make install` does.
pub fn programs(arch: Arch, init: Init, cache: &Cache) -> Result<Programs> {
    let target = cache.folder().parent().context("no target folder")?;
    let cargo = |what: &str| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command
            .current_dir(TOP)
            .args([what, "--quiet", "--release"]);
        command
    };
    let (folder, app) = match arch.cross() {
        None => {
            let alone = target.join("static");
            let build_static = |package| {
                let mut command = cargo("rustc");
                command.args(["--package", package, "--bin", package]);
                command.arg("--target-dir").arg(&alone);
                command.args(["--", "-C", "target-feature=+crt-static"]);
                run(&mut command).map(drop)
            };
            build_static("coracle-example-hello")?;
            let app = alone.join("release");
            let agent = ["--package", "coracle-agent"];
            match init {
                Init::Sysvinit => {
                    build_static("coracle-agent")?;
                    (app.clone(), app)
                }
                Init::Systemd => {
                    run(cargo("build").args(agent).arg("--target-dir").arg(target))?;
                    (target.join("release"), app)
                }
            }
        }
        Some((triple, linker)) => {
            let name = triple.replace('-', "_");
            let variable = format!("CARGO_TARGET_{}", name.to_uppercase());
            run(cargo("build")
                .args(["--package", "coracle-agent"])
                .args(["--package", "coracle-example-hello"])
                .args(["--target", triple, "--target-dir"])
                .arg(target)
                .env(format!("CC_{name}"), linker)
                .env(format!("{variable}_LINKER"), linker)
                .env(format!("{variable}_RUSTFLAGS"), arch.shipped_flags()?))?;
            let folder = target.join(triple).join("release");
            (folder.clone(), folder)
        }
    };
    let within = run(
        Command::new(format!("{TOP}/agent/board/budget.sh")).arg(folder.join("coracle-agent"))
    )?;
    println!("{}", within.trim_end());
    let app = app.join("coracle-example-hello");
    ensure!(app.exists(), "{} was not built", app.display());
    Ok(Programs { folder, app })
}

fn initramfs_of(arch: Arch, cache: &Cache, kernel: &Kernel, usb: bool) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "sys", "new"] {
        archive.folder(folder);
    }
    archive.character_device("dev/console", 5, 1);
    archive.file("init", 0o755, INIT.as_bytes());
    let busybox = busybox(arch, cache)?;
    let busybox = std::fs::read(&busybox).with_context(|| busybox.display().to_string())?;
    archive.file("bin/busybox", 0o755, &busybox);
    let mut wanted = MODULES.to_vec();
    if usb {
        wanted.extend(USB_MODULES);
    }
    let loaded = modules::in_load_order(&kernel.modules, &[], &wanted)?;
    for (at, (name, content)) in loaded.iter().enumerate() {
        archive.file(&format!("modules/{at:02}-{name}.ko"), 0o644, content);
    }
    Ok(archive.finish())
}
