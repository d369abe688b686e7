//! A delta as a stream of the target's tar bytes.
//!
//! [`sections`] reads the blob, [`source`] the base layer's files, [`header`] what changed in a tar
//! header; here the operations are carried out.

mod header;
mod sections;
mod source;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use super::DeltaError;
use super::format::{DeltaHeader, field, op};
use super::machine::Machine;
use super::model::{AHEAD, BEHIND, DiffModel};
use super::tar_header::{self as tar, BLOCK, Template};
use crate::limits::Limits;

use header::unfit;
use sections::Sections;
use source::Sources;

/// Bytes made at once.
const CHUNK: usize = 32 << 10;

/// What is going on between two reads.
enum Doing {
    Nothing,
    Copy(u64),
    /// A copy, then zeros up to the next block.
    WholeFile(u64),
    Add {
        left: u64,
        behind: [u8; BEHIND],
    },
    Literal(u64),
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
    /// Made when the first difference comes: most of the memory.
    model: Option<Box<DiffModel>>,
    template: Template,
    /// Output position at which the member's content began: addresses count from there.
    content_start: u64,
    doing: Doing,
    produced: u64,
    out: Vec<u8>,
    taken: usize,
}

impl DeltaReader {
    /// Reads the header and sets up the sections. `base` is the base layer's unpacked tree.
    pub fn open(blob: File, base: OwnedFd, limits: &Limits) -> Result<Self, DeltaError> {
        Ok(Self {
            sections: Sections::open(blob, limits)?,
            sources: Sources::new(base, limits),
            limits: *limits,
            model: None,
            template: Template::new(),
            content_start: 0,
            doing: Doing::Nothing,
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
                Doing::Copy(left) => {
                    let now = self.copy(left)?;
                    self.doing = Doing::Copy(left - now);
                }
                Doing::WholeFile(0) => self.pad(),
                Doing::WholeFile(left) => {
                    let now = self.copy(left)?;
                    self.doing = Doing::WholeFile(left - now);
                }
                Doing::Add { left, behind } => self.add(left, behind)?,
                Doing::Literal(left) => self.literal(left)?,
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
            if let Doing::Copy(0)
            | Doing::Literal(0)
            | Doing::Zeros(0)
            | Doing::Add { left: 0, .. } = self.doing
            {
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
            op::SOURCE_SAME => {
                let machine = self.machine()?;
                self.sources.open(self.template.name(), machine)?;
            }
            op::SOURCE => {
                let machine = self.machine()?;
                let control = &mut self.sections.control;
                let length = control.number()?;
                let path = control.text(length, self.limits.path_bytes)?;
                self.sources.open(&path, machine)?;
            }
            op::COPY => self.doing = Doing::Copy(self.seek()?),
            op::ADD => {
                let left = self.seek()?;
                let source = self.sources.current()?;
                let model = self.model.get_or_insert_with(|| Box::new(DiffModel::new()));
                if !std::mem::replace(&mut source.announced, true) {
                    model.new_source(source.machine);
                }
                model.new_range(source.at, self.produced - self.content_start);
                self.doing = Doing::Add {
                    left,
                    behind: [0; BEHIND],
                };
            }
            op::LITERAL => self.doing = Doing::Literal(self.sections.control.number()?),
            op::PAD => self.pad(),
            op::ZEROS => self.doing = Doing::Zeros(self.sections.control.number()?),
            op::LITERAL_HEADER => {
                let mut block = [0; BLOCK];
                self.sections.literals.fill(&mut block)?;
                self.template = Template(block);
                self.out.extend_from_slice(&block);
                self.content_start = self.produced + BLOCK as u64;
            }
            _ => return Err(DeltaError::Malformed("unknown operation")),
        }
        Ok(())
    }

    fn machine(&mut self) -> Result<Machine, DeltaError> {
        let machine = self.sections.control.byte()?;
        Machine::from_byte(machine).ok_or(DeltaError::Malformed("unknown machine"))
    }

    /// Puts out the template, whose fields are up to date.
    fn put_header(&mut self) -> Result<(), DeltaError> {
        self.content_start = self.produced + BLOCK as u64;
        self.template.set_checksum().map_err(unfit)?;
        self.out.extend_from_slice(&self.template.0);
        Ok(())
    }

    /// The size of a file that stayed the same is its size in the base, once its name is known.
    fn same_file(&mut self) -> Result<(), DeltaError> {
        let known = field::ALL & !field::SIZE;
        header::update(&mut self.template, &mut self.sections.control, known)?;
        let size = self.sources.open(self.template.name(), Machine::Any)?;
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

    /// Goes to the stretch that a copy reads and returns its length; the seek counts from where the last
    /// one ended.
    fn seek(&mut self) -> Result<u64, DeltaError> {
        let seek = self.sections.control.signed()?;
        let length = self.sections.control.number()?;
        self.sources.current()?.seek(seek, length)?;
        Ok(length)
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

    fn add(&mut self, left: u64, mut behind: [u8; BEHIND]) -> Result<(), DeltaError> {
        let source = self.sources.current()?;
        let model = self.model.get_or_insert_with(|| Box::new(DiffModel::new()));
        let now = left.min(CHUNK as u64) as usize;
        let ahead = (left - now as u64).min(AHEAD as u64) as usize;
        // Old bytes with their surroundings; what lies outside the range counts as zero.
        let mut window = vec![0; BEHIND + now + AHEAD];
        window[..BEHIND].copy_from_slice(&behind);
        let start = source.at;
        source.read(&mut window[BEHIND..BEHIND + now + ahead])?;
        source.at = start + now as u64;
        for index in 0..now {
            let position = start + index as u64;
            let coder = &mut self.sections.differences;
            let new = model.code(coder, &window, BEHIND + index, position, 0);
            self.out.push(new.map_err(DeltaError::Read)?);
        }
        behind.copy_from_slice(&window[now..now + BEHIND]);
        self.doing = Doing::Add {
            left: left - now as u64,
            behind,
        };
        Ok(())
    }

    fn literal(&mut self, left: u64) -> Result<(), DeltaError> {
        let now = left.min(CHUNK as u64);
        self.out.resize(now as usize, 0);
        self.doing = Doing::Literal(left - now);
        self.sections.literals.fill(&mut self.out)
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
