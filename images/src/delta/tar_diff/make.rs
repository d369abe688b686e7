//! A tar-diff from two layers, by the same comparison as the project's own deltas.

use std::cell::Cell;
use std::io::{Read, Write};

use super::{MAGIC, op};
use crate::delta::format::put_number;
use crate::delta::layout::Layout;
use crate::delta::make::MakeError;
use crate::delta::make::base::{BaseFile, BaseFiles};
use crate::delta::make::compare::compare;
use crate::limits::Limits;
use crate::unpack::{Kind, TarStream};

/// zstd's level: the operations' data are differences, mostly zeros, and new bytes.
const LEVEL: i32 = 19;

/// Writes the tar-diff that makes `target` from the tree of `base`, both uncompressed tar streams.
pub fn make(base: impl Read, mut target: impl Read, mut out: impl Write) -> Result<(), MakeError> {
    let (files, _) = BaseFiles::read(base)?;
    let mut tar = Vec::new();
    target.read_to_end(&mut tar)?;
    out.write_all(MAGIC)?;
    let mut writer = Writer {
        out: zstd::stream::write::Encoder::new(out, LEVEL)?,
    };
    // Within what any decoder must take (RFC 8878 3.1.1.1.2).
    writer.out.window_log(23)?;
    let mut done = 0;
    for (start, path, size) in contents(&tar) {
        let new = &tar[start..start + size];
        let fits = |bytes: &[u8]| i32::try_from(bytes.len()).is_ok();
        let source = files.source_for(&path, new);
        let Some(source) = source.filter(|source| fits(&source.content) && fits(new)) else {
            continue;
        };
        writer.data(&tar[done..start])?;
        writer.content(source, new)?;
        done = start + size;
    }
    writer.data(&tar[done..])?;
    writer.out.finish()?.flush()?;
    Ok(())
}

/// Where the regular files' contents are in a tar; up to where it stops to be one.
fn contents(tar: &[u8]) -> Vec<(usize, Vec<u8>, usize)> {
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
        let size = member.size as usize;
        if matches!(member.kind, Kind::File) && size > 0 && start + size <= tar.len() {
            found.push((start, member.path.clone(), size));
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

struct Writer<W: Write> {
    out: zstd::stream::write::Encoder<'static, W>,
}

impl<W: Write> Writer<W> {
    fn operation(&mut self, operation: u8, size: usize, data: &[u8]) -> std::io::Result<()> {
        let mut head = vec![operation];
        put_number(&mut head, size as u64);
        self.out.write_all(&head)?;
        self.out.write_all(data)
    }

    fn data(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match bytes.is_empty() {
            true => Ok(()),
            false => self.operation(op::DATA, bytes.len(), bytes),
        }
    }

    fn content(&mut self, source: &BaseFile, new: &[u8]) -> std::io::Result<()> {
        let old = &source.content[..];
        self.operation(op::OPEN, source.path.len(), &source.path)?;
        if old == new {
            return self.operation(op::COPY, new.len(), &[]);
        }
        let plain = Layout::default();
        let (mut at, mut place) = (0, 0);
        for piece in compare(old, new, [&plain, &plain]) {
            let literal = piece.literal as usize;
            self.data(&new[at..at + literal])?;
            at += literal;
            let (from, length) = (piece.old as usize, piece.length as usize);
            if length == 0 {
                continue;
            }
            if from != place {
                self.operation(op::SEEK, from, &[])?;
            }
            let (before, after) = (&old[from..from + length], &new[at..at + length]);
            if piece.exact {
                self.operation(op::COPY, length, &[])?;
            } else {
                let differences = after
                    .iter()
                    .zip(before)
                    .map(|(new, old)| new.wrapping_sub(*old));
                let differences: Vec<u8> = differences.collect();
                self.operation(op::ADD_DATA, length, &differences)?;
            }
            at += length;
            place = from + length;
        }
        Ok(())
    }
}
