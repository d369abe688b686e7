//! `make boards`: builds virtual boards, boots them in QEMU and runs the runtime's root tests there.
//!
//! A board is one of Debian's kernels and an initramfs of busybox, a few modules and the tests: no disk, no network, no
//! rights on this machine. It comes up in seconds in software emulation, so that every layout of cgroups and every
//! architecture can be tried where only one is at hand. Where the tests are of programs that others made, a small Debian is
//! its root instead, and suites of others run there too.
//!
//! | file | what it holds |
//! |---|---|
//! | `board` | the boards there are |
//! | `arch` | what differs between architectures |
//! | `apparmor` | a profile for the tests, as the kernel takes it |
//! | `kernel` | a kernel and where its modules are |
//! | `modules` | a kernel's modules in the order they load |
//! | `programs` | the test programs and their libraries |
//! | `cpio` | the archive format that the kernel unpacks |
//! | `initramfs` | what is in it |
//! | `debian` | a disk with a small Debian and what drives containers |
//! | `suite` | a suite of others' on such a disk |
//! | `qemu` | booting, with a time limit |
//! | `verdict` | what the board's serial console said |
//! | `shipped` | a board that boots the disk as shipped, and the whole loop with it |
//! | `powercut` | the same disk, its power cut at many instants |

mod apparmor;
mod arch;
mod board;
mod cpio;
mod debian;
mod initramfs;
mod kernel;
mod modules;
mod powercut;
mod programs;
mod qemu;
mod shipped;
mod suite;
mod verdict;

use anyhow::{Context, Result, bail};
use board::{BOARDS, Board};
use coracle_tests::packages::Cache;
use kernel::Kernel;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str =
    "usage: coracle-boards [--only PART-OF-A-TEST-NAME|PROGRAM] [--kernel FOLDER] [BOARD…]
       coracle-boards shipped [--quick] [--memory MIB] [--site FILE] [--table] [BOARD…]
       coracle-boards suite v1|v2 FOLDER
       coracle-boards powercut [--cuts N] [--boots N] [--seed N] [--table FILE]";

fn main() -> ExitCode {
    match boards() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ncoracle-boards: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn boards() -> Result<()> {
    let (mut chosen, mut only, mut own_kernel) = (Vec::new(), String::new(), None);
    let mut arguments = std::env::args().skip(1).peekable();
    let target = target_folder()?;
    let cache = Cache::in_folder(&target.join("boards"))?;
    match arguments.peek().map(String::as_str) {
        Some("shipped") => return shipped::all(&cache, arguments.skip(1)),
        Some("suite") => return suite::run(&cache, arguments.skip(1)),
        Some("powercut") => return powercut::run(&cache, arguments.skip(1)),
        _ => {}
    }
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--only" => only = arguments.next().context(USAGE)?,
            "--kernel" => {
                let folder = PathBuf::from(arguments.next().context(USAGE)?);
                own_kernel = Some(Kernel::unpacked(&folder)?);
            }
            name => chosen.push(Board::named(name)?),
        }
    }
    if own_kernel.is_some() && chosen.len() != 1 {
        bail!("--kernel is for one board, and {} are named", chosen.len());
    }
    if chosen.is_empty() {
        chosen.extend(BOARDS.iter());
    }
    for board in chosen {
        run(board, &cache, &only, own_kernel.as_ref())?;
    }
    Ok(())
}

/// What somebody's own kernel lacks nobody here knows: tests that say so are told, and not judged.
fn run(board: &Board, cache: &Cache, only: &str, own_kernel: Option<&Kernel>) -> Result<()> {
    let turn = turn(cache)?;
    let debians;
    let kernel = match own_kernel {
        Some(kernel) => kernel,
        None => {
            debians = Kernel::of(board, cache)?;
            &debians
        }
    };
    println!(
        "{}: Linux {}, cgroups: {}",
        board.name,
        kernel.release,
        board.layout.name()
    );
    let programs = programs::build(board, cache)?;
    let image = initramfs::build(board, cache, kernel, &programs, only)?;
    let initramfs = cache.folder().join(format!("{}.cpio", board.name));
    std::fs::write(&initramfs, image).with_context(|| initramfs.display().to_string())?;
    drop(turn);

    let log = cache.folder().join(format!("{}.log", board.name));
    let started = Instant::now();
    let machine = qemu::Machine {
        arch: board.arch,
        devices: board.devices,
        kernel: kernel.image.clone(),
        initramfs,
        memory_mib: board.memory_mib(),
        disks: initramfs::disks(board, cache)?,
        resets: board.resets > 0,
        time_limit: board.time_limit,
        log: log.clone(),
    };
    let outcome = machine.boot(|line| {
        if line.starts_with("test ") {
            println!("  {line}");
        }
    });
    let text = std::fs::read(&log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let names: Vec<&str> = programs.tests.iter().map(|p| p.name.as_str()).collect();
    // What the console said tells more than how QEMU ended.
    let left_out = match own_kernel {
        Some(_) => verdict::LeftOut::Any,
        None if only.is_empty() => verdict::LeftOut::All(board.not_here),
        None => verdict::LeftOut::SomeOf(board.not_here),
    };
    if let Err(error) = outcome.and_then(|()| verdict::judge(&text, &names, left_out, board.resets))
    {
        println!(
            "--- serial console of {} ---\n{text}\n--- end ({}) ---",
            board.name,
            log.display()
        );
        bail!("board {}: {error:#}", board.name);
    }
    println!(
        "{}: {} held, in {:.0} s",
        board.name,
        names.join(" and "),
        started.elapsed().as_secs_f32()
    );
    Ok(())
}

/// Boards may run side by side, but are made one after the other: packages, programs and disks lie in one folder.
fn turn(cache: &Cache) -> Result<File> {
    let path = cache.folder().join("lock");
    let file = File::create(&path).and_then(|file| file.lock().map(|()| file));
    file.with_context(|| path.display().to_string())
}

/// Cargo's target folder, from where this program lies: `<target>/<profile>/coracle-boards`.
fn target_folder() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let folder = me.ancestors().nth(2).context("no target folder")?;
    Ok(folder.to_owned())
}
