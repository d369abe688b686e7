//! Tar bytes on their way into a blob: hashed before and after compression.

use std::io::{self, Write};

use coracle_digest::{Hasher, Sha256Digest};
use flate2::GzBuilder;
use flate2::write::GzEncoder;

use super::{BuildError, Compression};
use crate::layout::Layout;
use crate::store::Incoming;

/// Window of zstd, log2: 8 MiB, the most that a decoder must have (RFC 8878, 3.1.1.1.2).
const ZSTD_WINDOW_LOG: u32 = 23;

enum Sink {
    Plain(Incoming),
    Gzip(GzEncoder<Incoming>),
    Zstd(zstd::Encoder<'static, Incoming>),
}

/// Compresses what is written to it into a blob of the layout.
pub(crate) struct Packer {
    sink: Sink,
    hasher: Hasher,
    tar_bytes: u64,
}

/// A blob that was packed.
pub(crate) struct Packed {
    pub(crate) digest: Sha256Digest,
    pub(crate) size: u64,
    pub(crate) diff_id: Sha256Digest,
    pub(crate) tar_bytes: u64,
}

impl Packer {
    pub(crate) fn new(layout: &Layout, compression: Compression) -> Result<Self, BuildError> {
        let blob = layout.store().incoming()?;
        let sink = match compression {
            Compression::None => Sink::Plain(blob),
            // No name, no time: the header must not depend on the day.
            Compression::Gzip(level) => Sink::Gzip(
                GzBuilder::new()
                    .mtime(0)
                    .write(blob, flate2::Compression::new(level)),
            ),
            Compression::Zstd(level) => {
                Sink::Zstd(zstd_encoder(blob, level).map_err(BuildError::Compress)?)
            }
        };
        Ok(Self {
            sink,
            hasher: Hasher::new(),
            tar_bytes: 0,
        })
    }

    pub(crate) fn finish(self, layout: &Layout) -> Result<Packed, BuildError> {
        let blob = match self.sink {
            Sink::Plain(blob) => Ok(blob),
            Sink::Gzip(encoder) => encoder.finish(),
            Sink::Zstd(encoder) => encoder.finish(),
        };
        let (digest, size) = layout.store().accept(blob.map_err(BuildError::Compress)?)?;
        Ok(Packed {
            digest,
            size,
            diff_id: self.hasher.finish(),
            tar_bytes: self.tar_bytes,
        })
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.sink {
            Sink::Plain(blob) => blob.write_all(bytes)?,
            Sink::Gzip(encoder) => encoder.write_all(bytes)?,
            Sink::Zstd(encoder) => encoder.write_all(bytes)?,
        }
        self.hasher.update(bytes);
        self.tar_bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn zstd_encoder(blob: Incoming, level: i32) -> io::Result<zstd::Encoder<'static, Incoming>> {
    let mut encoder = zstd::Encoder::new(blob, level)?;
    encoder.window_log(ZSTD_WINDOW_LOG)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}
