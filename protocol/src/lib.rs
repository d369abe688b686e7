//! Everything two Coracle programs say to each other: signed documents, MQTT messages, and what
//! the daemon and the supervisor tell each other on the board.
//!
//! No I/O and no clock in here: time comes in as a number, bytes come in as slices.
//!
//! | file | what it holds |
//! |---|---|
//! | [`limits`] | every limit on what a remote can send, in one struct |
//! | [`names`] | validated names: boards, apps, volumes |
//! | [`key`] | Ed25519 public keys and signing keys |
//! | [`dsse`] | envelopes, PAE, counting of signatures |
//! | [`root`], [`release`], [`deploy`], [`command`] | the signed documents |
//! | [`verify`] | bytes → `VerifiedRelease`, `VerifiedDeploy`, `VerifiedDeployment`; → `AcceptedCommand` |
//! | [`counters`], [`time`] | what may never go back |
//! | [`trust_state`] | what a board trusts now, as it says it |
//! | [`secret`], [`site`] | what an assignment may bring besides: sealed secrets, settings of a site |
//! | [`topics`], [`desired`], [`report`] | MQTT: topics, what a board is told, what it says |
//! | [`local`] | daemon ↔ supervisor on the board |
//! | [`enrol`], [`renewal`] | a board asks a console for its certificate, and for the next one |
//! | [`stick`] | what lies on a USB stick |

#![deny(clippy::expect_used, clippy::unwrap_used)]

pub mod command;
pub mod counters;
pub mod deploy;
pub mod desired;
mod document;
pub mod dsse;
pub mod enrol;
pub mod key;
pub mod limits;
pub mod local;
pub mod names;
pub mod release;
pub mod renewal;
pub mod report;
pub mod root;
pub mod secret;
pub mod site;
pub mod stick;
mod strict;
pub mod time;
pub mod topics;
pub mod trust_state;
pub mod verify;

/// Digests and sizes as OCI writes them.
pub use coracle_digest::Sha256Digest;
