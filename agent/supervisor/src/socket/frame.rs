//! Frames as [`coracle_protocol::local`] says: a 4-byte big-endian length and that much JSON.

use coracle_protocol::limits::LIMITS;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why a connection is ended.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side went, or the kernel.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// Refused before a byte of it is read.
    #[error("a frame of {got} bytes; the limit is {limit}")]
    TooLarge { got: usize, limit: usize },
    /// Not what the protocol says.
    #[error("not a call: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// The next frame; `None` when the other side closed between two.
pub async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, FrameError> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let got = u32::from_be_bytes(length) as usize;
    let limit = LIMITS.local_frame_bytes;
    if got > limit {
        return Err(FrameError::TooLarge { got, limit });
    }
    let mut bytes = vec![0; got];
    from.read_exact(&mut bytes).await?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// Sends one frame.
pub async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> Result<(), FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let (got, limit) = (bytes.len() - 4, LIMITS.local_frame_bytes);
    if got > limit {
        return Err(FrameError::TooLarge { got, limit });
    }
    bytes[..4].copy_from_slice(&(got as u32).to_be_bytes());
    Ok(to.write_all(&bytes).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn round_trip_limits_and_end() {
        let mut bytes = Vec::new();
        write(&mut bytes, &vec![1, 2]).await.unwrap();
        let mut from = &bytes[..];
        assert_eq!(read::<Vec<u8>>(&mut from).await.unwrap(), Some(vec![1, 2]));
        assert_eq!(read::<Vec<u8>>(&mut from).await.unwrap(), None);

        let mut huge = &[0xff, 0xff, 0xff, 0xff, b'{'][..];
        let error = read::<Vec<u8>>(&mut huge).await.unwrap_err();
        assert!(matches!(error, FrameError::TooLarge { .. }), "{error}");
        let mut cut = &[0, 0, 0, 9, b'['][..];
        assert!(matches!(
            read::<Vec<u8>>(&mut cut).await,
            Err(FrameError::Io(_))
        ));
        let mut garbage = &[0, 0, 0, 1, b'x'][..];
        assert!(matches!(
            read::<Vec<u8>>(&mut garbage).await,
            Err(FrameError::Malformed(_))
        ));
    }
}
