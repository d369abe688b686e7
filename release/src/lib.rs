//! What an engineer runs on a laptop or in CI: keys, images, releases, pushes, sticks.
//!
//! | file | what it holds |
//! |---|---|
//! | [`cli`] | the command line: subcommands, and which function each one calls |
//! | [`failure`] | how an error becomes words and an exit code |
//! | [`envelope_file`] | signed documents on the disk |
//! | [`human`] | "64MiB", "90d" |
//! | [`progress`] | bars and lines on stderr |
//! | [`keys`], [`files`], [`root`] | keys in files and tokens, whole files (coracle-keys, which the console has too); the root document |
//! | [`board_keys`] | which key each board's secrets are sealed to |
//! | [`image`] | an image from folders |
//! | [`image_file`] | `image.toml`: another image, files and settings |
//! | [`archive`] | images from archives, and to archives |
//! | [`registry`] | images from any registry, and to any |
//! | [`release_file`] | `release.toml`, as the engineer wrote it |
//! | [`release`] | the signed release: made, shown, read |
//! | [`delta`] | deltas by hand |
//! | [`published`] | deltas beside an image in any registry |
//! | [`stick`] | a USB stick: plan, folder, vfat image |
//! | [`console`] | HTTP to the console: REST and registry |
//! | [`push`], [`deploy`] | images and release to the console; deployments and what became of them |
//! | [`withhold`] | a deployment that is held, or taken back |

#![deny(clippy::expect_used, clippy::unwrap_used)]

pub use coracle_keys::{self as keys, files};

pub mod archive;
pub mod board_keys;
pub mod cli;
pub mod console;
pub mod delta;
pub mod deploy;
pub mod envelope_file;
pub mod failure;
pub mod human;
pub mod image;
pub mod image_file;
pub mod progress;
pub mod published;
pub mod push;
pub mod registry;
pub mod release;
pub mod release_file;
pub mod root;
pub mod stick;
pub mod toml_file;
pub mod withhold;
