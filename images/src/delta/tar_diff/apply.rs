//! A tar-diff's operations, carried out.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use super::{MAGIC, TarDiffError, op};
use crate::delta::apply::source::{Source, Sources};
use crate::limits::Limits;

/// Largest window that is taken, log2: as much as `zstd -d` does. Encoders of other tools ask for 32 MiB.
const WINDOW_LOG: u32 = 27;

/// Bytes moved at once.
const CHUNK: usize = 32 << 10;

/// Writes the tar stream that a tar-diff makes from `base`, the older layer's unpacked tree; returns its bytes.
/// Whether they are right nobody knows but who has their digest.
pub fn apply(
    mut diff: impl Read,
    base: OwnedFd,
    limits: &Limits,
    out: &mut impl Write,
) -> Result<u64, TarDiffError> {
    let mut magic = [0; 8];
    diff.read_exact(&mut magic)
        .map_err(|_| TarDiffError::Magic)?;
    if magic != *MAGIC {
        let other = super::is_tar_diff(&magic) && magic[6..] == MAGIC[6..];
        return Err(match other {
            true => TarDiffError::Version(magic[5].into()),
            false => TarDiffError::Magic,
        });
    }
    let mut diff = zstd::stream::read::Decoder::new(diff)?;
    diff.window_log_max(WINDOW_LOG)?;
    let mut sources = Sources::new(base, limits);
    let mut made = 0u64;
    let mut buffer = vec![0; CHUNK];
    let mut old = vec![0; CHUNK];
    let mut opcode = [0];
    while diff.read(&mut opcode)? == 1 {
        let size = number(&mut diff)?;
        if matches!(opcode[0], op::DATA | op::COPY | op::ADD_DATA) {
            made = made.saturating_add(size);
            if made > limits.unpacked_bytes {
                return Err(TarDiffError::TooLarge(limits.unpacked_bytes));
            }
        }
        match opcode[0] {
            op::OPEN => {
                if size > limits.path_bytes as u64 {
                    return Err(TarDiffError::Malformed("a path is too long"));
                }
                let mut path = vec![0; size as usize];
                diff.read_exact(&mut path)?;
                sources.open(&path).map_err(TarDiffError::Source)?;
                continue;
            }
            op::SEEK => {
                current(&mut sources)?.at = size;
                continue;
            }
            op::DATA | op::COPY | op::ADD_DATA => {}
            _ => return Err(TarDiffError::Malformed("unknown operation")),
        }
        let mut left = size;
        while left > 0 {
            let now = left.min(CHUNK as u64) as usize;
            let new = &mut buffer[..now];
            match opcode[0] {
                op::COPY => read(current(&mut sources)?, new)?,
                _ => diff.read_exact(new)?,
            }
            if opcode[0] == op::ADD_DATA {
                read(current(&mut sources)?, &mut old[..now])?;
                for (new, old) in new.iter_mut().zip(&old) {
                    *new = new.wrapping_add(*old);
                }
            }
            out.write_all(new)?;
            left -= now as u64;
        }
    }
    Ok(made)
}

fn current(sources: &mut Sources) -> Result<&mut Source, TarDiffError> {
    sources.current().map_err(TarDiffError::Source)
}

fn read(source: &mut Source, buffer: &mut [u8]) -> Result<(), TarDiffError> {
    if source.at.checked_add(buffer.len() as u64).is_none() {
        return Err(TarDiffError::Malformed("a place beyond all files"));
    }
    source.read(buffer).map_err(TarDiffError::Source)
}

/// A protocol-buffers varint of up to 64 bits.
fn number(source: &mut impl Read) -> Result<u64, TarDiffError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        source.read_exact(&mut byte)?;
        let bits = u64::from(byte[0] & 127);
        if bits << shift >> shift != bits {
            break;
        }
        number |= bits << shift;
        if byte[0] < 128 {
            return Ok(number);
        }
    }
    Err(TarDiffError::Malformed("a number has more than 64 bits"))
}
