//! A delta as a stream of the target's tar bytes.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::rc::Rc;

use lzma_rust2::LzmaReader;
use rustix::fs::{Mode, OFlags, openat};

use super::DeltaError;
use super::address::Machine;
use super::format::{
    CONTROL_DICT, DeltaHeader, HEADER_BYTES, LITERAL_DICT, LZMA_LC, Section, byte, field, number,
    op, signed,
};
use super::model::{AHEAD, BEHIND, DiffModel};
use super::range::Decoder;
use super::tar_header::{self as tar, BLOCK, Template};
use crate::beneath::{Walker, components};
use crate::limits::Limits;

/// Bytes made at once.
const CHUNK: usize = 32 << 10;

/// Bytes read from the blob at once, for each of three sections.
const SECTION_BUFFER: usize = 16 << 10;

/// A stretch of the blob, read at its own place.
struct Stretch {
    blob: Rc<File>,
    at: u64,
    end: u64,
}

impl Read for Stretch {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let read = self.blob.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

type Buffered = BufReader<Stretch>;

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

/// The open base file.
struct Source {
    file: File,
    path: String,
    at: u64,
    machine: Machine,
    /// Whether the model has been told of it: only sources with differences count there.
    announced: bool,
}

/// Reads a delta; [`Read`] gives the target layer's tar stream.
///
/// Errors inside the stream are [`DeltaError`]s in an [`io::Error`]. The stream ends after exactly
/// [`DeltaHeader::target_size`] bytes; whether they are right, their digest says.
pub struct DeltaReader {
    header: DeltaHeader,
    base: Walker,
    limits: Limits,
    control: BufReader<LzmaReader<Buffered>>,
    literals: Option<LzmaReader<Buffered>>,
    differences: Decoder<Buffered>,
    /// Made when the first difference comes: most of the memory.
    model: Option<Box<DiffModel>>,
    template: Template,
    source: Option<Source>,
    sources: u64,
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
        let length = blob.metadata().map_err(DeltaError::Read)?.len();
        let blob = Rc::new(blob);
        let header = DeltaHeader::read(Stretch {
            blob: blob.clone(),
            at: 0,
            end: length,
        })?;
        if header.target_size > limits.unpacked_bytes {
            let (size, limit) = (header.target_size, limits.unpacked_bytes);
            return Err(DeltaError::TooLarge { size, limit });
        }
        if header.control.size > limits.delta_control_bytes {
            return Err(DeltaError::Section("control"));
        }
        let mut at = HEADER_BYTES as u64;
        let mut stretch = |section: Section, name| {
            let end = at.checked_add(section.packed).filter(|&end| end <= length);
            let end = end.ok_or(DeltaError::Section(name))?;
            if section.size > 0 && section.packed == 0 && name != "difference" {
                return Err(DeltaError::Section(name));
            }
            let stretch = Stretch {
                blob: blob.clone(),
                at,
                end,
            };
            at = end;
            Ok(BufReader::with_capacity(SECTION_BUFFER, stretch))
        };
        let control = lzma(
            stretch(header.control, "control")?,
            header.control,
            CONTROL_DICT,
        )?;
        let control = control.ok_or(DeltaError::Section("control"))?;
        let literals = lzma(
            stretch(header.literal, "literal")?,
            header.literal,
            LITERAL_DICT,
        )?;
        let differences = stretch(header.diff, "difference")?;
        let differences = Decoder::new(differences).map_err(DeltaError::Read)?;
        if at != length {
            return Err(DeltaError::Section("last"));
        }
        Ok(Self {
            header,
            base: Walker::reader(base),
            limits: *limits,
            control: BufReader::with_capacity(4096, control),
            literals,
            differences,
            model: None,
            template: Template::new(),
            source: None,
            sources: 0,
            content_start: 0,
            doing: Doing::Nothing,
            produced: 0,
            out: Vec::with_capacity(CHUNK + BLOCK),
            taken: 0,
        })
    }

    /// What the delta says about itself; nothing of it has been checked.
    pub fn header(&self) -> &DeltaHeader {
        &self.header
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
        if self.produced > self.header.target_size {
            return Err(DeltaError::Malformed("it makes more than it announced"));
        }
        Ok(())
    }

