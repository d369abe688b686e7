//! A folder as a tar stream.

use std::collections::{BinaryHeap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

/// Why a folder is no tar stream.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A file in it.
    #[error("adding `{path}` to a tar stream")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Sockets and what else a tar can't hold.
    #[error("`{0}` is of a kind that a layer can't hold")]
    Kind(PathBuf),
}

/// Who owns the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// As the folder has it.
    Kept,
    /// One owner for all: user, group. For trees that a build wrote as an ordinary user.
    All(u32, u32),
}

/// Who owns a folder, and who may do what there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folder {
    /// Mode, without the kind.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Folders, by their paths below the root, that are another way in the stream than on the disk.
pub type Folders<'a> = &'a dyn Fn(&Path) -> Option<Folder>;

/// What the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// A layer: whiteouts get their names, and what a layer can't hold is an error.
    Layer,
    /// A volume: sockets and devices, which mean nothing outside the machine, are left out, and every name is a name.
    Volume,
}

/// What a tree came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Members.
    pub entries: u64,
    /// Bytes of file contents.
    pub bytes: u64,
}

/// Writes everything below `dir` as a tar stream: sorted by bytes, folders before what is in them, GNU long
/// names, no user names, whole seconds. Attributes kept: `security.capability` and `user.*`, as PAX records.
pub fn write_tree(
    dir: &Path,
    owner: Owner,
    clamp_mtime: Option<i64>,
    out: impl Write,
) -> Result<Written, TreeError> {
    write(dir, Of::Layer, owner, clamp_mtime, None, out)
}

/// The same, where some folders are as `folders` has them.
pub fn write_tree_with(
    dir: &Path,
    owner: Owner,
    clamp_mtime: Option<i64>,
    folders: Folders<'_>,
    out: impl Write,
) -> Result<Written, TreeError> {
    write(dir, Of::Layer, owner, clamp_mtime, Some(folders), out)
}

/// The same of a volume, whose apps may be writing meanwhile: as it is, without sockets and devices.
pub fn write_volume(dir: &Path, out: impl Write) -> Result<Written, TreeError> {
    write(dir, Of::Volume, Owner::Kept, None, None, out)
}

fn write(
    dir: &Path,
    of: Of,
    owner: Owner,
    clamp_mtime: Option<i64>,
    folders: Option<Folders<'_>>,
    out: impl Write,
) -> Result<Written, TreeError> {
    let mut builder = tar::Builder::new(out);
    let mut state = State {
        builder: &mut builder,
        of,
        owner,
        clamp_mtime,
        folders,
        links: HashMap::new(),
        written: Written::default(),
    };
    let facts = fs::symlink_metadata(dir).map_err(at(dir))?;
    state.member(dir, Path::new("./"), &facts)?;
    state.below(dir, Path::new(""))?;
    let written = state.written;
    builder
        .into_inner()
        .and_then(|mut out| out.flush())
        .map_err(at(dir))?;
    Ok(written)
}

struct State<'a, W: Write> {
    builder: &'a mut tar::Builder<W>,
    of: Of,
    owner: Owner,
    clamp_mtime: Option<i64>,
    folders: Option<Folders<'a>>,
    /// First name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
    written: Written,
}

