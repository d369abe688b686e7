//! The tar stream again, from a record and the files of a tree.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

use coracle_digest::{Hasher, Sha256Digest};
use flate2::Crc;

use super::{END, FILE, Last, MAGIC, NEW, SAME, filling};

/// Bytes of the record that are read at once.
const BUFFER: usize = 8 << 10;

enum Doing {
    Nothing,
    Same(u64),
    New(u64),
    /// Bytes that are left of a file's contents.
    File(u64),
    Zeros(u64),
    Ended,
}

/// How a file's contents turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// As they were.
    Same,
    /// Others, or fewer.
    Other,
    /// They cannot be read, with the kernel's number.
    Unreadable(i32),
}

/// [`Read`] gives the stream. Errors are about the record: a file whose bytes are not there is one of zeros.
pub(crate) struct Remade {
    record: BufReader<File>,
    last: Last,
    doing: Doing,
    /// Of the file that is being read, or was last.
    source: Option<File>,
    crc: Crc,
    wanted: u32,
    size: u64,
    error: Option<i32>,
    hasher: Hasher,
}

impl Remade {
    /// From the start of the record.
    pub(crate) fn open(mut record: &File) -> io::Result<Self> {
        record.rewind()?;
        let mut record = BufReader::with_capacity(BUFFER, record.try_clone()?);
        let mut magic = [0; MAGIC.len()];
        record.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(damaged("it is no record that this version reads"));
        }
        Ok(Self {
            record,
            last: Last::new(),
            doing: Doing::Nothing,
            source: None,
            crc: Crc::new(),
            wanted: 0,
            size: 0,
            error: None,
            hasher: Hasher::new(),
        })
    }

    /// Bytes of the contents that come next, if contents come next.
    pub(crate) fn file_follows(&mut self) -> io::Result<Option<u64>> {
        while let Doing::Nothing | Doing::Same(0) | Doing::New(0) | Doing::Zeros(0) = self.doing {
            self.next()?;
        }
        match self.doing {
            Doing::File(bytes) => Ok(Some(bytes)),
            _ => Ok(None),
        }
    }

    /// They are these; None: nothing can be read.
    pub(crate) fn read_from(&mut self, file: Option<File>) {
        self.source = file;
        self.error = None;
        self.crc.reset();
    }

    /// They do not come, nor what fills the last block.
    pub(crate) fn without_file(&mut self) {
        self.doing = Doing::Nothing;
    }

    /// Of the contents that came last.
    pub(crate) fn found(&self) -> Found {
        match self.error {
            Some(errno) => Found::Unreadable(errno),
            None if self.crc.sum() == self.wanted => Found::Same,
            None => Found::Other,
        }
    }

    /// Digest of all that was read.
    pub(crate) fn digest(self) -> Sha256Digest {
        self.hasher.finish()
    }

    fn next(&mut self) -> io::Result<()> {
        let number = self.number()?;
        let count = number >> 2;
        self.doing = match number & 3 {
            SAME => Doing::Same(count),
            NEW => Doing::New(count),
            FILE => {
                let mut crc = [0; 4];
                self.record.read_exact(&mut crc)?;
                self.wanted = u32::from_le_bytes(crc);
                self.size = count;
                Doing::File(count)
            }
            END => Doing::Ended,
            _ => return Err(damaged("unknown operation")),
        };
        Ok(())
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let mut byte = [0];
            self.record.read_exact(&mut byte)?;
            number |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged("a number is too long"))
    }

    /// Some bytes of a file; zeros for what it has not.
    fn contents(&mut self, buffer: &mut [u8]) -> usize {
        let read = match &mut self.source {
            Some(source) => source.read(buffer),
            None => Ok(0),
        };
        match read {
            Ok(read) if read > 0 => {
                self.crc.update(&buffer[..read]);
                return read;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return 0,
            Err(error) => self.error = error.raw_os_error(),
            // One that ends early has another sum, unless it ends in zeros: its size says so.
            Ok(_) => {}
        }
        self.source = None;
        buffer.fill(0);
        self.crc.update(buffer);
        buffer.len()
    }
}

impl Read for Remade {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        let most = |left: u64| usize::try_from(left).map_or(room, |left| left.min(room));
        loop {
            let count = match self.doing {
                Doing::Nothing | Doing::Same(0) | Doing::New(0) | Doing::Zeros(0) => {
                    self.next()?;
                    continue;
                }
                Doing::Ended => return Ok(0),
                Doing::Same(left) => {
                    let count = most(left);
                    for byte in &mut buffer[..count] {
                        *byte = self.last.one();
                        self.last.push(*byte);
                    }
                    self.doing = Doing::Same(left - count as u64);
                    count
                }
                Doing::New(left) => {
                    let count = most(left);
                    self.record.read_exact(&mut buffer[..count])?;
                    for &byte in &buffer[..count] {
                        self.last.push(byte);
                    }
                    self.doing = Doing::New(left - count as u64);
                    count
                }
                Doing::File(0) => return Err(damaged("contents of no bytes")),
                Doing::File(left) => {
                    let count = most(left);
                    let count = self.contents(&mut buffer[..count]);
                    self.doing = match left - count as u64 {
                        0 => Doing::Zeros(filling(self.size)),
                        left => Doing::File(left),
                    };
                    if count == 0 && !buffer.is_empty() {
                        continue;
                    }
                    count
                }
                Doing::Zeros(left) => {
                    let count = most(left);
                    buffer[..count].fill(0);
                    self.doing = Doing::Zeros(left - count as u64);
                    count
                }
            };
            self.hasher.update(&buffer[..count]);
            return Ok(count);
        }
    }
}

fn damaged(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
