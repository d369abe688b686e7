//! Deltas by hand, and between the layers of two releases.

use crate::files::{self, Access, FileError};
use crate::image::limits;
use coracle_board_support::memory;
use coracle_images::decompress::tar_stream;
use coracle_images::delta::tar_diff::{self, TarDiffError};
use coracle_images::delta::{DeltaError, DeltaHeader, DeltaReader, MakeError, make};
use coracle_images::layout::LayerType;
use coracle_images::unpack::{Source, UnpackError, apply_layer};
use coracle_protocol::Sha256Digest;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

/// Why a delta can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum DeltaFileError {
    /// A file.
    #[error("`{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The output.
    #[error("{0}")]
    File(#[from] FileError),
    /// Making.
    #[error("making a delta from `{base}` to `{target}`")]
    Make {
        /// Layer.
        base: PathBuf,
        /// Layer.
        target: PathBuf,
        /// Why.
        #[source]
        source: MakeError,
    },
    /// The layer itself is no larger.
    #[error(
        "the delta to `{target}` has {size} bytes, the layer itself {full}: publish the layer alone, nothing was written"
    )]
    Large {
        /// Layer.
        target: PathBuf,
        /// Bytes of the delta.
        size: u64,
        /// Bytes of the layer.
        full: u64,
    },
    /// Reading.
    #[error("delta `{path}`")]
    Delta {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: DeltaError,
    },
    /// Reading, in the other format.
    #[error("tar-diff `{path}`")]
    TarDiff {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TarDiffError,
    },
    /// The base layer.
    #[error("unpacking `{path}`")]
    Base {
        /// The layer's blob.
        path: PathBuf,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// The base is not the one that the delta was made for, or the delta is damaged.
    #[error("`{path}` makes {found}, not {wanted}; was it made for another base?")]
    WrongResult {
        /// The delta.
        path: PathBuf,
        /// diff_id that the delta announces.
        wanted: Sha256Digest,
        /// What came out.
        found: Sha256Digest,
    },
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> DeltaFileError {
    let path = path.to_owned();
    move |source| DeltaFileError::Io {
        path: path.clone(),
        source,
    }
}

/// What a layer file is packed with, by its first bytes (RFC 1952 2.3.1, RFC 8878 3.1.1).
fn layer_type(file: &mut File) -> io::Result<LayerType> {
    let mut magic = [0; 4];
    let read = file.read(&mut magic)?;
    file.rewind()?;
    Ok(match magic[..read] {
        [0x1f, 0x8b, ..] => LayerType::TarGzip,
        [0x28, 0xb5, 0x2f, 0xfd] => LayerType::TarZstd,
        _ => LayerType::Tar,
    })
}

/// Opens a layer blob as a tar stream.
pub fn open_layer(path: &Path) -> Result<Box<dyn Read>, DeltaFileError> {
    let mut file = File::open(path).map_err(io_at(path))?;
    let kind = layer_type(&mut file).map_err(io_at(path))?;
    Ok(tar_stream(file, kind, &limits()))
}

/// Makes the delta between two layer files into `output`; returns its header and size. One that is no smaller than the
/// layer is not written.
pub fn make_file(
    base: &Path,
    target: &Path,
    output: &Path,
) -> Result<(DeltaHeader, u64), DeltaFileError> {
    let full = std::fs::metadata(target).map_err(io_at(target))?.len();
    let mut large = None;
    let made = write_made(base, target, output, |from, to, file| {
        let made = make(from, to, file)?;
        if made.size >= full {
            large = Some(made.size);
            return Err(io::Error::other("the delta is too large").into());
        }
        Ok(made)
    });
    if let Some(size) = large {
        return Err(DeltaFileError::Large {
            target: target.to_owned(),
            size,
            full,
        });
    }
    let made = made?;
    Ok((made.header, made.size))
}

/// Makes the tar-diff (version 1) between two layer files into `output`; returns its size.
pub fn make_tar_diff_file(
    base: &Path,
    target: &Path,
    output: &Path,
) -> Result<u64, DeltaFileError> {
    write_made(base, target, output, |from, to, file| {
        tar_diff::make(from, to, file)
    })?;
    Ok(std::fs::metadata(output).map_err(io_at(output))?.len())
}

fn write_made<T>(
    base: &Path,
    target: &Path,
    output: &Path,
    make: impl FnOnce(Box<dyn Read>, Box<dyn Read>, io::BufWriter<&mut File>) -> Result<T, MakeError>,
) -> Result<T, DeltaFileError> {
    let mut made = None;
    let (from, to) = (open_layer(base)?, open_layer(target)?);
    let mut failed = None;
    let written = files::write_with(output, Access::Public, |file| {
        match make(from, to, io::BufWriter::new(file)) {
            Ok(result) => made = Some(result),
            Err(error) => {
                failed = Some(error);
                return Err(io::Error::other("the delta could not be made"));
            }
        }
        Ok(())
    });
    if let Some(source) = failed {
        return Err(DeltaFileError::Make {
            base: base.to_owned(),
            target: target.to_owned(),
            source,
        });
    }
    written?;
    made.ok_or_else(|| io_at(output)(io::ErrorKind::WriteZero.into()))
}

/// Reads what a delta says about itself.
pub fn info(path: &Path) -> Result<(DeltaHeader, u64), DeltaFileError> {
    let file = File::open(path).map_err(io_at(path))?;
    let size = file.metadata().map_err(io_at(path))?.len();
    let header = DeltaHeader::read(file).map_err(|source| DeltaFileError::Delta {
        path: path.to_owned(),
        source,
    })?;
    Ok((header, size))
}

/// Bytes that are made before the next look at what can be given back: what is needed comes back in well under a millisecond.
const STRETCH: u64 = 1 << 20;

/// Applies a delta or a tar-diff to `base`, an unpacked tree or a layer file, and writes the target's tar stream. The
/// output appears only when its digest is the one that the delta announces; a tar-diff announces none. Takes no more memory
/// than a board does.
pub fn apply_file(
    base: &Path,
    delta: &Path,
    output: &Path,
) -> Result<(Sha256Digest, u64), DeltaFileError> {
    memory::begin_small();
    memory::make_room();
    let scratch;
    let tree = if base.is_dir() {
        base
    } else {
        scratch = tempfile::tempdir().map_err(io_at(base))?;
        let mut blob = File::open(base).map_err(io_at(base))?;
        let layer = layer_type(&mut blob).map_err(io_at(base))?;
        let dest = File::open(scratch.path()).map_err(io_at(scratch.path()))?;
        apply_layer(Source::Full { blob, layer }, dest.into(), &limits()).map_err(|source| {
            DeltaFileError::Base {
                path: base.to_owned(),
                source,
            }
        })?;
        scratch.path()
    };
    let at_delta = |source| DeltaFileError::Delta {
        path: delta.to_owned(),
        source,
    };
    let tree = File::open(tree).map_err(io_at(tree))?;
    let mut blob = File::open(delta).map_err(io_at(delta))?;
    let mut magic = [0; 8];
    let read = blob.read(&mut magic).map_err(io_at(delta))?;
    blob.rewind().map_err(io_at(delta))?;
    if tar_diff::is_tar_diff(&magic[..read]) {
        return apply_tar_diff(blob, tree, delta, output);
    }
    let reader = DeltaReader::open(blob, tree.into(), &limits()).map_err(at_delta)?;
    let wanted = reader.header().target;
    let mut measured = coracle_images::decompress::Measured::new(reader, limits().unpacked_bytes);
    let mut wrong = None;
    let mut size = 0;
    let written = files::write_with(output, Access::Public, |file| {
        // Pages of the program that only its beginning needed, or a kind of content that is rare, do not stay.
        while io::copy(&mut (&mut measured).take(STRETCH), file)? > 0 {
            memory::make_room();
        }
        let (found, bytes) = measured.finish();
        size = bytes;
        if found != wanted {
            wrong = Some(found);
            return Err(io::Error::other("the delta made something else"));
        }
        Ok(())
    });
    if let Some(found) = wrong {
        return Err(DeltaFileError::WrongResult {
            path: delta.to_owned(),
            wanted,
            found,
        });
    }
    written?;
    Ok((wanted, size))
}

fn apply_tar_diff(
    diff: File,
    tree: File,
    path: &Path,
    output: &Path,
) -> Result<(Sha256Digest, u64), DeltaFileError> {
    let mut failed = None;
    let written = files::write_with(output, Access::Public, |file| {
        let tree = tree.into();
        let applied = tar_diff::apply(io::BufReader::new(diff), tree, &limits(), file);
        applied.map(|_| ()).map_err(|source| {
            failed = Some(source);
            io::Error::other("the tar-diff could not be applied")
        })
    });
    if let Some(source) = failed {
        let path = path.to_owned();
        return Err(DeltaFileError::TarDiff { path, source });
    }
    written?;
    let made = File::open(output).map_err(io_at(output))?;
    let mut measured = coracle_images::decompress::Measured::new(made, u64::MAX);
    io::copy(&mut measured, &mut io::sink()).map_err(io_at(output))?;
    Ok(measured.finish())
}