impl<W: Write> State<'_, W> {
    fn below(&mut self, dir: &Path, name: &Path) -> Result<(), TreeError> {
        let entries: io::Result<Vec<_>> = fs::read_dir(dir).and_then(Iterator::collect);
        // An OsString's order is that of its bytes.
        let names: BinaryHeap<OsString> = entries
            .map_err(at(dir))?
            .iter()
            .map(fs::DirEntry::file_name)
            .collect();
        for entry in names.into_sorted_vec() {
            let (path, name) = (dir.join(&entry), name.join(&entry));
            let facts = fs::symlink_metadata(&path).map_err(at(&path))?;
            if facts.is_dir() {
                // The slash at the end is how Go's and GNU's tar write folders.
                let mut folder = name.clone().into_os_string();
                folder.push("/");
                self.member(&path, Path::new(&folder), &facts)?;
                self.below(&path, &name)?;
            } else {
                self.member(&path, &name, &facts)?;
            }
        }
        Ok(())
    }

    fn member(&mut self, path: &Path, name: &Path, facts: &Metadata) -> Result<(), TreeError> {
        let mut header = self.header(facts);
        let kind = facts.file_type();
        let device = kind.is_char_device() || kind.is_block_device();
        if self.of == Of::Volume && (kind.is_socket() || device) {
            return Ok(());
        }
        self.written.entries += 1;
        if !kind.is_dir() && facts.nlink() > 1 {
            let first = self
                .links
                .entry((facts.dev(), facts.ino()))
                .or_insert_with(|| name.to_owned());
            if first != name {
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                return self
                    .builder
                    .append_link(&mut header, name, &*first)
                    .map_err(at(path));
            }
        }
        if let Some(folders) = self.folders
            && kind.is_dir()
            && let Some(folder) = folders(name.strip_prefix(".").unwrap_or(name))
        {
            header.set_mode(folder.mode);
            header.set_uid(folder.uid.into());
            header.set_gid(folder.gid.into());
        }
        if kind.is_dir() || kind.is_file() {
            self.attributes(path)?;
        }
        if kind.is_file() {
            header.set_entry_type(EntryType::Regular);
            header.set_size(facts.len());
            self.written.bytes += facts.len();
            // Exactly the bytes that the header announces, whatever happens to the file meanwhile.
            let mut file = Exactly {
                file: File::open(path).map_err(at(path))?,
                left: facts.len(),
            };
            return self
                .builder
                .append_data(&mut header, name, &mut file)
                .map_err(at(path));
        }
        header.set_size(0);
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let target = fs::read_link(path).map_err(at(path))?;
            return self
                .builder
                .append_link(&mut header, name, target)
                .map_err(at(path));
        }
        let device = facts.rdev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        if kind.is_char_device() && device == 0 {
            // overlayfs' whiteout, as a layer says it.
            let file = name
                .file_name()
                .ok_or_else(|| TreeError::Kind(path.to_owned()))?;
            let mut hidden = std::ffi::OsString::from(".wh.");
            hidden.push(file);
            header.set_entry_type(EntryType::Regular);
            let name = name.with_file_name(hidden);
            return self
                .builder
                .append_data(&mut header, name, io::empty())
                .map_err(at(path));
        }
        let entry_type = match () {
            () if kind.is_dir() => EntryType::Directory,
            () if kind.is_fifo() => EntryType::Fifo,
            () if kind.is_char_device() => EntryType::Char,
            () if kind.is_block_device() => EntryType::Block,
            () => return Err(TreeError::Kind(path.to_owned())),
        };
        header.set_entry_type(entry_type);
        if kind.is_char_device() || kind.is_block_device() {
            header
                .set_device_major(major)
                .and_then(|()| header.set_device_minor(minor))
                .map_err(at(path))?;
        }
        self.builder
            .append_data(&mut header, name, io::empty())
            .map_err(at(path))
    }

    fn header(&self, facts: &Metadata) -> Header {
        let mut header = Header::new_gnu();
        let (uid, gid) = match self.owner {
            Owner::Kept => (facts.uid(), facts.gid()),
            Owner::All(uid, gid) => (uid, gid),
        };
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_mode(facts.mode() & 0o7777);
        let mtime = self
            .clamp_mtime
            .map_or(facts.mtime(), |latest| facts.mtime().min(latest));
        header.set_mtime(u64::try_from(mtime).unwrap_or(0));
        header
    }

    fn attributes(&mut self, path: &Path) -> Result<(), TreeError> {
        let mut names = vec![0u8; 64 << 10];
        let length = match rustix::fs::llistxattr(path, names.as_mut_slice()) {
            Ok(length) => length,
            Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
            Err(errno) => return Err(at(path)(errno.into())),
        };
        let names = names[..length].split(|&byte| byte == 0);
        let names: BinaryHeap<&[u8]> = names
            .filter(|name| *name == b"security.capability" || name.starts_with(b"user."))
            .collect();
        let mut records = Vec::new();
        for name in names.into_sorted_vec() {
            let mut value = vec![0u8; 64 << 10];
            let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice());
            value.truncate(length.map_err(|errno| at(path)(errno.into()))?);
            let key = format!("SCHILY.xattr.{}", String::from_utf8_lossy(name));
            records.push((key, value));
        }
        let records = records
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder
            .append_pax_extensions(records)
            .map_err(at(path))
    }
}

/// A file that must not end early, and of which nothing is read that was added later.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter",
            ));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> TreeError {
    let path = path.to_owned();
    move |source| TreeError::File {
        path: path.clone(),
        source,
    }
}
