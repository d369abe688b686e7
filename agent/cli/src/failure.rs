//! Why a command failed, what to try, and the exit code.

use std::path::PathBuf;

/// A failure.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No daemon.
    #[error(
        "cannot reach coracled at {}: {source}\nIs it running, and may you use the socket? Try `systemctl status coracled`, or `sudo coracle …`; `--socket PATH` names another.",
        socket.display()
    )]
    Unreachable {
        /// Where it should be.
        socket: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The connection broke or HTTP did.
    #[error("coracled at {}: {what}", socket.display())]
    Broken {
        /// Where it is.
        socket: PathBuf,
        /// What happened.
        what: String,
    },
    /// It said no.
    #[error("{message}{}", code.as_ref().map(|c| format!(" [{c}]")).unwrap_or_default())]
    Answer {
        /// HTTP status.
        status: u16,
        /// A stable word.
        code: Option<String>,
        /// In words.
        message: String,
    },
    /// A file.
    #[error("{}: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The configuration or the board.
    #[error("{0}")]
    Board(String),
    /// A deployment that did not end well.
    #[error("{0}")]
    Deployment(String),
    /// A deployment that was refused.
    #[error("refused: {0}")]
    Refused(String),
    /// Standard output.
    #[error("cannot write: {0}")]
    Output(std::io::Error),
}

impl Failure {
    /// 1 failed, 3 refused, 4 cannot reach.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreachable { .. } => 4,
            Self::Answer { status: 403, .. } | Self::Refused(_) => 3,
            _ => 1,
        }
    }
}
