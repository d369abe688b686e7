//! The base layer's files, of which one is open at a time.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{Mode, OFlags, openat};

use crate::beneath::{Walker, components};
use crate::delta::DeltaError;
use crate::limits::Limits;

/// An open base file.
pub(in crate::delta) struct Source {
    file: File,
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
            match self
                .file
                .read_at(rest, at)
                .map_err(|error| self.failed(error))?
            {
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
        let read = self.file.read_exact_at(buffer, self.at);
        read.map_err(|error| self.failed(error))?;
        self.at += buffer.len() as u64;
        Ok(())
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
