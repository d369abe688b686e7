//! Every way to end badly.

use std::io;
use std::path::{Path, PathBuf};

use coracle_runtime::cgroup::CgroupError;
use coracle_runtime::seccomp::SeccompError;

use crate::state::Status;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}; see coracle-runtime --help")]
    Usage(String),
    #[error("container id {id:?} {reason}")]
    BadId { id: String, reason: &'static str },
    #[error("container with id exists: {0}")]
    Exists(String),
    #[error("container does not exist: {0}")]
    Missing(String),
    /// Engines look for the words `container not running`.
    #[error("cannot {action} {id}: {}", because(*status))]
    WrongStatus {
        action: &'static str,
        id: String,
        status: Status,
    },
    /// Something in config.json that is against the specification.
    #[error("invalid configuration: {0}")]
    Config(String),
    /// Something in config.json that is well-formed and cannot be had.
    #[error("not supported: {0}")]
    Unsupported(String),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
    #[error("{what}: {source}")]
    Network { what: String, source: io::Error },
    #[error("{}: {source}", path.display())]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{kind} hook {}: {reason}", path.display())]
    Hook {
        kind: &'static str,
        path: PathBuf,
        reason: String,
    },
    /// What systemd says, or that it does not answer.
    #[error("systemd: {0}")]
    Systemd(String),
    /// What the program that checkpoints says, or that it is not there.
    #[error("CRIU: {0}")]
    Criu(String),
    #[error(transparent)]
    Runtime(#[from] coracle_runtime::Failure),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
}

fn because(status: Status) -> String {
    match status {
        Status::Stopped => "container not running".into(),
        other => format!("container is {}", other.name()),
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Failure {
        match error {
            // In runc's words, which podman looks for to know whether pods can be restored.
            lexopt::Error::MissingValue {
                option: Some(option),
            } => Failure::Usage(format!("flag needs an argument: {option}")),
            other => Failure::Usage(other.to_string()),
        }
    }
}

/// Says which file an error is about.
pub trait OnPath<T> {
    fn on(self, path: impl AsRef<Path>) -> Result<T, Failure>;
}

impl<T> OnPath<T> for io::Result<T> {
    fn on(self, path: impl AsRef<Path>) -> Result<T, Failure> {
        self.map_err(|source| Failure::Io {
            path: path.as_ref().into(),
            source,
        })
    }
}

impl<T> OnPath<T> for nix::Result<T> {
    fn on(self, path: impl AsRef<Path>) -> Result<T, Failure> {
        self.map_err(io::Error::from).on(path)
    }
}

/// Says what was being done when there is no file to name.
pub trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, Failure>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: &'static str) -> Result<T, Failure> {
        self.map_err(|source| Failure::System { what, source })
    }
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, what: &'static str) -> Result<T, Failure> {
        self.map_err(io::Error::from).doing(what)
    }
}
