//! The board's link to the world, without a capability.
//!
//! | room | what it does |
//! |---|---|
//! | [`identity`], [`renewal`] | the board's key and certificate; how it gets them, and the next ones; TLS that trusts one CA |
//! | [`link`] | MQTT: presence, what is wanted, what is reported |
//! | [`fetch`] | blobs over HTTPS, resumed and checked |
//! | [`blobs`] | where they lie |
//! | [`deployment`] | from a `Desired` to a set that runs or a reason why not |
//! | [`commands`] | signed commands, carried to the supervisor, and their results |
//! | [`decommission`] | the end of a board in its fleet |
//! | [`supervisor`] | the client of the process that may make containers |
//! | [`api`] | HTTP on docker.sock: Docker's and Coracle's own |
//! | [`docker`] | shapes of the Docker Engine API |
//! | [`program`], [`args`] | the command line, and exit codes |
//! | [`own_program`] | which program this is, where a release brought another than the root file system's |
//! | [`reporter`], [`telemetry`], [`metrics`], [`board_use`] | what runs and what it uses, told to whoever asks |
//!
//! Each task owns its state and talks over bounded channels. [`daemon`] starts and joins them.
//! Nothing here can stop an app by crashing: apps belong to the supervisor.

#![deny(clippy::expect_used, clippy::unwrap_used)]
// The shape of `docker info` is one long literal.
#![recursion_limit = "256"]

pub mod allowance;
mod api;
pub mod args;
pub mod as_made;
mod beside;
pub mod blobs;
pub mod board_use;
pub mod clock;
pub mod commands;
pub mod daemon;
pub mod decommission;
pub mod deployment;
pub mod disk;
pub mod docker;
pub mod fetch;
pub mod identity;
pub mod link;
pub mod metrics;
pub mod own_program;
pub mod privileges;
pub mod program;
pub mod random;
pub mod renewal;
pub mod reporter;
mod rest;
pub mod roots;
pub mod supervisor;
pub mod telemetry;
