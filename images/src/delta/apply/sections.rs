//! The three sections of a delta's blob, each read at its own place.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use lzma_rust2::LzmaReader;

use crate::delta::DeltaError;
use crate::delta::format::{
    CONTROL_DICT, DeltaHeader, HEADER_BYTES, LITERAL_DICT, LZMA_LC, Section, byte, number, signed,
};
use crate::delta::range::Decoder;
use crate::limits::Limits;

/// Bytes read from the blob at once, for each of three sections.
const SECTION_BUFFER: usize = 16 << 10;

/// Bytes unpacked from the control section at once: operations are read a few bytes at a time.
const CONTROL_BUFFER: usize = 4 << 10;

/// A stretch of the blob, read at its own place.
pub(super) struct Stretch {
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

pub(super) type Buffered = BufReader<Stretch>;

/// What a delta's blob holds.
pub(super) struct Sections {
    pub(super) header: DeltaHeader,
    pub(super) control: Control,
    pub(super) literals: Literals,
    pub(super) differences: Decoder<Buffered>,
}

impl Sections {
    /// Reads the header and sets the sections up; together they are the whole blob.
    pub(super) fn open(blob: File, limits: &Limits) -> Result<Self, DeltaError> {
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
            control: Control(BufReader::with_capacity(CONTROL_BUFFER, control)),
            literals: Literals(literals),
            differences,
        })
    }
}

/// The operations and their numbers.
pub(super) struct Control(BufReader<LzmaReader<Buffered>>);

impl Control {
    pub(super) fn byte(&mut self) -> Result<u8, DeltaError> {
        byte(&mut self.0).map_err(DeltaError::Read)
    }

    pub(super) fn number(&mut self) -> Result<u64, DeltaError> {
        number(&mut self.0).map_err(DeltaError::Read)
    }

    pub(super) fn signed(&mut self) -> Result<i64, DeltaError> {
        signed(&mut self.0).map_err(DeltaError::Read)
    }

    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<(), DeltaError> {
        self.0.read_exact(buffer).map_err(DeltaError::Read)
    }

    /// A text of that length, which must not be above `limit`.
    pub(super) fn text(&mut self, length: u64, limit: usize) -> Result<Vec<u8>, DeltaError> {
        let length = usize::try_from(length)
            .ok()
            .filter(|&length| length <= limit);
        let mut bytes = vec![0; length.ok_or(DeltaError::Malformed("a text is too long"))?];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

/// Bytes that no source has; a delta may have none.
pub(super) struct Literals(Option<LzmaReader<Buffered>>);

impl Literals {
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<(), DeltaError> {
        let literals = self
            .0
            .as_mut()
            .ok_or(DeltaError::Malformed("no literals are there"))?;
        literals.read_exact(buffer).map_err(DeltaError::Read)
    }
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
