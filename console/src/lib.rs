//! The fleet console: registry, enrolment, signed assignments, live status.
//!
//! | room | what it is for |
//! |---|---|
//! | [`settings`] | the command line |
//! | [`serve`] | everything started in order, and stopped |
//! | [`ca`], [`tls`] | the fleet's CA, what it issues, TLS configurations |
//! | [`certificates`], [`revocation`] | how a board's certificate stands, what follows when it is taken back |
//! | [`mosquitto`] | the console's own broker |
//! | [`link`], [`ingest`], [`republish`] | MQTT: the connection, what boards say, what the broker must hold |
//! | [`store`] | the database; the only SQL |
//! | [`blobs`], [`registry`] | blobs on disk, the OCI registry |
//! | [`boards_api`], [`board_port`] | the boards' port: enrolment, blobs |
//! | [`rest`], [`problem`], [`access`] | the operators' REST, its refusals, tokens |
//! | [`deploy`], [`deltas`] | signed assignments, deltas |
//! | [`commands`] | signed commands |
//! | [`web`], [`live`] | pages, and who tells them of changes |
//! | [`marks`] | what to see of a board at a glance |
//! | [`audit`] | who changed what |
//! | [`tokens`], [`boards`], [`check`] | the other subcommands |

#![deny(clippy::expect_used, clippy::unwrap_used)]

pub mod access;
pub mod audit;
pub mod blobs;
pub mod board_port;
pub mod boards;
pub mod boards_api;
pub mod ca;
pub mod certificates;
pub mod check;
pub mod clock;
pub mod commands;
pub mod deltas;
pub mod deploy;
pub mod files;
pub mod ingest;
pub mod link;
pub mod live;
pub mod manufacturing;
pub mod marks;
pub mod mosquitto;
pub mod problem;
pub mod registry;
pub mod republish;
pub mod rest;
pub mod revocation;
pub mod roots;
pub mod secrets;
pub mod serve;
pub mod settings;
pub mod store;
pub mod tls;
pub mod tokens;
pub mod web;
