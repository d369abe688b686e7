//! Walks the target and writes down how it is made from the base.

use std::io;

use super::ahead::{Recipe, Recipes};
use super::base::BaseFiles;
use super::headers::Headers;
use super::lzma;
use super::part::Part;
use crate::delta::format::{CONTROL_DICT, Version, op, put_number};
use crate::delta::model::{AHEAD, BEHIND, DiffModel, UNIT, unit_end};
use crate::delta::numbers::Numbers;
use crate::delta::packed;
use crate::delta::pieces::Moves;
use crate::delta::range::Encoder;
use crate::delta::tar_header::{BLOCK, Template};
use crate::limits::Limits;
use crate::unpack::{Kind, TarStream};

/// The sections in the making.
pub(super) struct Writer {
    pub(super) control: Vec<u8>,
    pub(super) pieces: Encoder,
    pub(super) contents: Encoder,
    numbers: Numbers,
    model: Box<DiffModel>,
    headers: Headers,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            control: Vec::new(),
            pieces: Encoder::new(),
            contents: Encoder::new(),
            numbers: Numbers::new(Version::Four),
            model: Box::new(DiffModel::new(Version::Four)),
            headers: Headers::new(),
        }
    }

    /// Walks the target's blocks. Whatever does not look like a tar goes out as it is, so that every
    /// byte stream can be a target.
    pub(super) fn layer(
        &mut self,
        base: &BaseFiles,
        recipes: &Recipes,
        tar: &[u8],
    ) -> io::Result<()> {
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
                self.header(block)?;
                self.literal(data)?;
                at = self.padding(tar, at + BLOCK + data.len())?;
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
            self.header(block)?;
            if !data.is_empty() {
                match recipes.at(at + BLOCK) {
                    Some(recipe) => self.content(&recipe, data)?,
                    None => self.literal(data)?,
                }
            }
            at = self.padding(tar, end)?;
        }
        let rest = &tar[at.min(tar.len())..];
        if rest.iter().all(|&byte| byte == 0) {
            self.control.push(op::ZEROS);
            put_number(&mut self.control, rest.len() as u64);
        } else {
            self.literal(rest)?;
        }
        Ok(())
    }

    fn header(&mut self, block: &[u8; BLOCK]) -> io::Result<()> {
        if !self.headers.differing(block, &mut self.control) {
            self.control.push(op::LITERAL_HEADER);
            self.bytes(block)?;
            self.headers.set(Template(*block));
        }
        Ok(())
    }

    /// Goes on to the next block; returns where it begins.
    fn padding(&mut self, tar: &[u8], end: usize) -> io::Result<usize> {
        let next = end.next_multiple_of(BLOCK);
        if next == end {
            return Ok(next);
        }
        if padding_is_zero(tar, end) {
            self.control.push(op::PAD);
        } else {
            self.literal(&tar[end..next.min(tar.len())])?;
        }
        Ok(next)
    }

    fn literal(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.control.push(op::LITERAL);
        put_number(&mut self.control, bytes.len() as u64);
        self.bytes(bytes)
    }

    /// Bytes of which nothing is known.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        for (index, &byte) in bytes.iter().enumerate() {
            self.model
                .literal(&mut self.contents, [0; 2], index as u32, false, byte)?;
        }
        Ok(())
    }

    fn content(&mut self, recipe: &Recipe, new: &[u8]) -> io::Result<()> {
        if let (Some(packing), [part]) = (&recipe.packing, &recipe.parts[..])
            && let (Some(old), Some(text)) = (packed::text(&part.source.content), packed::text(new))
        {
            self.control.push(op::PACKED);
            self.control.push(packing.preset.byte());
            put_number(&mut self.control, packing.head.len() as u64);
            self.control.extend_from_slice(&packing.head);
            return self.part(part, &old, &text);
        }
        self.parts(&recipe.parts, new)
    }

    /// One behind the other.
    fn parts(&mut self, parts: &[Part], new: &[u8]) -> io::Result<()> {
        let mut at = 0;
        for part in parts {
            let new = &new[at..at + part.length()];
            at += new.len();
            match part.pieces.iter().all(|piece| piece.length == 0) {
                true => self.literal(new)?,
                false => self.part(part, &part.source.content, new)?,
            }
        }
        Ok(())
    }

    fn part(&mut self, part: &Part, old: &[u8], new: &[u8]) -> io::Result<()> {
        let Part {
            source,
            layouts,
            pieces,
        } = part;
        if leads_to(self.headers.name(), &source.path) {
            self.control.push(op::FROM_SAME);
        } else {
            self.control.push(op::FROM);
            put_number(&mut self.control, source.path.len() as u64);
            self.control.extend_from_slice(&source.path);
        }
        for layout in layouts {
            layout.put(&mut self.control);
        }
        put_number(&mut self.control, pieces.len() as u64);
        let [before, after] = layouts.clone();
        self.model.new_source(before, after);
        self.numbers.new_source();
        let moves = Moves::of(pieces.iter().map(|&piece| Ok::<_, io::Error>(piece)))?;
        self.model.moves(moves);
        let (mut at, mut done) = (0usize, 0usize);
        for &piece in pieces {
            self.numbers
                .piece(&mut self.pieces, at as u32, done as u32, piece)?;
            let (literal, from) = (piece.literal as usize, piece.old as usize);
            self.model.piece(&piece, (at + literal) as u32);
            let byte = |at: Option<usize>| at.and_then(|at| old.get(at)).copied().unwrap_or(0);
            let mut index = 0;
            while index < literal {
                let word = self.model.word_ahead((at + index) as u32, literal - index);
                let next = index + if word { 4 } else { 1 };
                for index in (index..next).rev() {
                    let behind = (from + index).checked_sub(literal);
                    let guesses = [
                        byte(Some(done + index)),
                        byte(behind.filter(|_| piece.length > 0)),
                    ];
                    let (position, new) = ((at + index) as u32, new[at + index]);
                    self.model
                        .literal(&mut self.contents, guesses, position, word, new)?;
                }
                index = next;
            }
            at += literal;
            let length = piece.length as usize;
            if !piece.exact {
                self.add(&old[from..from + length], from, &new[at..at + length], at)?;
            }
            at += length;
            done = from + length;
        }
        Ok(())
    }

    /// Bytes with differences.
    fn add(&mut self, old: &[u8], from: usize, new: &[u8], at: usize) -> io::Result<()> {
        self.model.new_range(from as u32, at as u32);
        let mut window = vec![0; BEHIND + old.len() + AHEAD];
        window[BEHIND..BEHIND + old.len()].copy_from_slice(old);
        let mut index = 0;
        while index < new.len() {
            let end = index + unit_end((from + index) as u64, (new.len() - index) as u64);
            let mut unit = [0; UNIT];
            let unit = &mut unit[..end - index];
            unit.copy_from_slice(&new[index..end]);
            let position = (from + index) as u32;
            self.model
                .unit(&mut self.contents, &window[index..], position, unit)?;
            debug_assert!(*unit == new[index..end]);
            index = end;
        }
        Ok(())
    }
}

/// About how many bytes of a delta a content takes that is made of these parts; of none, as literals.
pub(super) fn cost(parts: &[Part<'_>], new: &[u8]) -> usize {
    let mut writer = Writer::new();
    let written = match parts {
        [] => writer.literal(new),
        parts => writer.parts(parts, new),
    };
    let control = written.and_then(|()| lzma(&writer.control, CONTROL_DICT));
    // Into memory: it does not fail.
    let control = control.map_or(usize::MAX / 2, |control| control.len());
    control + writer.pieces.finish().len() + writer.contents.finish().len()
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
