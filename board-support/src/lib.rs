//! What a board is. Facts only: what coracle.toml says, what a profile says, what the kernel shows.
//! What to do about them is decided in the supervisor and the daemon.
//!
//! Whatever a file or the kernel feeds in is bounded; the limits stand beside the types.

pub mod config;
mod toml_file;

pub use toml_file::FILE_LIMIT_BYTES;
