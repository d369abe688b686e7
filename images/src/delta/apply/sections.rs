//! The three sections of a delta's blob, each read at its own place.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use lzma_rust2::LzmaReader;

use crate::delta::DeltaError;
use crate::delta::format::{
    CONTROL_DICT, DeltaHeader, HEADER_BYTES, LZMA_LC, byte, number, signed,
};
use crate::delta::layout::Layout;
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
    pub(super) pieces: Decoder<Buffered>,
    pub(super) contents: Decoder<Buffered>,
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
        let mut stretch = |packed: u64, name| {
            let end = at.checked_add(packed).filter(|&end| end <= length);
            let end = end.ok_or(DeltaError::Section(name))?;
            let stretch = Stretch {
                blob: blob.clone(),
                at,
                end,
            };
            at = end;
            Ok(BufReader::with_capacity(SECTION_BUFFER, stretch))
        };
        let control = stretch(header.control.packed, "control")?;
        let pieces = stretch(header.pieces, "pieces")?;
        let contents = stretch(header.contents, "contents")?;
        if at != length {
            return Err(DeltaError::Section("last"));
        }
        let size = header.control.size;
        let control = LzmaReader::new(control, size, LZMA_LC, 0, 0, CONTROL_DICT, None)
            .map_err(|error| DeltaError::Read(io::Error::other(error)))?;
        Ok(Self {
            header,
            control: Control(BufReader::with_capacity(CONTROL_BUFFER, control)),
            pieces: Decoder::new(pieces).map_err(DeltaError::Read)?,
            contents: Decoder::new(contents).map_err(DeltaError::Read)?,
        })
    }

    /// The pieces' section from here on, to look ahead.
    pub(super) fn pieces_ahead(&self) -> Decoder<Buffered> {
        self.pieces.ahead(|here| {
            let stretch = here.get_ref();
            let again = Stretch {
                blob: stretch.blob.clone(),
                at: stretch.at - here.buffer().len() as u64,
                end: stretch.end,
            };
            BufReader::with_capacity(SECTION_BUFFER, again)
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

    /// How a source or a target is laid out.
    pub(super) fn layout(&mut self) -> Result<Layout, DeltaError> {
        Layout::read(&mut self.0).map_err(DeltaError::Read)
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
