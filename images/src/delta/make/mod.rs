//! Making a delta: on the engineer's machine and in the console, never on a board.
//!
//! Memory: both tar streams, and what comparing takes ([`ahead`]): seven bytes for each old byte and five for each new
//! one of the files that are compared at once, which have 64 MiB together, or of one pair alone that has more, of which 256 MiB of
//! old bytes are sorted at a time (four of the seven). A file of 2 GiB and more goes as it is. Two threads compare, one writes. Where blocks are looked for that moved from one file into
//! another ([`moved`]): 28 MB for an index, 27 bytes for each byte of such a block, and two models of 4 MiB.

pub(super) mod ahead;
pub(super) mod base;
pub(super) mod compare;
mod expect;
mod headers;
pub(super) mod members;
mod moved;
pub(super) mod part;
mod samples;
mod search;
mod writer;

use std::io::{self, Read, Write};

use coracle_digest::Sha256Digest;
use lzma_rust2::{EncodeMode, LzmaOptions, LzmaWriter, MfType};

use super::format::{CONTROL_DICT, DeltaHeader, LZMA_LC, Section, Version, op};
use super::layout;
use crate::unpack::TarError;

use ahead::{Ways, with_recipes};
use base::BaseFiles;
use writer::Writer;

/// Why a delta can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The base is no layer that a board could have unpacked.
    #[error("reading the base layer")]
    Base(#[source] TarError),
    /// A stream can't be read, or the delta not written.
    #[error("reading a layer or writing the delta")]
    Io(#[from] io::Error),
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// What the delta says about itself.
    pub header: DeltaHeader,
    /// Bytes of the delta.
    pub size: u64,
    /// Bytes of the control, pieces and contents sections.
    pub sections: [u64; 3],
}

/// Writes the delta that makes `target` from the tree of `base`, both uncompressed tar streams.
pub fn make(
    base: impl Read,
    mut target: impl Read,
    mut out: impl Write,
) -> Result<Made, MakeError> {
    let (files, base_id) = BaseFiles::read(base)?;
    let mut tar = Vec::new();
    target.read_to_end(&mut tar)?;
    let mut writer = Writer::new();
    let ways = Ways {
        layout: layout::of_file,
        texts: true,
        cost: Some(writer::cost),
    };
    with_recipes(&files, &tar, ways, |recipes| {
        writer.layer(&files, recipes, &tar)
    })?;
    writer.control.push(op::END);

    let control = lzma(&writer.control, CONTROL_DICT)?;
    let pieces = writer.pieces.finish();
    let contents = writer.contents.finish();
    let header = DeltaHeader {
        base: base_id,
        target: Sha256Digest::of(&tar),
        target_size: tar.len() as u64,
        version: Version::Four,
        control: Section {
            packed: control.len() as u64,
            size: writer.control.len() as u64,
        },
        pieces: pieces.len() as u64,
        contents: contents.len() as u64,
    };
    let parts = [&header.bytes()[..], &control, &pieces, &contents];
    for part in parts {
        out.write_all(part)?;
    }
    out.flush()?;
    let sections = [
        control.len() as u64,
        pieces.len() as u64,
        contents.len() as u64,
    ];
    Ok(Made {
        header,
        size: parts.map(<[u8]>::len).iter().sum::<usize>() as u64,
        sections,
    })
}

fn lzma(bytes: &[u8], dict_size: u32) -> io::Result<Vec<u8>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let options = LzmaOptions {
        dict_size,
        lc: LZMA_LC,
        lp: 0,
        pb: 0,
        mode: EncodeMode::Normal,
        nice_len: 273,
        mf: MfType::Bt4,
        depth_limit: 512,
        preset_dict: None,
    };
    let mut writer =
        LzmaWriter::new_no_header(Vec::new(), &options, false).map_err(io::Error::other)?;
    writer.write_all(bytes)?;
    writer.finish().map_err(io::Error::other)
}
