//! What a board is. Facts only: what coracle.toml says, what a profile says, what the kernel shows.
//! What to do about them is decided in the supervisor and the daemon.
//!
//! Whatever a file or the kernel feeds in is bounded; the limits stand beside the types.

pub mod account;
pub mod budget;
pub mod clock;
pub mod config;
pub mod detect;
pub mod devices;
mod kernel;
pub mod memory;
pub mod probe;
pub mod profile;
pub mod program;
pub mod route;
mod smallest;
pub mod storage;
mod text;
pub mod thermal;
mod toml_file;
pub mod vitals;
pub mod wear;

pub use text::Text;
pub use toml_file::FILE_LIMIT_BYTES;
