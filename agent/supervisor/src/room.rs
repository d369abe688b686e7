//! Room on the disk that nothing else gets: what has to be written when the disk is full takes it, a piece at a time, and only
//! for that. On a disk that has some again it is made anew.

use crate::disk::{self, About, DiskError};
use coracle_board_support::config::Config;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Bytes that are given at a time: more than the counters and the note of a reset take on any file system.
const PIECE: u64 = 16 << 10;
/// Somebody else may be quicker with what was given.
const PIECES: u64 = 4;

fn file(config: &Config) -> PathBuf {
    config.state_dir.join("room")
}

/// Makes it, unless it is there. A disk that is full already has none.
pub fn keep(config: &Config) {
    if let Err(error) = made(config) {
        tracing::warn!(%error, "there is no room that is kept for a reset on a full disk");
    }
}

fn made(config: &Config) -> Result<(), DiskError> {
    match is_whole(config) {
        true => Ok(()),
        false => disk::write_whole(&file(config), &bytes(PIECE * PIECES), 0o600),
    }
}

/// Whether nothing of it was given, and it was there.
pub fn is_whole(config: &Config) -> bool {
    let all = PIECE * PIECES;
    let found = file(config).symlink_metadata();
    found.is_ok_and(|found| found.is_file() && found.len() == all && found.blocks() * 512 >= all)
}

/// No two pieces alike, and nothing that a file system makes smaller.
fn bytes(count: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..count / 8).flat_map(next).collect()
}

/// Writes by `write`; as long as there is no space for it, it is given what was kept.
pub fn with<T, E>(
    config: &Config,
    is_full: impl Fn(&E) -> bool,
    mut write: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    loop {
        match write() {
            Err(error) if is_full(&error) && give(config) => {}
            other => return other,
        }
    }
}

/// Gives a piece; `false`: there is none.
fn give(config: &Config) -> bool {
    let path = file(config);
    let given = || -> Result<bool, DiskError> {
        let left = match path.symlink_metadata() {
            Ok(found) if found.is_file() => found.len().saturating_sub(PIECE),
            _ => return Ok(false),
        };
        // The last one with its name: files may be what is short.
        if left == 0 {
            disk::remove(&path)?;
        } else {
            let kept = File::options()
                .write(true)
                .open(&path)
                .about("open", &path)?;
            kept.set_len(left)
                .and_then(|()| kept.sync_all())
                .about("shorten", &path)?;
        }
        Ok(true)
    };
    let outcome = given();
    tracing::warn!(
        ?outcome,
        "the disk is full: of the room that is kept a piece is given"
    );
    outcome.unwrap_or(false)
}
