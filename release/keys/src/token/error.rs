//! Why a key in a token can't be used, and what to do about it.

use super::{Kind, MODULE, pin};
use crate::uri::Pkcs11Uri;
use coracle_protocol::key::KeyError;
use std::path::PathBuf;

/// Why a key in a token can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No library is named.
    #[error(
        "`{0}` does not say which library speaks to the token: add ?module-path=/usr/lib/softhsm/libsofthsm2.so \
         (or yours), or name it in {MODULE}"
    )]
    NoModule(Box<Pkcs11Uri>),
    /// The library.
    #[error("the PKCS#11 library `{module}`: {fault}")]
    Module {
        /// Its path.
        module: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// None, or several.
    #[error("{count} tokens match `{uri}`, and one must; the library `{module}` has {there}")]
    Tokens {
        /// How many.
        count: usize,
        /// What was asked for.
        uri: Box<Pkcs11Uri>,
        /// The library.
        module: PathBuf,
        /// Which there are.
        there: String,
    },
    /// It does not sign as is needed here.
    #[error("{token} knows no {kind} ({}): another token is needed, or a key file", kind.mechanism())]
    NoSuchKind {
        /// Which.
        token: String,
        /// What it is asked for.
        kind: Kind,
    },
    /// The PIN.
    #[error("{token} does not open: {fault}")]
    Login {
        /// Which.
        token: String,
        /// What is wrong, and what to do.
        fault: String,
    },
    /// Somebody has tried a wrong PIN, and the next try is a person's.
    #[error(
        "a wrong PIN of {token} was tried since the last right one, and a service does not try the next: put the PIN \
         right and log in once by hand, as `coracle-console check` with the same key does"
    )]
    Spared {
        /// Which.
        token: String,
    },
    /// The PIN's source.
    #[error("{0}")]
    Pin(#[from] pin::PinError),
    /// None, or several.
    #[error("{count} private keys of {token} match `{uri}`, and one must; it has {there}")]
    Keys {
        /// How many.
        count: usize,
        /// The token.
        token: String,
        /// What was asked for.
        uri: Box<Pkcs11Uri>,
        /// Which there are.
        there: String,
    },
    /// Not of the kind that serves here.
    #[error("key {key} of {token} is not {wanted}")]
    Kind {
        /// The token.
        token: String,
        /// The key.
        key: String,
        /// What serves here.
        wanted: Kind,
    },
    /// Nobody can tell the public half.
    #[error(
        "{token} shows no public half of key {key}: import the public key object beside it, with the same id"
    )]
    NoPublic {
        /// The token.
        token: String,
        /// The key.
        key: String,
    },
    /// What it shows as one.
    #[error("the public half of the key in {token}")]
    Public {
        /// The token.
        token: String,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// A key of that name is there.
    #[error("{token} has a private key {key} already; choose another object=LABEL")]
    Exists {
        /// The token.
        token: String,
        /// The key.
        key: String,
    },
    /// A key without a name would not be found again.
    #[error("a new key needs a label: add object=LABEL to `{0}`")]
    NoLabel(Box<Pkcs11Uri>),
    /// Anything else.
    #[error("{token} cannot {what}: {fault}")]
    Failed {
        /// The token.
        token: String,
        /// What was tried.
        what: &'static str,
        /// What the library said.
        fault: String,
    },
    /// Another key needed its library begun anew.
    #[error("{token} is to be opened again: its library was begun anew")]
    Anew {
        /// The token.
        token: String,
    },
}

impl TokenError {
    /// Whether it may be over without anybody's doing anything here: the token is away, or was and is there again.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Module { .. }
            | Self::Failed { .. }
            | Self::NoPublic { .. }
            | Self::Spared { .. }
            | Self::Anew { .. } => true,
            Self::Tokens { count, .. } | Self::Keys { count, .. } => *count == 0,
            _ => false,
        }
    }
}
