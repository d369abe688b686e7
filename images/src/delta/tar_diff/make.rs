//! A tar-diff from two layers, by the same comparison as the project's own deltas.

use std::io::{Read, Write};

use super::{MAGIC, op};
use crate::delta::format::put_number;
use crate::delta::layout::Layout;
use crate::delta::make::MakeError;
use crate::delta::make::ahead::{Ways, with_recipes};
use crate::delta::make::base::BaseFiles;
use crate::delta::make::members::{Content, contents};
use crate::delta::make::part::Part;

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
    let ways = Ways {
        layout: |_| Layout::default(),
        texts: false,
        cost: None,
    };
    with_recipes(&files, &tar, ways, |recipes| -> std::io::Result<()> {
        for Content { start, size, .. } in contents(&tar) {
            let Some(recipe) = recipes.at(start) else {
                continue;
            };
            writer.data(&tar[done..start])?;
            let mut at = start;
            for part in &recipe.parts {
                writer.content(part, &tar[at..at + part.length()])?;
                at += part.length();
            }
            done = start + size;
        }
        Ok(())
    })?;
    writer.data(&tar[done..])?;
    writer.out.finish()?.flush()?;
    Ok(())
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

    fn content(&mut self, part: &Part, new: &[u8]) -> std::io::Result<()> {
        let old = &part.source.content[..];
        let path = &part.source.path;
        self.operation(op::OPEN, path.len(), path)?;
        let (mut at, mut place) = (0, 0);
        for piece in &part.pieces {
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
