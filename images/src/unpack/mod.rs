//! From a layer's blob to a tree below a folder descriptor.
//!
//! This runs in the supervisor's jailed child: it opens nothing but names below `dest` (and below
//! `base` for a delta), so that it works after a pivot with these descriptors alone. The child needs
//! CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_MKNOD and CAP_SETFCAP; opaque folders
//! also CAP_SYS_ADMIN, and without it they are reported to the caller.
//!
//! Nothing here decides whether a layer is trusted: the caller compares [`Applied::diff_id`] with the signed
//! one before the tree gets its name, and throws the tree away after any error.

mod tar_stream;
mod tree;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use coracle_digest::Sha256Digest;

use crate::beneath::PathError;
use crate::decompress::{Measured, tar_stream as decompressed};
use crate::delta::{DeltaError, DeltaReader};
use crate::layout::LayerType;
use crate::limits::Limits;
use crate::record::Recorder;

pub use tar_stream::{Kind, Member, TarError, TarStream};
pub use tree::{Linked, link_unchanged, mark_opaque, not_opaque};
pub(crate) use tree::{OPAQUE, WHITEOUT, lossy};

use tree::TreeWriter;

/// Where a layer's tar bytes come from.
pub enum Source {
    /// The layer's own blob.
    Full {
        /// Open for reading, at its start.
        blob: File,
        /// How it is compressed.
        layer: LayerType,
    },
    /// A delta against a layer that is unpacked here.
    Delta {
        /// Open for reading; read at offsets.
        blob: File,
        /// The base layer's unpacked tree.
        base: OwnedFd,
    },
}

/// What unpacking did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// SHA-256 of the uncompressed tar stream that the tree was made from: OCI's DiffID.
    pub diff_id: Sha256Digest,
    /// Bytes of the uncompressed tar stream.
    pub tar_bytes: u64,
    /// Bytes of file contents written.
    pub bytes_written: u64,
    /// Bytes of file contents that the old layer has.
    pub bytes_spared: u64,
    /// Files that wait for [`link_unchanged`]. Until then the tree is not the layer.
    pub links_pending: u64,
    /// Members of the tar stream.
    pub entries: u64,
    /// Whether the record holds all that the tree does not: see [`crate::record`].
    pub recorded: bool,
    /// Folders (paths below `dest`) that must be made opaque by someone with CAP_SYS_ADMIN: see
    /// [`mark_opaque`]. Until then the tree is not the layer.
    pub opaque_pending: Vec<Vec<u8>>,
    /// Extended attributes that this board does not take from images (SELinux labels and the like).
    pub xattrs_left_out: u64,
}

/// Why a layer was not unpacked. The tree is incomplete then.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The tar stream, or what it is read from.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The delta's header.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// The stream failed in the middle of a file.
    #[error("reading the contents of `{path}`")]
    Stream {
        /// The member.
        path: String,
        /// Truncation, a limit, a malformed delta …
        #[source]
        source: io::Error,
    },
    /// A path that could lead outside.
    #[error("`{path}` is refused")]
    Path {
        /// The path as the layer has it, shortened.
        path: String,
        /// Why.
        #[source]
        source: PathError,
    },
    /// The kernel said no. `ELOOP` and `ENOTDIR`: a path goes through a link or a file.
    #[error("{doing} `{path}`")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The path as the layer has it, shortened.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// `.wh.` on its own, of `.` or `..`, or as a folder.
    #[error("`{0}` is no valid whiteout")]
    Whiteout(String),
    /// A link to the root, to a folder, to a whiteout, or with an impossible target.
    #[error("`{0}` links to something that can't be linked to")]
    LinkTarget(String),
    /// A device that [`Limits::devices`] forbids, or character device 0/0.
    #[error("the device `{0}` is refused")]
    Device(String),
    /// An attribute that would steer overlayfs.
    #[error("`{path}` has the attribute `{name}`, which layers must not bring")]
    Attribute {
        /// The member.
        path: String,
        /// The attribute.
        name: String,
    },
    /// The root is given as a file or link.
    #[error("the layer's root is not a folder")]
    RootNotFolder,
}

/// Unpacks a layer below `dest`, an empty folder, and syncs its file system.
///
/// Memory stays bounded whatever the layer's size. The digest is computed over the same bytes that the tree
/// is made from, in one pass.
pub fn apply_layer(source: Source, dest: OwnedFd, limits: &Limits) -> Result<Applied, UnpackError> {
    apply_layer_beside(source, dest, Beside::default(), limits)
}

/// What a layer is unpacked with, beside its blob.
#[derive(Default)]
pub struct Beside {
    /// An old layer's unpacked tree. What it has at the same path, as it is to be, takes no room again: it is a reflink, or waits
    /// for [`link_unchanged`], which writes to the disk then.
    pub old: Option<OwnedFd>,
    /// An empty file on the same file system, which gets what the tree does not say of the tar stream: see [`crate::record`]. With
    /// the two the tree can be checked later on.
    pub record: Option<File>,
}

/// As [`apply_layer`], with what is [`Beside`].
pub fn apply_layer_beside(
    source: Source,
    dest: OwnedFd,
    beside: Beside,
    limits: &Limits,
) -> Result<Applied, UnpackError> {
    let tar: Box<dyn Read> = match source {
        Source::Full { blob, layer } => decompressed(blob, layer, limits),
        Source::Delta { blob, base } => Box::new(DeltaReader::open(blob, base, limits)?),
    };
    unpack(tar, dest, beside, limits)
}

/// As [`apply_layer`], from uncompressed tar bytes, without a record.
pub fn unpack_tar(tar: impl Read, dest: OwnedFd, limits: &Limits) -> Result<Applied, UnpackError> {
    unpack(tar, dest, Beside::default(), limits)
}

fn unpack(
    tar: impl Read,
    dest: OwnedFd,
    beside: Beside,
    limits: &Limits,
) -> Result<Applied, UnpackError> {
    let mut measured = Measured::new(tar, limits.unpacked_bytes);
    let recorder = Recorder::new(&mut measured, beside.record);
    let mut stream = TarStream::new(recorder, limits);
    let mut tree = TreeWriter::new(dest, beside.old, limits);
    let mut bytes_written: u64 = 0;
    while let Some(member) = stream.next_member()? {
        tree.put(&member, &mut Contents(&mut stream))?;
        bytes_written = bytes_written.saturating_add(member.size);
    }
    stream.drain()?;
    let entries = stream.entries();
    let recorded = stream.into_inner().finish();
    let recorded = recorded.map_err(|source| UnpackError::Io {
        doing: "writing the record of",
        path: ".".to_owned(),
        source,
    })?;
    // What the record holds is on the disk with the tree.
    let tree = tree.finish()?;
    let (links_pending, bytes_spared) = tree.unchanged();
    let (diff_id, tar_bytes) = measured.finish();
    Ok(Applied {
        diff_id,
        tar_bytes,
        bytes_written: bytes_written.saturating_sub(bytes_spared),
        bytes_spared,
        links_pending,
        entries,
        recorded,
        opaque_pending: tree.opaque_pending,
        xattrs_left_out: tree.xattrs_left_out,
    })
}

/// The bytes of a file, of which the record keeps a sum only: the tree has them.
struct Contents<'a, R>(&'a mut TarStream<Recorder<R>>);

impl<R: Read> Read for Contents<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.inner_mut().is_contents(true);
        let read = self.0.read(buffer);
        self.0.inner_mut().is_contents(false);
        read
    }
}
