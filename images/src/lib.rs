//! OCI image layouts, layers, deltas and the store that holds them.
//!
//! Plain blocking I/O: this runs in the supervisor's jailed child, in the daemon's store, in the console and
//! on the engineer's machine. What only the last two need (making images and deltas) is behind the feature
//! `make`, so that boards do not carry it.

#![deny(clippy::expect_used, clippy::unwrap_used)]

mod beneath;
pub mod check;
pub mod decompress;
pub mod delta;
pub mod layout;
mod limits;
pub mod record;
pub mod store;
pub mod tree;
pub mod unpack;

#[cfg(feature = "make")]
pub mod archive;
#[cfg(feature = "make")]
pub mod build;

pub use beneath::PathError;
pub use coracle_digest::Sha256Digest;
pub use limits::Limits;
