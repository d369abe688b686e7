//! Where the contents of regular files are in a tar.

use std::cell::Cell;
use std::io::Read;

use crate::limits::Limits;
use crate::unpack::{Kind, TarStream};

/// A regular file that is not empty.
pub(in crate::delta) struct Content {
    pub(in crate::delta) path: Vec<u8>,
    /// Of its first byte.
    pub(in crate::delta) start: usize,
    pub(in crate::delta) size: usize,
}

/// In order; up to where the tar stops to be one.
pub(in crate::delta) fn contents(tar: &[u8]) -> Vec<Content> {
    let limits = Limits::default();
    let read = Cell::new(0);
    let counted = Counted {
        rest: tar,
        read: &read,
    };
    let mut members = TarStream::new(counted, &limits);
    let mut found = Vec::new();
    while let Ok(Some(member)) = members.next_member() {
        let start = read.get();
        let size = usize::try_from(member.size).unwrap_or(usize::MAX);
        let inside = start.checked_add(size).is_some_and(|end| end <= tar.len());
        if matches!(member.kind, Kind::File) && size > 0 && inside {
            found.push(Content {
                path: member.path.clone(),
                start,
                size,
            });
        }
    }
    found
}

/// A reader that knows where it is.
struct Counted<'a> {
    rest: &'a [u8],
    read: &'a Cell<usize>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.rest.read(buffer)?;
        self.read.set(self.read.get() + read);
        Ok(read)
    }
}
