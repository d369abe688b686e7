//! An app's log on disk: lines in pieces, spread over files of a size.

use super::hand_over::Job;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of lines that are written together, beside the last of them.
const PIECE_BYTES: usize = 64 * 1024;

/// How much is kept: `files` files of `file_bytes` bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Rotation {
    /// A file that has grown past it is put aside.
    pub file_bytes: u64,
    /// The one that is written and those before it.
    pub files: u32,
}

/// One app's log.
pub(super) struct LogFile {
    path: PathBuf,
    group: Option<u32>,
    rotation: Rotation,
    /// `None` until it could be opened: each piece tries.
    file: Option<File>,
    bytes: u64,
    /// Lines to be written.
    piece: Vec<u8>,
}

impl LogFile {
    pub(super) fn of(job: &Job) -> Self {
        Self {
            path: job.folder.join("json.log"),
            group: job.group,
            rotation: job.rotation,
            file: None,
            bytes: 0,
            piece: Vec::new(),
        }
    }

    pub(super) fn open(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = Self::open_file(&self.path, self.group)?;
                self.bytes = file.metadata()?.len();
                file
            }
        };
        Ok(self.file.insert(file))
    }

    fn open_file(path: &Path, group: Option<u32>) -> io::Result<File> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        std::os::unix::fs::fchown(&file, None, group)?;
        Ok(file)
    }

    pub(super) fn put(&mut self, line: &[u8]) {
        if self.piece.is_empty() {
            // Its size counts from the first line on.
            let _ = self.open();
        }
        let after = self.bytes + (self.piece.len() + line.len()) as u64;
        if after > self.rotation.file_bytes {
            self.write_piece();
            if self.bytes > 0 {
                // Where rotation fails the old file goes on: better too long than lost.
                let _ = self.rotate();
            }
        }
        self.piece.extend_from_slice(line);
        if self.piece.len() >= PIECE_BYTES {
            self.write_piece();
        }
    }

    pub(super) fn write_piece(&mut self) {
        // Nothing is kept for an app that says nothing.
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() {
            return;
        }
        // A full disk loses lines, never the app: it must not block on its own output.
        if let Ok(file) = self.open()
            && file.write_all(&piece).is_ok()
        {
            self.bytes += piece.len() as u64;
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let name = |number: u32| {
            let mut name = self.path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.rotation.files <= 1 {
            self.open()?.set_len(0)?;
            self.bytes = 0;
            return Ok(());
        }
        for number in (1..self.rotation.files - 1).rev() {
            // One that is not there yet.
            let _ = fs::rename(name(number), name(number + 1));
        }
        fs::rename(&self.path, name(1))?;
        self.file = Some(Self::open_file(&self.path, self.group)?);
        self.bytes = 0;
        Ok(())
    }
}
