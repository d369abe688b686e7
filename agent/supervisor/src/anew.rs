//! The supervisor executes itself anew, in place. After an upgrade the new program has the same process number, so that the
//! apps are its children still and the kernel tells it, and nobody else, how they end: on kernels before 6.15 that is the only
//! way to know (see [`crate::adopt`]).

use crate::agent;
use rustix::fs::{Access, access};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What comes after a supervisor's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    End,
    /// The same process executes the program that is now under its name.
    Anew,
}

/// What was executed at the beginning.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// Asked early: once its file is replaced, the kernel has no name for it any more. A program that was chosen names the root
    /// file system's, which chooses again.
    pub fn own() -> io::Result<Self> {
        let path = std::env::var_os(agent::SHIPPED).filter(|_| Self::was_chosen());
        Ok(Self {
            path: path.map_or_else(std::env::current_exe, |path| Ok(path.into()))?,
            arguments: std::env::args_os().collect(),
        })
    }

    /// Whether the root file system's program executed this one.
    pub fn was_chosen() -> bool {
        std::env::var_os(agent::OWN).is_some()
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name and what came behind it.
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// Whether there is something to execute under its name.
    pub fn is_there(&self) -> io::Result<()> {
        access(&self.path, Access::EXEC_OK).map_err(|errno| {
            let text = format!("{}: {errno}", self.path.display());
            io::Error::new(io::Error::from(errno).kind(), text)
        })
    }

    /// Answers only when it could not; this process is no good for anything else then, its signals being reset.
    pub fn execute(&self) -> io::Error {
        let mut arguments = self.arguments.iter();
        let mut command = Command::new(&self.path);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.env_remove(agent::OWN).env_remove(agent::SHIPPED);
        command.args(arguments).exec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_gone_is_named() {
        let own = Program::own().unwrap();
        own.is_there().unwrap();
        let gone = Program {
            path: "/nonexistent/program".into(),
            ..own
        };
        let error = gone.is_there().unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/program"),
            "{error}"
        );
    }
}
