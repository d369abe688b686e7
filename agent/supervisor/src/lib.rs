//! The only process on the board that makes containers: root, one thread, no network parser in it.
//!
//! It believes nothing that the daemon says: documents are verified here, blobs are hashed here (in a
//! jailed child), and what a release may use is held against the board's budget before anything changes.
//!
//! | room | what is in it |
//! |---|---|
//! | [`settings`] | coracle.toml, profile, budget, folders |
//! | [`socket`] | the door for the daemon |
//! | [`trust`] | root document, counters, the board's name |
//! | [`offer`] | two documents → an accepted offer, and what is missing for it |
//! | [`stage`] | a blob → a layer, in a jail |
//! | `check` | layers and blobs that are read again, in a jail |
//! | [`journal`] | which sets the board has, on disk |
//! | [`machine`] | from one set to the next, as a pure function |
//! | [`apps`] | one app: plan, launch, stop, restart |
//! | [`health`] | probes, and what they add up to |
//! | `action` | an action of an app, in a child that waits for it |
//! | `exec` | a person's program in an app, in a child that stands between it and its socket |
//! | [`hooks`] | programs of an app around its start and its end |
//! | [`logs`] | an app's output, in a child that outlives the supervisor |
//! | [`volumes`] | what outlives apps: limits, owners, backups |
//! | [`resolver`] | a network's resolver, in a jail |
//! | [`users`] | whether an app's root is nobody on the board, and by which ids |
//! | [`adopt`], [`anew`] | what a supervisor leaves for the next one; the same process executes a new program |
//! | [`agent`] | which program this is, where a release brought another than the root file system's |
//! | [`supervisor`] | the owner of all of it: one loop |
//! | [`reset`] | factory reset and decommission, from the note of it to its end |
//! | [`program`] | the command line, and exit codes |
//! | [`watchdog`], [`thermal`], [`lights`] | the board's watchdog; less CPU for apps while it is hot; what its lights tell |
//! | [`wear`] | how much is written to its disks in a day |
//! | `board_policy` | what of the board's own network may be touched |
//! | [`gc`], [`disk`], [`notify`], `said`, `kernel` | layers that are to go; files; systemd; what a child says; system calls |

#![deny(clippy::expect_used, clippy::unwrap_used)]

mod action;
pub mod adopt;
pub mod agent;
pub mod anew;
pub mod apps;
mod board_policy;
mod check;
pub mod disk;
mod ended;
pub mod erase;
mod exec;
pub mod gate;
pub mod gc;
pub mod health;
pub mod hooks;
pub mod journal;
mod kernel;
pub mod lights;
pub mod limiter;
pub mod logs;
pub mod machine;
pub mod notify;
pub mod offer;
pub mod program;
pub mod reset;
pub mod resolver;
mod room;
mod said;
pub mod settings;
pub mod socket;
pub mod stage;
pub mod supervisor;
pub mod thermal;
pub mod trust;
pub mod users;
pub mod volumes;
pub mod watchdog;
pub mod wear;
