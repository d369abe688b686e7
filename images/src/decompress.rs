//! Layer blobs as a stream of tar bytes, with a bound on what comes out.

use std::io::{self, BufReader, Read};

use coracle_digest::{Hasher, Sha256Digest};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::layout::LayerType;
use crate::limits::Limits;

/// Bytes read from the blob at once: one erase-block-friendly request, small in a board's memory.
const READ_BUFFER: usize = 64 << 10;

/// The tar bytes of `blob`. Nothing bounds the output here; see [`Measured`].
pub fn tar_stream<'a, R: Read + 'a>(
    blob: R,
    layer: LayerType,
    limits: &Limits,
) -> Box<dyn Read + 'a> {
    let blob = BufReader::with_capacity(READ_BUFFER, blob);
    match layer {
        LayerType::Tar => Box::new(blob),
        LayerType::TarGzip => Box::new(MultiGzDecoder::new(blob)),
        LayerType::TarZstd => Box::new(ZstdReader::new(blob, limits.zstd_window_bytes)),
    }
}

/// All frames of a zstd stream (RFC 8878, 3.1), skippable ones left out.
struct ZstdReader<R> {
    source: BufReader<R>,
    decoder: FrameDecoder,
    started: bool,
}

impl<R: Read> ZstdReader<R> {
    fn new(source: BufReader<R>, window: u64) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(window);
        Self {
            source,
            decoder,
            started: false,
        }
    }

    /// Begins the next frame; false at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        use io::BufRead;
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
    }
}

impl<R: Read> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.started {
                while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                    self.decoder
                        .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                }
                if self.decoder.can_collect() > 0 {
                    return self.decoder.read(buffer);
                }
            }
            if !self.next_frame()? {
                return Ok(0);
            }
            self.started = true;
        }
    }
}

/// A stream that is hashed and counted while it is read, and stops with an error at a limit.
pub struct Measured<R> {
    inner: R,
    hasher: Hasher,
    count: u64,
    limit: u64,
}

/// The stream went on beyond its limit. Inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("the uncompressed layer is longer than the {limit} bytes allowed")]
pub struct StreamTooLong {
    /// Bytes allowed.
    pub limit: u64,
}

impl<R: Read> Measured<R> {
    /// Measures `inner`; the byte after `limit` is an error.
    pub fn new(inner: R, limit: u64) -> Self {
        Self {
            inner,
            hasher: Hasher::new(),
            count: 0,
            limit,
        }
    }

    /// Digest and number of the bytes read so far.
    pub fn finish(self) -> (Sha256Digest, u64) {
        (self.hasher.finish(), self.count)
    }
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count += read as u64;
        if self.count > self.limit {
            return Err(io::Error::other(StreamTooLong { limit: self.limit }));
        }
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
