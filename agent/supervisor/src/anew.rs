//! The supervisor executes itself anew, in place. After an upgrade the new program has the same process number, so that the
//! apps are its children still and the kernel tells it, and nobody else, how they end: on kernels before 6.15 that is the only
//! way to know (see [`crate::adopt`]).

use crate::said;
pub use coracle_board_support::program::Program;
use coracle_runtime::{Exit, spawn_plain};
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// So long the program has for its answer and its end, while everything else waits: apps, and what feeds the watchdogs (9 s is the
/// shortest timeout of a board's that is known, a third of which may be over).
const PATIENCE: Duration = Duration::from_secs(4);

/// Exit code of a program that does not know what it is asked.
const WRONG_USAGE: i32 = 2;

/// What comes after a supervisor's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    End,
    /// The same process executes the program that is now under its name.
    Anew,
}

/// Whether the root file system's program, which is executed first, would come up with this coracle.toml. It may be another one
/// than this: an older one where a release brought this one, a newer one after an upgrade.
pub fn takes(program: &Program, file: &Path) -> Result<(), String> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| e.to_string())?;
    let child = spawn_plain(vec![write], |mut files: Vec<OwnedFd>| {
        if let Some(to) = files.pop() {
            let error = program.execute_check("coracle-supervisor", file, to);
            tracing::error!(%error, "the program that comes next cannot be asked");
        }
        1
    });
    let child = child.map_err(|e| e.to_string())?;
    let until = Instant::now() + PATIENCE;
    let words = said::listen(read, PATIENCE);
    let left = until.saturating_duration_since(Instant::now());
    if !said::ends(&child, left) {
        let _ = child.kill();
        return Err(format!(
            "{}: it did not say within {PATIENCE:?} whether it can be executed; try again when the board is less busy",
            program.path().display()
        ));
    }
    match child.wait() {
        // One of before: what this one says has to do.
        Some(Exit::Code(0 | WRONG_USAGE)) => Ok(()),
        end => Err(format!(
            "{}: {} ({end:?})",
            program.path().display(),
            words.trim_end()
        )),
    }
}
