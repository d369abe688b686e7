//! A delta as a stream of the target's tar bytes.
//!
//! [`sections`] reads the blob, [`source`] the base layer's files, [`header`] what changed in a tar
//! header, [`member`] makes contents; here the operations are carried out.

mod header;
mod member;
mod sections;
pub(super) mod source;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use super::DeltaError;
use super::deflate::Preset;
use super::format::{DeltaHeader, field, op};
use super::model::DiffModel;
use super::numbers::Numbers;
use super::packed::{MOST_HEAD, MOST_TEXT, Packer};
use super::tar_header::{self as tar, BLOCK, Template};
use crate::limits::Limits;

use header::unfit;
use member::Member;
use sections::Sections;
use source::Sources;

/// Bytes made at once.
const CHUNK: usize = 8 << 10;

/// What is going on between two reads.
enum Doing {
    Nothing,
    /// A whole base file, then zeros up to the next block.
    WholeFile(u64),
    Member(Member),
    Literal {
        left: u64,
        /// Bytes that were made of it.
        done: u32,
    },
    Zeros(u64),
    Ended,
}

/// Reads a delta; [`Read`] gives the target layer's tar stream.
///
/// Errors inside the stream are [`DeltaError`]s in an [`io::Error`]. The stream ends after exactly
/// [`DeltaHeader::target_size`] bytes; whether they are right, their digest says.
pub struct DeltaReader {
    sections: Sections,
    sources: Sources,
    limits: Limits,
    /// Its tables take memory when they are used.
    model: Box<DiffModel>,
    numbers: Numbers,
    template: Template,
    doing: Doing,
    /// What the content is packed with that is being made, and its text's next bytes.
    packer: Option<Packer>,
    text: Vec<u8>,
    /// Bytes of old texts so far.
    unpacked: u64,
    produced: u64,
    out: Vec<u8>,
    taken: usize,
}

impl DeltaReader {
    /// Reads the header and sets up the sections. `base` is the base layer's unpacked tree.
    pub fn open(blob: File, base: OwnedFd, limits: &Limits) -> Result<Self, DeltaError> {
        let sections = Sections::open(blob, limits)?;
        let version = sections.header.version;
        Ok(Self {
            sections,
            sources: Sources::new(base, limits),
            limits: *limits,
            model: Box::new(DiffModel::new(version)),
            numbers: Numbers::new(version),
            template: Template::new(),
            doing: Doing::Nothing,
            packer: None,
            text: Vec::new(),
            unpacked: 0,
            produced: 0,
            out: Vec::with_capacity(CHUNK + BLOCK),
            taken: 0,
        })
    }

    /// What the delta says about itself; nothing of it has been checked.
    pub fn header(&self) -> &DeltaHeader {
        &self.sections.header
    }

    /// Makes the next bytes in `out`; it stays empty at the end only.
    fn fill(&mut self) -> Result<(), DeltaError> {
        self.out.clear();
        self.taken = 0;
        while self.out.is_empty() {
            match std::mem::replace(&mut self.doing, Doing::Nothing) {
                Doing::Nothing => self.next_operation()?,
                Doing::WholeFile(0) => self.pad(),
                Doing::WholeFile(left) => {
                    let now = self.copy(left)?;
                    self.doing = Doing::WholeFile(left - now);
                }
                Doing::Member(mut member) => {
                    let goes_on = member.fill(
                        CHUNK,
                        self.sources.current()?,
                        &mut self.sections,
                        &mut self.numbers,
                        &mut self.model,
                        &mut self.out,
                    )?;
                    if goes_on {
                        self.doing = Doing::Member(member);
                    }
                    self.pack(!goes_on);
                }
                Doing::Literal { left, done } => {
                    let now = left.min(CHUNK as u64);
                    self.bytes(now as usize, done)?;
                    let done = done.wrapping_add(now as u32);
                    self.doing = Doing::Literal {
                        left: left - now,
                        done,
                    };
                }
                Doing::Zeros(left) => {
                    let now = left.min(CHUNK as u64);
                    self.out.resize(now as usize, 0);
                    self.doing = Doing::Zeros(left - now);
                }
                Doing::Ended => {
                    self.doing = Doing::Ended;
                    return Ok(());
                }
            }
            if let Doing::Literal { left: 0, .. } | Doing::Zeros(0) = self.doing {
                self.doing = Doing::Nothing;
            }
        }
        self.produced += self.out.len() as u64;
        if self.produced > self.sections.header.target_size {
            return Err(DeltaError::Malformed("it makes more than it announced"));
        }
        Ok(())
    }

