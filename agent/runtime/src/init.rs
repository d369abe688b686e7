//! The container's process 1, where a program is not to be it: it passes signals on to the program, reaps what is left to
//! it, and ends as the program ended.
//!
//! It is executed anew, from a sealed memory file of the container's own: what is in the memory of process 1, and what
//! `/proc/1/exe` leads to, is this small program and nothing of the caller's, whose copy the process was before.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Pid, execveat, getpid, getppid, pipe2, setpgid, tcsetpgrp};

use crate::failure::{At, Failure, Step};
use crate::kernel::{self, Forked};
use crate::launch::CHILD_FAILED;
use crate::sealed;

/// Where the file is mapped: above what any kernel forbids, on a border of pages of 4 to 64 KiB.
const ADDRESS: usize = 0x40_0000;
const PAGE: usize = 0x1_0000;

/// The program of one container.
pub(crate) struct Init(OwnedFd);

impl Init {
    /// While files can be made: before limits and filter of the container are in force.
    pub(crate) fn make() -> Result<Init, Failure> {
        let made = || -> nix::Result<Init> {
            let file = sealed::memory(c"coracle-init", &mut program().as_slice())?;
            // Whoever the container's user is may execute it, and nobody change it.
            fchmod(&file, Mode::from_bits_truncate(0o555))?;
            Ok(Init(file))
        };
        made().at(Step::Init, "memory file")
    }

    /// Answers in a new process, which is to become the container's program: the calling one becomes the init, without the
    /// descriptors that are the program's.
    pub(crate) fn take_over(
        self,
        has_terminal: bool,
        programs: std::ops::Range<i32>,
    ) -> Result<(), Failure> {
        let (taken_over, hold) = pipe2(OFlag::O_CLOEXEC).at(Step::Init, "pipe")?;
        let first = getpid();
        // None is lost between here and its first instruction: what is blocked stays so over execve.
        kernel::block_signals(true);
        match kernel::clone_process(0, None).at(Step::Init, "process")? {
            Forked::Parent { pid, .. } => Err(self.execute(pid, programs)),
            Forked::Child { .. } => {
                drop((hold, self));
                // Nothing of the image runs while the caller's memory is that of process 1.
                let end = File::from(taken_over).read(&mut [0]);
                if !matches!(end, Ok(0)) || getppid() != first {
                    kernel::exit_now(CHILD_FAILED);
                }
                lead_own_group(has_terminal)?;
                kernel::block_signals(false);
                Ok(())
            }
        }
    }

    fn execute(&self, child: i32, programs: std::ops::Range<i32>) -> Failure {
        let args = [c"coracle-init".into(), number(child)];
        // All others are closed by the execve.
        programs.for_each(kernel::close_one);
        let failed = execveat(
            self.0.as_fd(),
            c"",
            &args,
            &[] as &[CString],
            AtFlags::AT_EMPTY_PATH,
        )
        .map(|never| match never {});
        // It waits for the pipe still, whose other end is open here.
        let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        let _ = kernel::wait_pid(child, true);
        match failed.at(Step::Init, "coracle-init") {
            Err(failure) => failure,
            Ok(never) => never,
        }
    }
}

fn number(child: i32) -> CString {
    CString::new(child.to_string()).unwrap_or_default()
}

/// A signal to the whole group, from a terminal or from the program itself, is not for the init.
fn lead_own_group(has_terminal: bool) -> Result<(), Failure> {
    setpgid(Pid::from_raw(0), Pid::from_raw(0)).at(Step::Init, "process group")?;
    if has_terminal {
        tcsetpgrp(std::io::stdin(), getpid()).at(Step::Init, "terminal")?;
    }
    Ok(())
}

/// The code as an ELF program at a fixed address, in one segment.
fn program() -> Vec<u8> {
    const EXECUTABLE: u16 = 2;
    const VERSION: u32 = 1;
    const LOAD: u32 = 1;
    const STACK: u32 = 0x6474_e551;
    const READ_EXECUTE: u32 = 5;
    const READ_WRITE: u32 = 6;
    /// Words of 8 bytes: `Elf64_Ehdr` and `Elf64_Phdr`, else `Elf32_Ehdr` and `Elf32_Phdr`.
    const WIDE: bool = size_of::<usize>() == 8;
    const HEADER: u16 = if WIDE { 64 } else { 52 };
    const SEGMENT: u16 = if WIDE { 56 } else { 32 };

    let code = kernel::init::code();
    let (machine, flags) = kernel::init::MACHINE;
    let start = usize::from(HEADER) + 2 * usize::from(SEGMENT);
    let size = start + code.len();
    let mut elf = Vec::with_capacity(size);
    let class = if WIDE { 2 } else { 1 };
    elf.extend([0x7f, b'E', b'L', b'F', class, 1, 1]);
    elf.resize(16, 0);
    elf.extend([EXECUTABLE, machine].map(u16::to_le_bytes).concat());
    elf.extend(VERSION.to_le_bytes());
    for word in [ADDRESS + start, usize::from(HEADER), 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(flags.to_le_bytes());
    // Two segments, no sections.
    elf.extend([HEADER, SEGMENT, 2, 0, 0, 0].map(u16::to_le_bytes).concat());
    // What is not said about the stack makes it executable on some architectures.
    for (kind, flags, address, size, align) in [
        (LOAD, READ_EXECUTE, ADDRESS, size, PAGE),
        (STACK, READ_WRITE, 0, 0, 16),
    ] {
        elf.extend(kind.to_le_bytes());
        if WIDE {
            elf.extend(flags.to_le_bytes());
        }
        for word in [0, address, address, size, size] {
            elf.extend(word.to_le_bytes());
        }
        if !WIDE {
            elf.extend(flags.to_le_bytes());
        }
        elf.extend(align.to_le_bytes());
    }
    elf.extend(code);
    elf
}
