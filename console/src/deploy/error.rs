use super::BOARDS;
use crate::blobs::BlobError;
use crate::secrets::NoRandom;
use crate::store::StoreError;
use coracle_digest::Sha256Digest;
use coracle_keys::{KeyFileError, SignError};
use coracle_protocol::names::BoardId;
use coracle_protocol::verify::Refusal;

/// Why nothing was deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// No boards.
    #[error("no boards are named")]
    NoBoards,
    /// Too many.
    #[error("{0} boards are named; the limit is {BOARDS}")]
    TooMany(usize),
    /// The release was never uploaded.
    #[error("release {0} is not known")]
    UnknownRelease(Sha256Digest),
    /// Boards that were never given an enrolment.
    #[error("these boards are not known: {}", .0.join(", "))]
    UnknownBoards(Vec<String>),
    /// Boards whose certificates were taken back.
    #[error("these boards are revoked: {}", .0.join(", "))]
    RevokedBoards(Vec<String>),
    /// A document that boards would refuse.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A setting that the release does not allow, or a secret that it needs and that nobody has set.
    #[error("board {board}: {fault}")]
    Site {
        /// Which board.
        board: BoardId,
        /// What does not fit.
        fault: String,
    },
    /// A document that cannot be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The key went away.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Its token wants another PIN than the console was given.
    #[error(
        "the deploy key's token was not opened again, so that no more tries are lost: {0}. Put the right PIN where the \
         console finds it, and restart the console"
    )]
    TokenLocked(String),
    /// Somebody has put another token there.
    #[error("`{0}` holds another key than at the start; restart the console to use it")]
    AnotherKey(String),
    /// What a cancel left.
    #[error(
        "the deployment is cancelled, and nobody is sent to any more; but on {left} of {boards} boards it goes on where it has \
         begun, since what takes it back there is not signed: {source}"
    )]
    NotAllSigned {
        /// So many boards.
        left: usize,
        /// Of so many that it was for.
        boards: usize,
        /// What the key said.
        source: Box<DeployError>,
    },
    /// A fault of ours, or of the token's library.
    #[error("signing the assignment was broken off; the console's log has more")]
    SigningPanicked,
    /// The key does not serve.
    #[error("the deploy key is not one of role `deploy` in the root document")]
    NotADeployKey,
    /// The root does not serve.
    #[error("the root document asks for {0} deploy signatures; a console has one key")]
    Threshold(usize),
    /// The root names no such role.
    #[error("the root document has no role `deploy`")]
    NoRole,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The random source.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// A document that is no JSON: cannot happen with the types that are signed.
    #[error("a document cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

impl DeployError {
    /// Whether the key could not sign, which it may do another time.
    pub(super) fn is_of_the_key(&self) -> bool {
        matches!(
            self,
            Self::Sign(_)
                | Self::Key(_)
                | Self::TokenLocked(_)
                | Self::AnotherKey(_)
                | Self::SigningPanicked
                | Self::NotADeployKey
                | Self::Threshold(_)
                | Self::NoRole
        )
    }
}
