//! Walks the target and writes down how it is made from the base.

use std::io;

use super::base::{BaseFile, BaseFiles};
use super::compare::{Piece, compare};
use super::headers::Headers;
use crate::delta::format::{op, put_number, put_signed};
use crate::delta::machine::Machine;
use crate::delta::model::{AHEAD, BEHIND, DiffModel};
use crate::delta::range::Encoder;
use crate::delta::tar_header::{BLOCK, Template};
use crate::limits::Limits;
use crate::unpack::{Kind, TarStream};

/// The sections in the making.
pub(super) struct Writer {
    pub(super) control: Vec<u8>,
    pub(super) literals: Vec<u8>,
    pub(super) encoder: Encoder,
    model: DiffModel,
    headers: Headers,
    pub(super) differences: u64,
    /// Where the last copy ended in the open source.
    source_at: u64,
    announced: bool,
    machine: Machine,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            control: Vec::new(),
            literals: Vec::new(),
            encoder: Encoder::new(),
            model: DiffModel::new(),
            headers: Headers::new(),
            differences: 0,
            source_at: 0,
            announced: false,
            machine: Machine::Any,
        }
    }

    /// Walks the target's blocks. Whatever does not look like a tar goes out as it is, so that every
    /// byte stream can be a target.
    pub(super) fn layer(&mut self, base: &BaseFiles, tar: &[u8]) -> io::Result<()> {
        let limits = Limits::default();
        let mut members = TarStream::new(tar, &limits);
        let mut at = 0;
        while let Some(block) = tar.get(at..).and_then(|rest| rest.first_chunk()) {
            if *block == [0; BLOCK] {
                break;
            }
            let header = tar::Header::from_byte_slice(block);
            let Ok(size) = header.entry_size() else { break };
            let kind = header.entry_type();
            let extension = kind.is_gnu_longname()
                || kind.is_gnu_longlink()
                || kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions();
            if extension {
                let Some(data) = slice(tar, at + BLOCK, size) else {
                    break;
                };
                self.header(block);
                self.literal(data);
                at = self.padding(tar, at + BLOCK + data.len());
                continue;
            }
            let Ok(Some(member)) = members.next_member() else {
                break;
            };
            let Some(data) = slice(tar, at + BLOCK, member.size) else {
                break;
            };
            let end = at + BLOCK + data.len();
            let same = match member.kind {
                Kind::File if padding_is_zero(tar, end) => base.at(&member.path),
                _ => None,
            };
            let same = same.is_some_and(|file| {
                *file.content == data && leads_to(Template(*block).name(), &file.path)
            });
            if same && self.headers.same_file(block, &mut self.control) {
                at = end.next_multiple_of(BLOCK);
                continue;
            }
            self.header(block);
            if !data.is_empty() {
                self.content(base, &member.path, data)?;
            }
            at = self.padding(tar, end);
        }
        let rest = &tar[at.min(tar.len())..];
        if rest.iter().all(|&byte| byte == 0) {
            self.control.push(op::ZEROS);
            put_number(&mut self.control, rest.len() as u64);
        } else {
            self.literal(rest);
        }
        Ok(())
    }

    fn header(&mut self, block: &[u8; BLOCK]) {
        if !self.headers.differing(block, &mut self.control) {
            self.control.push(op::LITERAL_HEADER);
            self.literals.extend_from_slice(block);
            self.headers.set(Template(*block));
        }
    }

    /// Goes on to the next block; returns where it begins.
    fn padding(&mut self, tar: &[u8], end: usize) -> usize {
        let next = end.next_multiple_of(BLOCK);
        if next == end {
            return next;
        }
        if padding_is_zero(tar, end) {
            self.control.push(op::PAD);
        } else {
            self.literal(&tar[end..next.min(tar.len())]);
        }
        next
    }

    fn literal(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.control.push(op::LITERAL);
            put_number(&mut self.control, bytes.len() as u64);
            self.literals.extend_from_slice(bytes);
        }
    }

    fn content(&mut self, base: &BaseFiles, path: &[u8], new: &[u8]) -> io::Result<()> {
        let Some(source) = base.source_for(path, new) else {
            self.literal(new);
            return Ok(());
        };
        self.open(source, new);
        if *source.content == new {
            self.copy(0, new.len());
            return Ok(());
        }
        for piece in compare(&source.content, new, self.machine) {
            match piece {
                Piece::Copy { old, new } => self.copy(old, new.len()),
                Piece::Add { old, new: range } => self.add(&source.content, old, new, range)?,
                Piece::Literal { new: range } => self.literal(&new[range]),
            }
        }
        Ok(())
    }

    fn open(&mut self, source: &BaseFile, new: &[u8]) {
        self.machine = Machine::of_file(new);
        if leads_to(self.headers.name(), &source.path) {
            self.control.extend([op::SOURCE_SAME, self.machine as u8]);
        } else {
            self.control.extend([op::SOURCE, self.machine as u8]);
            put_number(&mut self.control, source.path.len() as u64);
            self.control.extend_from_slice(&source.path);
        }
        self.source_at = 0;
        self.announced = false;
    }

    fn seek(&mut self, operation: u8, old: usize, length: usize) {
        self.control.push(operation);
        put_signed(&mut self.control, old as i64 - self.source_at as i64);
        put_number(&mut self.control, length as u64);
        self.source_at = (old + length) as u64;
    }

    fn copy(&mut self, old: usize, length: usize) {
        self.seek(op::COPY, old, length);
    }

    fn add(
        &mut self,
        source: &[u8],
        old: usize,
        content: &[u8],
        new: std::ops::Range<usize>,
    ) -> io::Result<()> {
        self.seek(op::ADD, old, new.len());
        if !std::mem::replace(&mut self.announced, true) {
            self.model.new_source(self.machine);
        }
        self.model.new_range(old as u64, new.start as u64);
        let mut window = vec![0; BEHIND + new.len() + AHEAD];
        window[BEHIND..BEHIND + new.len()].copy_from_slice(&source[old..old + new.len()]);
        self.differences += new.len() as u64;
        for (index, &byte) in content[new].iter().enumerate() {
            let position = (old + index) as u64;
            self.model
                .code(&mut self.encoder, &window, BEHIND + index, position, byte)?;
        }
        Ok(())
    }
}

/// Whether a header's name leads to this base path.
fn leads_to(name: &[u8], path: &[u8]) -> bool {
    let parts = name
        .split(|&byte| byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."));
    parts.eq(path.split(|&byte| byte == b'/'))
}

fn slice(tar: &[u8], start: usize, size: u64) -> Option<&[u8]> {
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    tar.get(start..end)
}

fn padding_is_zero(tar: &[u8], end: usize) -> bool {
    tar.get(end..end.next_multiple_of(BLOCK))
        .is_some_and(|pad| pad.iter().all(|&byte| byte == 0))
}