    fn next_operation(&mut self) -> Result<(), DeltaError> {
        let read = DeltaError::Read;
        match byte(&mut self.control).map_err(read)? {
            op::END => {
                if self.produced != self.header.target_size {
                    return Err(DeltaError::Malformed("it makes less than it announced"));
                }
                self.doing = Doing::Ended;
            }
            op::HEADER => {
                self.read_header(false)?;
                self.out.extend_from_slice(&self.template.0);
            }
            op::SAME_FILE => self.same_file()?,
            op::SOURCE_SAME => {
                let machine = self.machine()?;
                let path = self.template.name().to_vec();
                self.open_source(&path, machine)?;
            }
            op::SOURCE => {
                let machine = self.machine()?;
                let length = number(&mut self.control).map_err(read)?;
                let path = self.bytes(length, self.limits.path_bytes)?;
                self.open_source(&path, machine)?;
            }
            op::COPY => {
                let left = self.seek()?;
                self.doing = Doing::Copy(left);
            }
            op::ADD => {
                let left = self.seek()?;
                let source = self
                    .source
                    .as_mut()
                    .ok_or(DeltaError::Malformed("no source is open"))?;
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
            op::LITERAL => self.doing = Doing::Literal(number(&mut self.control).map_err(read)?),
            op::PAD => self.pad(),
            op::ZEROS => self.doing = Doing::Zeros(number(&mut self.control).map_err(read)?),
            op::LITERAL_HEADER => {
                let mut block = [0; BLOCK];
                self.read_literals(&mut block)?;
                self.template = Template(block);
                self.out.extend_from_slice(&block);
                self.content_start = self.produced + BLOCK as u64;
            }
            _ => return Err(DeltaError::Malformed("unknown operation")),
        }
        Ok(())
    }

    fn machine(&mut self) -> Result<Machine, DeltaError> {
        let machine = byte(&mut self.control).map_err(DeltaError::Read)?;
        Machine::from_byte(machine).ok_or(DeltaError::Malformed("unknown machine"))
    }

    /// Brings the template up to date. `size` is given for a file that stayed the same, once its name is
    /// known.
    fn read_header(&mut self, same: bool) -> Result<(), DeltaError> {
        let read = DeltaError::Read;
        let control = &mut self.control;
        let fields = byte(control).map_err(read)?;
        if fields & !field::ALL != 0 || (same && fields & field::SIZE != 0) {
            return Err(DeltaError::Malformed("unknown header field"));
        }
        let unfit = |_| DeltaError::Malformed("a value does not fit its header field");
        if fields & field::NAME != 0 {
            let kept = number(control).map_err(read)? as usize;
            let added = number(control).map_err(read)? as usize;
            let mut name = self.template.name().to_vec();
            if kept > name.len() || added > tar::NAME {
                return Err(DeltaError::Malformed(
                    "a name does not fit its header field",
                ));
            }
            name.truncate(kept);
            name.resize(kept + added, 0);
            control.read_exact(&mut name[kept..]).map_err(read)?;
            self.template.set_text(0..tar::NAME, &name).map_err(unfit)?;
        }
        if fields & field::SIZE != 0 {
            let size = number(control).map_err(read)?;
            self.template.set_number(tar::SIZE, size).map_err(unfit)?;
        }
        if fields & field::MTIME != 0 {
            let change = signed(control).map_err(read)?;
            let mtime = self.template.number(tar::MTIME).wrapping_add_signed(change);
            self.template.set_number(tar::MTIME, mtime).map_err(unfit)?;
        }
        if fields & field::MODE != 0 {
            let mode = number(control).map_err(read)?;
            self.template.set_number(tar::MODE, mode).map_err(unfit)?;
        }
        if fields & field::TYPE != 0 {
            self.template.0[tar::TYPE] = byte(control).map_err(read)?;
        }
        if fields & field::LINK != 0 {
            let length = number(control).map_err(read)?;
            let link = self.bytes(length, tar::LINK.len())?;
            self.template.set_text(tar::LINK, &link).map_err(unfit)?;
        }
        if fields & field::OWNER != 0 {
            let uid = number(&mut self.control).map_err(read)?;
            let gid = number(&mut self.control).map_err(read)?;
            self.template.set_number(tar::UID, uid).map_err(unfit)?;
            self.template.set_number(tar::GID, gid).map_err(unfit)?;
        }
        if same {
            let path = self.template.name().to_vec();
            let size = self.open_source(&path, Machine::Any)?;
            self.template.set_number(tar::SIZE, size).map_err(unfit)?;
        }
        self.content_start = self.produced + BLOCK as u64;
        self.template.set_checksum().map_err(unfit)
    }

    fn same_file(&mut self) -> Result<(), DeltaError> {
        self.read_header(true)?;
        self.out.extend_from_slice(&self.template.0);
        let size = self.template.number(tar::SIZE);
        let padded = size.next_multiple_of(BLOCK as u64);
        if padded <= CHUNK as u64 {
            // Small files are most files: header, content and padding at once.
            let start = self.out.len();
            self.out.resize(start + padded as usize, 0);
            let source = self
                .source
                .as_mut()
                .ok_or(DeltaError::Malformed("no source is open"))?;
            return read_source(source, &mut self.out[start..start + size as usize]);
        }
        self.doing = Doing::WholeFile(size);
        Ok(())
    }

    /// Opens a base file and returns its size. The position is its start.
    fn open_source(&mut self, path: &[u8], machine: Machine) -> Result<u64, DeltaError> {
        self.sources += 1;
        if self.sources > self.limits.entries {
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
        self.source = Some(Source {
            file,
            path: shown,
            at: 0,
            machine,
            announced: false,
        });
        Ok(facts.size())
    }

    /// Seek and length of a copy; the seek counts from where the last one ended.
    fn seek(&mut self) -> Result<u64, DeltaError> {
        let seek = signed(&mut self.control).map_err(DeltaError::Read)?;
        let length = number(&mut self.control).map_err(DeltaError::Read)?;
        let source = self
            .source
            .as_mut()
            .ok_or(DeltaError::Malformed("no source is open"))?;
        let at = source
            .at
            .checked_add_signed(seek)
            .filter(|at| at.checked_add(length).is_some());
        source.at = at.ok_or(DeltaError::Malformed("a copy outside its source"))?;
        Ok(length)
    }

    /// Copies some of what is left, and says how much.
    fn copy(&mut self, left: u64) -> Result<u64, DeltaError> {
        let now = left.min(CHUNK as u64);
        self.out.resize(now as usize, 0);
        let source = self
            .source
            .as_mut()
            .ok_or(DeltaError::Malformed("no source is open"))?;
        read_source(source, &mut self.out)?;
        Ok(now)
    }

    fn pad(&mut self) {
        self.doing = Doing::Zeros(self.produced.wrapping_neg() % BLOCK as u64);
    }

    fn add(&mut self, left: u64, behind: [u8; BEHIND]) -> Result<(), DeltaError> {
        let (Some(source), Some(model)) = (&mut self.source, &mut self.model) else {
            return Err(DeltaError::Malformed("no source is open"));
        };
        let now = left.min(CHUNK as u64) as usize;
        let ahead = (left - now as u64).min(AHEAD as u64) as usize;
        // Old bytes with their surroundings; what lies outside the range counts as zero.
        let mut window = vec![0; BEHIND + now + AHEAD];
        window[..BEHIND].copy_from_slice(&behind);
        let start = source.at;
        read_source(source, &mut window[BEHIND..BEHIND + now + ahead])?;
        source.at = start + now as u64;
        for index in 0..now {
            let position = start + index as u64;
            let new = model.code(&mut self.differences, &window, BEHIND + index, position, 0);
            self.out.push(new.map_err(DeltaError::Read)?);
        }
        let behind = window[now..now + BEHIND]
            .try_into()
            .expect("that many bytes");
        self.doing = Doing::Add {
            left: left - now as u64,
            behind,
        };
        Ok(())
    }

    fn literal(&mut self, left: u64) -> Result<(), DeltaError> {
        let now = left.min(CHUNK as u64);
        let mut bytes = std::mem::take(&mut self.out);
        bytes.resize(now as usize, 0);
        let read = self.read_literals(&mut bytes);
        self.out = bytes;
        self.doing = Doing::Literal(left - now);
        read
    }

    fn read_literals(&mut self, buffer: &mut [u8]) -> Result<(), DeltaError> {
        let literals = self
            .literals
            .as_mut()
            .ok_or(DeltaError::Malformed("no literals are there"))?;
        literals.read_exact(buffer).map_err(DeltaError::Read)
    }

    fn bytes(&mut self, length: u64, limit: usize) -> Result<Vec<u8>, DeltaError> {
        let length = usize::try_from(length)
            .ok()
            .filter(|&length| length <= limit);
        let mut bytes = vec![0; length.ok_or(DeltaError::Malformed("a text is too long"))?];
        self.control
            .read_exact(&mut bytes)
            .map_err(DeltaError::Read)?;
        Ok(bytes)
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

fn read_source(source: &mut Source, buffer: &mut [u8]) -> Result<(), DeltaError> {
    let read = source.file.read_exact_at(buffer, source.at);
    read.map_err(|error| DeltaError::Source {
        path: source.path.clone(),
        source: error,
    })?;
    source.at += buffer.len() as u64;
    Ok(())
}

fn lzma(
    source: Buffered,
    section: Section,
    dict: u32,
) -> Result<Option<LzmaReader<Buffered>>, DeltaError> {
    if section.size == 0 {
        return Ok(None);
    }
    let reader = LzmaReader::new(source, section.size, LZMA_LC, 0, 0, dict, None);
    reader
        .map(Some)
        .map_err(|error| DeltaError::Read(io::Error::other(error)))
}
