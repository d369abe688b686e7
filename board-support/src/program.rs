//! The program of this process itself, and another one that it executes in its place: a release may bring one
//! (docs/release-file.md). The process stays, with its number, its arguments and its environment.

use crate::kernel;
use rustix::fs::{Access, access};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Environment: SHA-256 of the program that runs, in hexadecimal digits, where a release brought it.
const BROUGHT: &str = "CORACLE_AGENT";

/// Environment: where the root file system's is, for that one.
const SHIPPED: &str = "CORACLE_SHIPPED";

/// What was executed at the beginning.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// Asked early: once its file is replaced, the kernel has no name for it any more. One that a release brought names the
    /// root file system's.
    pub fn own() -> io::Result<Self> {
        let path = std::env::var_os(SHIPPED).filter(|_| Self::brought().is_some());
        Ok(Self {
            path: path.map_or_else(std::env::current_exe, |path| Ok(path.into()))?,
            arguments: std::env::args_os().collect(),
        })
    }

    /// SHA-256 of this one, in hexadecimal digits, where a release brought it.
    pub fn brought() -> Option<String> {
        std::env::var_os(BROUGHT).map(|hex| hex.to_string_lossy().into_owned())
    }

    /// The root file system's.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is something to execute under its name.
    pub fn is_there(&self) -> io::Result<()> {
        access(&self.path, Access::EXEC_OK).map_err(|errno| {
            let text = format!("{}: {errno}", self.path.display());
            io::Error::new(io::Error::from(errno).kind(), text)
        })
    }

    /// The root file system's. Answers only when it could not; this process is no good for anything else then, its signals
    /// being reset.
    pub fn execute(&self) -> io::Error {
        let mut arguments = self.arguments.iter();
        let mut command = Command::new(&self.path);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.env_remove(BROUGHT).env_remove(SHIPPED);
        command.args(arguments).exec()
    }

    /// The root file system's, which says on `to` whether it can live with that coracle.toml: exit code 0 or 1, and 2 from one that
    /// does not know the question. Answers only when it could not; only for a child of this process.
    pub fn execute_check(&self, name: &str, file: &Path, to: OwnedFd) -> io::Error {
        let mut command = Command::new(&self.path);
        command.arg0(name).args(["check", "--config"]).arg(file);
        command.env_remove(BROUGHT).env_remove(SHIPPED);
        command.stderr(to).exec()
    }

    /// The one in this open file, whose SHA-256 is `hex`. Answers only when it could not; nothing of this process has changed then.
    pub fn execute_brought(&self, file: BorrowedFd<'_>, hex: &str) -> io::Error {
        let text = |text: OsString| CString::new(text.into_vec()).unwrap_or_default();
        let entry = |name: &str, value: OsString| {
            let mut entry = OsString::from(name);
            entry.push("=");
            entry.push(value);
            text(entry)
        };
        let arguments: Vec<CString> = self.arguments.iter().cloned().map(text).collect();
        let mut environment: Vec<CString> = std::env::vars_os()
            .filter(|(name, _)| name != BROUGHT && name != SHIPPED)
            .filter_map(|(name, value)| Some(entry(name.to_str()?, value)))
            .collect();
        environment.push(entry(BROUGHT, hex.into()));
        environment.push(entry(SHIPPED, self.path.clone().into()));
        kernel::execute(file, &arguments, &environment)
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
