//! `coracle-boards suite`: a suite of others' with cgroups as this machine does not have them. Whoever knows the suite
//! (agent/oci/conformance.sh) has put all that it needs into a folder: `run`, which is executed, and programs that were built
//! here. The board has the folder at /suite, and what it leaves in /suite/out is given back.

use crate::board::{Board, Layout, Tests, USUAL};
use crate::initramfs::{self, ext4, tool};
use crate::kernel::Kernel;
use crate::programs::{Program, Programs, libraries};
use crate::qemu::{Disk, Machine};
use crate::verdict::{self, LeftOut};
use anyhow::{Context, Result, bail, ensure};
use coracle_tests::packages::Cache;
use coracle_tests::service::run as run_command;
use std::path::{Path, PathBuf};

/// What a line that is for whoever started it begins with.
const TOLD: &str = "suite: ";
const RUN: &str = "run";
/// Of the disk with the folder: what the suite makes there comes beside.
const SIZE: &str = "1G";

const BOARDS: [Board; 2] = [
    Board {
        name: "suite-v1",
        layout: Layout::V1,
        ..SUITE
    },
    Board {
        name: "suite-v2",
        layout: Layout::V2,
        ..SUITE
    },
];

const SUITE: Board = Board {
    tests: Tests::Suite,
    devices: &[],
    not_here: &[],
    ..USUAL
};

pub fn run(cache: &Cache, arguments: impl Iterator<Item = String>) -> Result<()> {
    let arguments: Vec<String> = arguments.collect();
    let [layout, folder] = &arguments[..] else {
        bail!("{}", super::USAGE);
    };
    let board = BOARDS
        .iter()
        .find(|board| board.layout.name() == layout)
        .context(super::USAGE)?;
    let folder = Path::new(folder);
    let turn = super::turn(cache)?;
    let kernel = Kernel::of(board, cache)?;
    let image = initramfs::build(board, cache, &kernel, &programs(folder)?, "")?;
    let file = |extension: &str| {
        let process = std::process::id();
        let name = format!("{}-{process}.{extension}", board.name);
        cache.folder().join(name)
    };
    let (initramfs, disk, log) = (file("cpio"), file("ext4"), folder.join("console"));
    std::fs::write(&initramfs, image).with_context(|| initramfs.display().to_string())?;
    ext4(&disk, &["-d", folder.to_str().context("text")?], SIZE)?;
    let mut disks = initramfs::disks(board, cache)?;
    disks.push(Disk {
        file: disk.clone(),
        forgets: false,
    });
    drop(turn);

    let machine = Machine {
        arch: board.arch,
        devices: board.devices,
        kernel: kernel.image,
        initramfs: initramfs.clone(),
        memory_mib: board.memory_mib(),
        disks,
        resets: false,
        time_limit: board.time_limit,
        log: log.clone(),
    };
    let outcome = machine.boot(|line| {
        if let Some(line) = line.strip_prefix(TOLD) {
            println!("{line}");
        }
    });
    let given_back = outcome.and_then(|()| {
        let command = format!("rdump /out {}", folder.display());
        run_command(tool("debugfs").args(["-R", &command]).arg(&disk))?;
        let text = std::fs::read(&log).with_context(|| log.display().to_string())?;
        verdict::judge(
            &String::from_utf8_lossy(&text),
            &[RUN],
            LeftOut::All(&[]),
            0,
        )
    });
    for made in [initramfs, disk] {
        let _ = std::fs::remove_file(made);
    }
    given_back.with_context(|| format!("its serial console: {}", log.display()))
}

/// `run`, and the libraries of all programs beside it.
fn programs(folder: &Path) -> Result<Programs> {
    let run = folder.join(RUN);
    ensure!(run.exists(), "{} is missing", run.display());
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut all: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path = entry?.path();
        // What is no program, or a static one, has none.
        if path.is_file() {
            all.extend(libraries(&path).unwrap_or_default());
        }
    }
    let tests = vec![Program {
        name: RUN.into(),
        file: run,
        libraries: all,
    }];
    let started = Vec::new();
    Ok(Programs { tests, started })
}
