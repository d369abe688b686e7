//! The members of a tar stream, read with bounded memory.
//!
//! Formats: ustar (POSIX.1-1988), PAX (POSIX.1-2001) and GNU. The `tar` crate reads the header
//! fields; the loop is ours because the extension members (long names, PAX records) must have limits.
//! GNU sparse and multi-volume members do not occur in images and are refused.

mod extension;
mod member;

use std::io::{self, Read};

use tar::{EntryType, Header};

use crate::limits::Limits;

use extension::Extension;

pub use member::{Kind, Member};

const BLOCK: u64 = 512;

/// Why a tar stream can't be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream itself: decompression, a delta, the blob's file.
    #[error("reading the layer")]
    Read(#[source] io::Error),
    /// The stream ends inside a member.
    #[error("the layer ends in the middle of a member")]
    Truncated,
    /// A header that is no tar header, or a number in it that is none.
    #[error("a tar header is malformed: {0}")]
    Header(&'static str),
    /// A member type that images do not have.
    #[error("tar members of type {0:?} are not accepted")]
    Type(char),
    /// Above a limit of [`Limits`].
    #[error("the layer has more than the allowed {limit} {what}")]
    Limit {
        /// What there is too much of, with its unit.
        what: &'static str,
        /// The most that is allowed.
        limit: u64,
    },
}

/// Reads members one after the other. [`Read`] gives the current file's bytes.
pub struct TarStream<R> {
    inner: R,
    limits: Limits,
    entries: u64,
    headers: u64,
    data: u64,
    padding: u64,
}

impl<R: Read> TarStream<R> {
    /// Begins at the stream's first byte.
    pub fn new(inner: R, limits: &Limits) -> Self {
        Self {
            inner,
            limits: *limits,
            entries: 0,
            headers: 0,
            data: 0,
            padding: 0,
        }
    }

    /// What it reads from; only between two members.
    pub(crate) fn inner_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// The current member's bytes do not come, nor what fills its last block.
    pub(crate) fn without_data(&mut self) {
        (self.data, self.padding) = (0, 0);
    }

    /// Members seen so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The next member; what is left of the current one is skipped. `None` at the end marker or at the end
    /// of the stream.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        // A member without data of its own may announce any size.
        self.skip(self.data.saturating_add(self.padding))?;
        self.data = 0;
        self.padding = 0;
        let mut extension = Extension::default();
        let mut extended = false;
        loop {
            let mut block = [0; BLOCK as usize];
            if !self.read_block(&mut block)? || block == [0; BLOCK as usize] {
                return if extended {
                    Err(TarError::Truncated)
                } else {
                    Ok(None)
                };
            }
            count(&mut self.headers, self.limits.entries)?;
            let header = Header::from_byte_slice(&block);
            check_sum(&block, header)?;
            let size = header.entry_size().map_err(|_| TarError::Header("size"))?;
            match header.entry_type() {
                EntryType::GNULongName => {
                    extension.path.get_or_insert(self.long_text(size)?);
                }
                EntryType::GNULongLink => {
                    extension.link.get_or_insert(self.long_text(size)?);
                }
                EntryType::XHeader => {
                    let records =
                        self.bytes(size, self.limits.pax_bytes, "bytes of a PAX header")?;
                    extension.pax(&records, &self.limits)?;
                }
                EntryType::XGlobalHeader => {
                    // Comments by git and the like; nothing that we take from a whole archive.
                    self.bytes(size, self.limits.pax_bytes, "bytes of a PAX header")?;
                    continue;
                }
                _ => {
                    count(&mut self.entries, self.limits.members)?;
                    let member = Member::read(header, size, extension)?;
                    self.data = member.size;
                    self.padding = (BLOCK - member.size % BLOCK) % BLOCK;
                    return Ok(Some(member));
                }
            }
            extended = true;
        }
    }

    /// Reads what follows the end marker, so that whoever measures the stream sees all of it.
    pub fn drain(&mut self) -> Result<(), TarError> {
        io::copy(&mut self.inner, &mut io::sink()).map_err(TarError::Read)?;
        Ok(())
    }

    /// A GNU long name: text with a NUL at its end.
    fn long_text(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut path = self.bytes(size, self.limits.path_bytes as u64 + 1, "bytes of a path")?;
        if path.last() == Some(&0) {
            path.pop();
        }
        Ok(path)
    }

    /// The data of an extension member.
    fn bytes(&mut self, size: u64, limit: u64, what: &'static str) -> Result<Vec<u8>, TarError> {
        if size > limit {
            return Err(TarError::Limit { what, limit });
        }
        let mut data = vec![0; size as usize];
        self.inner
            .read_exact(&mut data)
            .map_err(end_is_truncation)?;
        self.skip((BLOCK - size % BLOCK) % BLOCK)?;
        Ok(data)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), TarError> {
        let skipped = io::copy(&mut (&mut self.inner).take(bytes), &mut io::sink());
        if skipped.map_err(TarError::Read)? < bytes {
            Err(TarError::Truncated)
        } else {
            Ok(())
        }
    }

    /// False when the stream ends before the block.
    fn read_block(&mut self, block: &mut [u8; BLOCK as usize]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < block.len() {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(TarError::Truncated),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        Ok(true)
    }
}

impl<R: Read> Read for TarStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.data).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.data -= read as u64;
        Ok(read)
    }
}

fn count(seen: &mut u64, limit: u64) -> Result<(), TarError> {
    *seen += 1;
    if *seen > limit {
        let what = "tar members";
        return Err(TarError::Limit { what, limit });
    }
    Ok(())
}

fn end_is_truncation(error: io::Error) -> TarError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => TarError::Truncated,
        _ => TarError::Read(error),
    }
}

fn check_sum(block: &[u8; BLOCK as usize], header: &Header) -> Result<(), TarError> {
    let plain = block[..148]
        .iter()
        .chain(&block[156..])
        .map(|&byte| u32::from(byte));
    let sum = plain.sum::<u32>() + 8 * u32::from(b' ');
    match header.cksum() {
        Ok(said) if said == sum => Ok(()),
        _ => Err(TarError::Header("checksum")),
    }
}