    fn next_operation(&mut self) -> Result<(), DeltaError> {
        match self.sections.control.byte()? {
            op::END => {
                if self.produced != self.sections.header.target_size {
                    return Err(DeltaError::Malformed("it makes less than it announced"));
                }
                self.doing = Doing::Ended;
            }
            op::HEADER => {
                header::update(&mut self.template, &mut self.sections.control, field::ALL)?;
                self.put_header()?;
            }
            op::SAME_FILE => self.same_file()?,
            from @ (op::FROM_SAME | op::FROM) => {
                self.open_source(from)?;
                let room = self.sections.header.target_size - self.produced;
                self.member(room)?;
            }
            op::PACKED => self.packed()?,
            op::LITERAL => {
                let left = self.sections.control.number()?;
                self.doing = Doing::Literal { left, done: 0 };
            }
            op::PAD => self.pad(),
            op::ZEROS => self.doing = Doing::Zeros(self.sections.control.number()?),
            op::LITERAL_HEADER => {
                self.bytes(BLOCK, 0)?;
                self.template.0.copy_from_slice(&self.out);
            }
            _ => return Err(DeltaError::Malformed("unknown operation")),
        }
        Ok(())
    }

    /// Opens what an operation names.
    fn open_source(&mut self, operation: u8) -> Result<(), DeltaError> {
        if operation == op::FROM_SAME {
            self.sources.open(self.template.name())?;
            return Ok(());
        }
        let control = &mut self.sections.control;
        let length = control.number()?;
        let path = control.text(length, self.limits.path_bytes)?;
        self.sources.open(&path)?;
        Ok(())
    }

    /// A gzip file begins, whose text is made by pieces.
    fn packed(&mut self) -> Result<(), DeltaError> {
        let control = &mut self.sections.control;
        let preset = Preset::from_byte(control.byte()?);
        let preset = preset.ok_or(DeltaError::Malformed("unknown way of packing"))?;
        let length = control.number()?;
        let head = control.text(length, MOST_HEAD as usize)?;
        match control.byte()? {
            from @ (op::FROM_SAME | op::FROM) => self.open_source(from)?,
            _ => return Err(DeltaError::Malformed("nothing that can be packed")),
        }
        self.unpacked += self.sources.current()?.unpack()?;
        if self.unpacked > self.limits.unpacked_bytes {
            return Err(DeltaError::Malformed("too many texts of gzip files"));
        }
        self.out.extend_from_slice(&head);
        self.packer = Some(Packer::new(preset));
        self.member(MOST_TEXT)
    }

    /// Packs what was made, if that is what is being made; `end`: it was the last.
    fn pack(&mut self, end: bool) {
        let Some(packer) = &mut self.packer else {
            return;
        };
        std::mem::swap(&mut self.out, &mut self.text);
        self.out.clear();
        packer.push(&self.text, &mut self.out);
        self.text.clear();
        if end && let Some(packer) = self.packer.take() {
            packer.finish(&mut self.out);
        }
    }

    /// A content by pieces begins; the source is open. It makes at most `room` bytes.
    fn member(&mut self, room: u64) -> Result<(), DeltaError> {
        let old = self.sections.control.layout()?;
        let new = self.sections.control.layout()?;
        let pieces = self.sections.control.number()?;
        self.model.new_source(old, new);
        let (sections, numbers) = (&self.sections, &mut self.numbers);
        let member = Member::begin(pieces, room, sections, numbers, &mut self.model)?;
        self.doing = Doing::Member(member);
        Ok(())
    }

    /// Puts out the template, whose fields are up to date.
    fn put_header(&mut self) -> Result<(), DeltaError> {
        self.template.set_checksum().map_err(unfit)?;
        self.out.extend_from_slice(&self.template.0);
        Ok(())
    }

    /// The size of a file that stayed the same is its size in the base, once its name is known.
    fn same_file(&mut self) -> Result<(), DeltaError> {
        let known = field::ALL & !field::SIZE;
        header::update(&mut self.template, &mut self.sections.control, known)?;
        let size = self.sources.open(self.template.name())?;
        self.template.set_number(tar::SIZE, size).map_err(unfit)?;
        self.put_header()?;
        let padded = size.next_multiple_of(BLOCK as u64);
        if padded <= CHUNK as u64 {
            // Small files are most files: header, content and padding at once.
            let start = self.out.len();
            self.out.resize(start + padded as usize, 0);
            let content = &mut self.out[start..start + size as usize];
            return self.sources.current()?.read(content);
        }
        self.doing = Doing::WholeFile(size);
        Ok(())
    }

    /// Copies some of what is left, and says how much.
    fn copy(&mut self, left: u64) -> Result<u64, DeltaError> {
        let now = left.min(CHUNK as u64);
        self.out.resize(now as usize, 0);
        self.sources.current()?.read(&mut self.out)?;
        Ok(now)
    }

    fn pad(&mut self) {
        self.doing = Doing::Zeros(self.produced.wrapping_neg() % BLOCK as u64);
    }

    /// Bytes that no source has, of which `done` were there before.
    fn bytes(&mut self, now: usize, done: u32) -> Result<(), DeltaError> {
        for index in 0..now {
            let position = done.wrapping_add(index as u32);
            let coder = &mut self.sections.contents;
            let byte = self.model.literal(coder, [0; 2], position, false, 0);
            self.out.push(byte.map_err(DeltaError::Read)?);
        }
        Ok(())
    }
}

impl Read for DeltaReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.out.len() {
            self.fill()?;
        }
        let now = buffer.len().min(self.out.len() - self.taken);
        buffer[..now].copy_from_slice(&self.out[self.taken..self.taken + now]);
        self.taken += now;
        Ok(now)
    }
}
