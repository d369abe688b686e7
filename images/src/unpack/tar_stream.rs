//! The members of a tar stream, read with bounded memory.
//!
//! Formats: ustar (POSIX.1-1988), PAX (POSIX.1-2001) and GNU. The `tar` crate reads the header
//! fields; the loop is ours because the extension members (long names, PAX records) must have limits.
//! GNU sparse and multi-volume members do not occur in images and are refused.

use std::io::{self, Read};

use tar::{EntryType, Header};

use crate::limits::Limits;

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

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its bytes follow.
    File,
    /// Another name for a file that came before; the target is a path below the root.
    HardLink(Vec<u8>),
    /// A symbolic link; the target is taken as it is.
    Symlink(Vec<u8>),
    /// A character device: major, minor.
    CharDevice(u32, u32),
    /// A block device: major, minor.
    BlockDevice(u32, u32),
    /// A folder.
    Folder,
    /// A named pipe.
    Fifo,
}

/// One member's facts.
#[derive(Debug, Clone)]
pub struct Member {
    /// As the tar writes it; not checked yet.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds on top.
    pub mtime_nanos: u32,
    /// Bytes of data that follow: 0 unless a file.
    pub size: u64,
    /// Extended attributes: name, value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What extension members said about the member that follows them.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    mtime: Option<(i64, u32)>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    xattr_bytes: usize,
}

/// Reads members one after the other. [`Read`] gives the current file's bytes.
pub struct TarStream<R> {
    inner: R,
    limits: Limits,
    entries: u64,
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
            data: 0,
            padding: 0,
        }
    }

    /// Members seen so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The next member; what is left of the current one is skipped. `None` at the end marker or at the end
    /// of the stream.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        self.skip(self.data + self.padding)?;
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
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(TarError::Limit {
                    what: "tar members",
                    limit: self.limits.entries,
                });
            }
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
                    self.pax(&records, &mut extension)?;
                }
                EntryType::XGlobalHeader => {
                    // Comments by git and the like; nothing that we take from a whole archive.
                    self.bytes(size, self.limits.pax_bytes, "bytes of a PAX header")?;
                    continue;
                }
                _ => return self.member(header, size, extension).map(Some),
            }
            extended = true;
        }
    }

    /// Reads what follows the end marker, so that whoever measures the stream sees all of it.
    pub fn drain(&mut self) -> Result<(), TarError> {
        io::copy(&mut self.inner, &mut io::sink()).map_err(TarError::Read)?;
        Ok(())
    }

    fn member(&mut self, header: &Header, size: u64, ext: Extension) -> Result<Member, TarError> {
        let number = |field: io::Result<u64>, name| {
            let value = field.map_err(|_| TarError::Header(name))?;
            u32::try_from(value).map_err(|_| TarError::Header(name))
        };
        let path = ext.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || {
            ext.link
                .or_else(|| header.link_name_bytes().map(|name| name.into_owned()))
        };
        let device = || -> Result<(u32, u32), TarError> {
            let major = header
                .device_major()
                .map_err(|_| TarError::Header("device"))?;
            let minor = header
                .device_minor()
                .map_err(|_| TarError::Header("device"))?;
            Ok((major.unwrap_or(0), minor.unwrap_or(0)))
        };
        let kind = match header.entry_type() {
            // The old format writes folders as files with a slash at the end of their name.
            EntryType::Regular if path.ends_with(b"/") => Kind::Folder,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Folder,
            EntryType::Link => Kind::HardLink(link().ok_or(TarError::Header("link name"))?),
            EntryType::Symlink => Kind::Symlink(link().ok_or(TarError::Header("link name"))?),
            EntryType::Char => device().map(|(major, minor)| Kind::CharDevice(major, minor))?,
            EntryType::Block => device().map(|(major, minor)| Kind::BlockDevice(major, minor))?,
            EntryType::Fifo => Kind::Fifo,
            other => return Err(TarError::Type(other.as_byte() as char)),
        };
        // Only files have data, whatever the size field of another member says: as Go's archive/tar, which
        // wrote and reads most images.
        let size = if kind == Kind::File {
            ext.size.unwrap_or(size)
        } else {
            0
        };
        self.data = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
        let (mtime, mtime_nanos) = match ext.mtime {
            Some(time) => time,
            None => {
                let seconds = header.mtime().map_err(|_| TarError::Header("mtime"))?;
                (
                    i64::try_from(seconds).map_err(|_| TarError::Header("mtime"))?,
                    0,
                )
            }
        };
        Ok(Member {
            path,
            size,
            kind,
            mode: header.mode().map_err(|_| TarError::Header("mode"))?,
            uid: ext.uid.map_or_else(|| number(header.uid(), "uid"), Ok)?,
            gid: ext.gid.map_or_else(|| number(header.gid(), "gid"), Ok)?,
            mtime,
            mtime_nanos,
            xattrs: ext.xattrs,
        })
    }

    /// Records `<length> <key>=<value>\n` (POSIX.1-2001, pax, "Extended Header").
    fn pax(&self, mut records: &[u8], ext: &mut Extension) -> Result<(), TarError> {
        const BAD: TarError = TarError::Header("PAX record");
        while !records.is_empty() {
            let space = records.iter().position(|&byte| byte == b' ').ok_or(BAD)?;
            let length: usize = text(&records[..space])?;
            if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
                return Err(BAD);
            }
            let record = &records[space + 1..length - 1];
            records = &records[length..];
            let equals = record.iter().position(|&byte| byte == b'=').ok_or(BAD)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => ext.path = Some(self.bounded(value)?),
                b"linkpath" => ext.link = Some(self.bounded(value)?),
                b"size" => ext.size = Some(text(value)?),
                b"uid" => ext.uid = Some(text(value)?),
                b"gid" => ext.gid = Some(text(value)?),
                b"mtime" => ext.mtime = Some(pax_time(value)?),
                _ if key.starts_with(b"GNU.sparse.") => return Err(TarError::Type('S')),
                _ => {
                    let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else {
                        continue;
                    };
                    ext.xattr_bytes += name.len() + value.len();
                    if ext.xattr_bytes > self.limits.xattr_bytes {
                        let limit = self.limits.xattr_bytes as u64;
                        return Err(TarError::Limit {
                            what: "bytes of attributes",
                            limit,
                        });
                    }
                    ext.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    fn bounded(&self, path: &[u8]) -> Result<Vec<u8>, TarError> {
        if path.len() > self.limits.path_bytes {
            let limit = self.limits.path_bytes as u64;
            return Err(TarError::Limit {
                what: "bytes of a path",
                limit,
            });
        }
        Ok(path.to_vec())
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

fn text<T: std::str::FromStr>(bytes: &[u8]) -> Result<T, TarError> {
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or(TarError::Header("PAX number"))
}

/// `seconds[.fraction]`, perhaps negative.
fn pax_time(value: &[u8]) -> Result<(i64, u32), TarError> {
    let dot = value
        .iter()
        .position(|&byte| byte == b'.')
        .unwrap_or(value.len());
    let mut seconds: i64 = text(&value[..dot])?;
    let mut nanos = 0;
    let digits = value.get(dot + 1..).unwrap_or_default();
    for place in 0..9 {
        let digit = digits.get(place).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return Err(TarError::Header("mtime"));
        }
        nanos = nanos * 10 + u32::from(digit - b'0');
    }
    if value.starts_with(b"-") && nanos > 0 {
        seconds = seconds.checked_sub(1).ok_or(TarError::Header("mtime"))?;
        nanos = 1_000_000_000 - nanos;
    }
    Ok((seconds, nanos))
}
