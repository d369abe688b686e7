//! `board`: what this board is and what its kernel lacks. Needs no daemon, so that it can be asked
//! before anything is set up.

mod check;
mod show;

pub use check::check;
pub use show::show;

use coracle_board_support::config::Config;
use coracle_board_support::detect::Detected;
use coracle_board_support::storage;
use std::path::Path;

/// JSON Schema of board profiles; a test holds it and the parser together.
pub const SCHEMA: &str = include_str!("schema.json");

/// What the kernel shows, with the size and the disk of the state folder's file system, or those of its parent
/// while there is no such folder yet.
fn detected(config: &Config) -> Detected {
    let folder = state_folder(config);
    let detected = Detected::read(Path::new("/")).with_state_disk(storage::under(folder));
    match rustix::fs::statvfs(folder).ok() {
        Some(fs) => detected.with_disk_bytes(fs.f_blocks.saturating_mul(fs.f_frsize)),
        None => detected,
    }
}

/// The state folder, or the nearest one above it while it is not there yet.
fn state_folder(config: &Config) -> &Path {
    let mut folders = config.state_dir.ancestors();
    folders
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests;
