//! What a tar says about one file.

use std::io;

use tar::{EntryType, Header};

use super::TarError;
use super::extension::Extension;

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

impl Member {
    /// From a header, and from what the extension members before it said.
    pub(super) fn read(header: &Header, size: u64, ext: Extension) -> Result<Self, TarError> {
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
        Ok(Self {
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
}
