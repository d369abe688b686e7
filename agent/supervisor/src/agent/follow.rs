//! What the root file system's program does before anything else: it executes the chosen one, or goes on itself.

use super::{Choice, Chosen};
use crate::anew::Program;
use crate::disk::DiskError;
use crate::{kernel, room};
use coracle_board_support::config::Config;
use std::os::fd::AsFd;
use std::path::Path;

/// So often a program is started that has not proved itself. With the next start systemd has counted as many as its unit
/// bears in a minute.
const STARTS: u32 = 2;

/// Comes back when the root file system's program is the one to run. `boot`: the board's start, for a supervisor. `can_run`: one
/// could run here, so that what becomes of a program that was kept says something about it.
pub fn follow(config: &Config, program: &Program, boot: Option<&str>, can_run: bool) {
    let folder = &config.agent_dir();
    kernel::alarm(0);
    let Some(mut choice) = Choice::load(folder) else {
        return;
    };
    if choice.trial.is_some() {
        if boot.is_none() {
            choice.program = None;
        } else if let Err(reason) = begin_trial(&mut choice, config, program) {
            kernel::alarm(0);
            choice.fail(&reason);
            if let Err(error) = store(&choice, config) {
                tracing::error!(%error, "it is tried again at the next start");
            }
        }
    }
    // Before it runs, as that of a trial: whatever it does, it has so many.
    if boot.is_some_and(|boot| can_run && choice.count(boot))
        && let Err(error) = store(&choice, config)
    {
        tracing::error!(%error, "this start of the program is not counted");
    }
    for chosen in [&choice.program, &choice.previous].into_iter().flatten() {
        let fault = execute(chosen, folder, program);
        tracing::error!(version = chosen.version, fault, "a program is passed over");
    }
    if choice.program.is_some() {
        tracing::error!("the root file system's program runs instead");
    }
}

/// Counted on disk before it runs: whatever it does, the number of its starts is bounded.
fn begin_trial(choice: &mut Choice, config: &Config, program: &Program) -> Result<(), String> {
    let (Some(trial), Some(chosen)) = (&mut choice.trial, choice.program.clone()) else {
        return Err("is not there".into());
    };
    if trial.starts >= STARTS {
        return Err(format!(
            "was started {} times and ended each time before it had proved itself",
            trial.starts
        ));
    }
    trial.starts += 1;
    let patience = trial.patience_seconds;
    store(choice, config).map_err(|error| format!("cannot be tried: {error}"))?;
    // Survives the execution, and ends a program that never comes to its loop.
    kernel::alarm(patience);
    Err(format!(
        "cannot be executed: {}",
        execute(&chosen, &config.agent_dir(), program)
    ))
}

/// On a full disk too, where a program is likeliest to fail.
fn store(choice: &Choice, config: &Config) -> Result<(), DiskError> {
    let folder = config.agent_dir();
    room::with(config, DiskError::is_no_space, || choice.store(&folder))
}

/// Answers only when it could not; nothing of this process has changed then.
fn execute(chosen: &Chosen, folder: &Path, program: &Program) -> String {
    let file = match chosen.open(folder) {
        Ok(file) => file,
        Err(fault) => return fault,
    };
    let hex = chosen.digest.hex();
    program.execute_brought(file.as_fd(), &hex).to_string()
}
