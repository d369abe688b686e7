//! Frames: a 4-byte big-endian length and that much JSON.

use coracle_protocol::limits::LIMITS;
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why a frame cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The socket.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Too long.
    #[error("a frame of {got} bytes; the limit is {}", LIMITS.local_frame_bytes)]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not what was expected.
    #[error("a frame that cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// Reads one frame. Not to be cancelled: bytes that were read would be lost.
pub async fn read_frame<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<T, FrameError> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let got = u32::from_be_bytes(length) as usize;
    if got > LIMITS.local_frame_bytes {
        return Err(FrameError::TooLong { got });
    }
    let mut bytes = vec![0; got];
    from.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Writes one frame.
pub async fn write_frame<T: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    value: &T,
) -> Result<(), FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, value)?;
    let got = bytes.len() - 4;
    if got > LIMITS.local_frame_bytes {
        return Err(FrameError::TooLong { got });
    }
    bytes[..4].copy_from_slice(&(got as u32).to_be_bytes());
    Ok(to.write_all(&bytes).await?)
}
