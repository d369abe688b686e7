//! The base layer's files, of which one is open at a time.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{Mode, OFlags, openat};

use crate::beneath::{Walker, components};
use crate::delta::DeltaError;
use crate::delta::packed::MOST_TEXT;
use crate::limits::Limits;

/// An open base file.
pub(in crate::delta) struct Source {
    file: File,
    /// Of a gzip file, when that is what is read.
    text: Option<Vec<u8>>,
    path: String,
    /// Where the next read begins.
    pub(in crate::delta) at: u64,
}

impl Source {
    /// As many bytes as there are from `at` on; zeros for what lies outside the file.
    pub(super) fn peek(&self, at: i64, buffer: &mut [u8]) -> Result<(), DeltaError> {
        buffer.fill(0);
        let skip = at.min(0).unsigned_abs().min(buffer.len() as u64) as usize;
        let mut rest = &mut buffer[skip..];
        let mut at = at.max(0) as u64;
        while !rest.is_empty() {
            match self.read_at(rest, at)? {
                0 => break,
                read => {
                    at += read as u64;
                    rest = &mut rest[read..];
                }
            }
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> DeltaError {
        DeltaError::Source {
            path: self.path.clone(),
            source,
        }
    }

    pub(in crate::delta) fn read(&mut self, buffer: &mut [u8]) -> Result<(), DeltaError> {
        match self.text {
            None => {
                let read = self.file.read_exact_at(buffer, self.at);
                read.map_err(|error| self.failed(error))?;
            }
            Some(_) => {
                if self.read_at(buffer, self.at)? < buffer.len() {
                    return Err(self.failed(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
        self.at += buffer.len() as u64;
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<usize, DeltaError> {
        let Some(text) = &self.text else {
            let read = self.file.read_at(buffer, at);
            return read.map_err(|error| self.failed(error));
        };
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(text.len());
        let read = buffer.len().min(text.len() - from);
        buffer[..read].copy_from_slice(&text[from..from + read]);
        Ok(read)
    }

    /// Reads the text of the gzip file from here on; returns its bytes.
    pub(super) fn unpack(&mut self) -> Result<u64, DeltaError> {
        // The file ends with the length, which saves memory when it is true.
        let mut length = [0; 4];
        let facts = self.file.metadata().map_err(|error| self.failed(error))?;
        let end = facts.size().saturating_sub(4);
        let read = self.file.read_exact_at(&mut length, end);
        read.map_err(|error| self.failed(error))?;
        let most = u64::from(u32::from_le_bytes(length)).min(MOST_TEXT) as usize;
        // One more byte, by which the reader sees the end.
        let mut text = Vec::with_capacity(most + 1);
        let unpacked = flate2::read::GzDecoder::new(&self.file);
        let read = unpacked.take(MOST_TEXT + 1).read_to_end(&mut text);
        read.map_err(|error| self.failed(error))?;
        if text.len() as u64 > MOST_TEXT {
            return Err(DeltaError::Malformed("the text of a gzip file is too long"));
        }
        let length = text.len() as u64;
        self.text = Some(text);
        Ok(length)
    }
}

/// The base layer's unpacked tree, and the file of it that is open.
pub(in crate::delta) struct Sources {
    base: Walker,
    limits: Limits,
    open: Option<Source>,
    /// Opened so far.
    count: u64,
}

impl Sources {
    pub(in crate::delta) fn new(base: OwnedFd, limits: &Limits) -> Self {
        Self {
            base: Walker::reader(base),
            limits: *limits,
            open: None,
            count: 0,
        }
    }

    /// Opens a base file in place of the last one, at its start, and returns its size.
    pub(in crate::delta) fn open(&mut self, path: &[u8]) -> Result<u64, DeltaError> {
        self.count += 1;
        if self.count > self.limits.entries {
            return Err(DeltaError::Malformed("too many sources"));
        }
        let shown = String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned();
        let parts = components(path, &self.limits).map_err(DeltaError::SourcePath)?;
        let (name, folder) = parts
            .split_last()
            .ok_or(DeltaError::Malformed("a source without a name"))?;
        // Not blocking: opening a pipe or a device of the tree must not hang before it is refused.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = self
            .base
            .enter(folder)
            .and_then(|fd| openat(fd, *name, flags, Mode::empty()));
        let failed = |source: io::Error| DeltaError::Source {
            path: shown.clone(),
            source,
        };
        let file = File::from(opened.map_err(|errno| failed(errno.into()))?);
        let facts = file.metadata().map_err(failed)?;
        if !facts.is_file() {
            return Err(failed(io::Error::other("not a regular file")));
        }
        self.open = Some(Source {
            file,
            text: None,
            path: shown,
            at: 0,
        });
        Ok(facts.size())
    }

    /// The file that is open.
    pub(in crate::delta) fn current(&mut self) -> Result<&mut Source, DeltaError> {
        self.open
            .as_mut()
            .ok_or(DeltaError::Malformed("no source is open"))
    }
}
