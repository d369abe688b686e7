//! Images in one file, or in another layout, and whence it is read: a file, a folder or a pipe.

use crate::files::{self, Access, FileError};
use crate::image::{ImageError, at, limits, open};
use crate::progress;
use coracle_images::archive::{self as archives, ArchiveError, Format, Import, Imported};
use coracle_images::layout::{Layout, Platform};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

/// Why an image was not imported or exported.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
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
    /// The layout.
    #[error("{0}")]
    Layout(#[from] ImageError),
    /// What is in the archive, or what was to be.
    #[error("{0}")]
    Archive(#[from] ArchiveError),
    /// Nobody writes to the pipe.
    #[error("`-` reads an archive from stdin, which is a terminal: `docker save IMAGE | …`")]
    Terminal,
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> TransferError {
    let path = path.to_owned();
    move |source| TransferError::Io { path, source }
}

/// Takes the images of `source`, an archive, a folder with an OCI layout, or `-` for stdin, into the layout `output`.
pub fn import(
    source: &Path,
    output: &Path,
    wanted: &Import,
) -> Result<Vec<Imported>, TransferError> {
    let from: Box<dyn Read> = if source == Path::new("-") {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(TransferError::Terminal);
        }
        Box::new(stdin)
    } else if source.is_dir() {
        open(source)?;
        Box::new(as_archive(source).map_err(io_at(source))?)
    } else {
        Box::new(File::open(source).map_err(io_at(source))?)
    };
    let layout = Layout::create(output, &limits()).map_err(at(output))?;
    let bar = progress::work(&format!("importing {}", source.display()));
    let imported = archives::import(from, &layout, wanted)?;
    bar.finish_and_clear();
    Ok(imported)
}

/// A folder as the tar of it. What fails there ends the archive too early, and whoever reads it says so.
fn as_archive(folder: &Path) -> io::Result<impl Read + use<>> {
    let (reader, writer) = io::pipe()?;
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        let mut tar = tar::Builder::new(BufWriter::new(writer));
        let written = ["oci-layout", "index.json"]
            .into_iter()
            .try_for_each(|name| tar.append_path_with_name(folder.join(name), name))
            .and_then(|()| tar.append_dir_all("blobs", folder.join("blobs")));
        // Without its end it is known to be cut off.
        written.and_then(|()| tar.into_inner()?.flush())
    });
    Ok(reader)
}

/// Writes the image `name` of the layout `images` to `output`, or to stdout when that is `-`.
pub fn export(
    images: &Path,
    name: &str,
    machine: &Platform,
    format: Format,
    output: &Path,
) -> Result<(), TransferError> {
    let layout = open(images)?;
    let write = |out: &mut dyn Write| {
        let out = BufWriter::new(out);
        archives::export(&layout, name, machine, format, &limits(), out)
    };
    if output == Path::new("-") {
        return Ok(write(&mut io::stdout().lock())?);
    }
    let mut failed = None;
    let written = files::write_with(output, Access::Public, |file| {
        write(file).map_err(|error| {
            failed = Some(error);
            io::Error::other("the image could not be written")
        })
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok(written?)
}
