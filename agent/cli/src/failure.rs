//! Every way to end badly, and its exit code.

use crate::args::UsageError;
use crate::client::ClientError;
use crate::enrol::FileError;
use crate::exec::ExecError;
use crate::plugged::PluggedError;
use crate::reset::ResetError;
use crate::stick::{LeaveError, MediumError};
use crate::store::StoreError;
use coracle_board_support::config::ConfigError;
use coracle_board_support::detect::DetectError;
use coracle_protocol::names::VolumeName;
use coracle_protocol::report::{Feedback, Phase};
use std::io;

/// Why the program does not end well.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// coracle.toml.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `config check`: good by itself, and not for the supervisor that runs.
    #[error(
        "{file}: {key} is another than that of the supervisor that runs, which refuses to take the file: it takes `coracle-supervisor stop-all` and a start"
    )]
    FixedKey {
        /// coracle.toml.
        file: String,
        /// `section.name`.
        key: &'static str,
    },
    /// No board profile.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// coracled, or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The enrolment file.
    #[error(transparent)]
    Enrolment(#[from] FileError),
    /// The stick.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// What is left on a stick.
    #[error("no result is left on the stick: {0}")]
    Leave(#[source] LeaveError),
    /// A stick that was plugged in.
    #[error(transparent)]
    Plugged(#[from] PluggedError),
    /// `factory-reset`, `decommission`.
    #[error(transparent)]
    Reset(#[from] ResetError),
    /// `exec`.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// `store check`.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing on the stick makes a layer that the board lacks.
    #[error(
        "the stick holds neither layer {0} nor a delta to it from what this board runs; it was made for boards that run another release"
    )]
    NoLayer(coracle_protocol::Sha256Digest),
    /// A deployment that did not end with the new set.
    #[error("{}", sentence(.0))]
    Deployment(Box<Feedback>),
    /// The stream ended and nobody knows how it went on.
    #[error("coracled stopped telling before the deployment ended; see `coracle status`")]
    NoEnd,
    /// The daemon runs without the supervisor.
    #[error(
        "coracled runs, but the supervisor does not: nothing is known of the apps (see the journal of coracle-supervisor)"
    )]
    NoSupervisor,
    /// `board check`.
    #[error("{0} of what Coracle needs is missing")]
    Needed(usize),
    /// `update accept` with nothing to accept.
    #[error("no release waits on this board; see `coracle status`")]
    NothingWaits,
    /// No volume of this name.
    #[error("there is no volume `{0}`; `coracle volume ls` shows those there are")]
    NoVolume(VolumeName),
    /// A tar that broke off.
    #[error("the backup of `{0}` is not whole and of no use: what was written has to go")]
    HalfBackup(VolumeName),
    /// A tar for a terminal.
    #[error("a backup is not for a terminal: `coracle volume backup NAME > FILE`")]
    Terminal,
    /// Standard output.
    #[error("cannot write: {0}")]
    Output(#[source] io::Error),
}

fn sentence(end: &Feedback) -> String {
    let what = match end.phase {
        Phase::Refused => "refused",
        Phase::RolledBack => "rolled back",
        _ => "failed",
    };
    let code = end.code.as_deref().unwrap_or_default();
    match (end.reason.as_deref().unwrap_or_default(), code) {
        ("", "") => what.to_owned(),
        ("", code) => format!("{what}: {code}"),
        (reason, "") => format!("{what}: {reason}"),
        (reason, code) => format!("{what}: {reason} ({code})"),
    }
}

impl Failure {
    /// 1 failed, 2 usage, 3 refused, 4 cannot reach the daemon.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Store(error) => error.exit_code(),
            Self::Exec(error) => error.exit_code(),
            Self::Client(ClientError::Refused { .. }) => 3,
            Self::Deployment(end) if end.phase == Phase::Refused => 3,
            Self::Reset(ResetError::Refused(_)) => 3,
            Self::Client(ClientError::Unreachable { .. })
            | Self::Reset(ResetError::Unreachable { .. }) => 4,
            _ => 1,
        }
    }

    /// Whether the daemon went away in the middle, of which nothing follows for what it was asked.
    pub fn is_break(&self) -> bool {
        matches!(self, Self::NoEnd | Self::Client(ClientError::Broken(_)))
    }

    /// Whether there is nothing to say: a program in an app has ended as it did.
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Exec(ExecError::Ended(_)))
    }

    /// Whether whoever read our output has gone.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }
}
