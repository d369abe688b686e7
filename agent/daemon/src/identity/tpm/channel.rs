//! One command and its answer. The TPM is a device, or a unix socket behind which one is (swtpm, a proxy): both take a
//! command's bytes and give the answer's.

use super::wire::{self, ANSWER_LIMIT, Answer, HEADER};
use super::{TpmError, codes};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For a socket; the kernel has limits of its own for a device.
const PATIENCE: Duration = Duration::from_secs(10);
/// A TPM that is busy is asked again so often.
const TRIES: usize = 6;
const PAUSE: Duration = Duration::from_millis(100);

/// An open TPM. What was loaded through it goes with it: behind a socket there may be nobody who tidies up.
pub(super) struct Channel {
    file: File,
    device: PathBuf,
    loaded: Vec<u32>,
}

impl Channel {
    pub(super) fn open(device: &Path) -> Result<Self, TpmError> {
        let at = |source| TpmError::Io {
            device: device.to_owned(),
            source,
        };
        let file = open(device).map_err(at)?;
        Ok(Self {
            file,
            device: device.to_owned(),
            loaded: Vec::new(),
        })
    }

    /// The parent of all keys.
    pub(super) fn primary(&mut self) -> Result<u32, TpmError> {
        let parameters = wire::creation(&wire::parent_template());
        self.load(
            "its owner's key",
            wire::CREATE_PRIMARY,
            &[wire::OWNER],
            &parameters,
        )
    }

    /// A command that answers with a handle.
    pub(super) fn load(
        &mut self,
        step: &'static str,
        code: u32,
        handles: &[u32],
        parameters: &[u8],
    ) -> Result<u32, TpmError> {
        let answer = self.ask(step, &wire::command(code, handles, parameters), true)?;
        let handle = answer.handle.ok_or(TpmError::Answer {
            step,
            what: "no handle",
        })?;
        self.loaded.push(handle);
        Ok(handle)
    }

    /// A command that answers with parameters alone.
    pub(super) fn run(
        &mut self,
        step: &'static str,
        code: u32,
        handles: &[u32],
        parameters: &[u8],
    ) -> Result<Vec<u8>, TpmError> {
        let command = wire::command(code, handles, parameters);
        Ok(self.ask(step, &command, false)?.parameters)
    }

    fn ask(
        &mut self,
        step: &'static str,
        command: &[u8],
        has_handle: bool,
    ) -> Result<Answer, TpmError> {
        let mut tries = 1;
        loop {
            let bytes = self.exchange(command).map_err(|source| TpmError::Io {
                device: self.device.clone(),
                source,
            })?;
            let answer = wire::answer(&bytes, has_handle).ok_or(TpmError::Answer {
                step,
                what: "bytes whose lengths do not fit",
            })?;
            match answer.code {
                0 => return Ok(answer),
                code if codes::is_busy(code) && tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                }
                code => return Err(TpmError::Refused { step, code }),
            }
        }
    }

    /// A device gives the whole answer to one read; a socket may give it in parts.
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.file.write_all(command)?;
        let mut bytes = vec![0; ANSWER_LIMIT];
        let mut have = 0;
        loop {
            let room = bytes.get_mut(have..).unwrap_or_default();
            match self.file.read(room) {
                Ok(0) => break,
                Ok(count) => have += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let size = bytes.get(2..6).and_then(|size| size.try_into().ok());
            let size = size.map_or(0, u32::from_be_bytes) as usize;
            if have >= HEADER && have >= size {
                break;
            }
        }
        bytes.truncate(have);
        Ok(bytes)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        while let Some(handle) = self.loaded.pop() {
            let command = wire::command(wire::FLUSH, &[], &handle.to_be_bytes());
            if self.exchange(&command).is_err() {
                return;
            }
        }
    }
}

fn open(device: &Path) -> io::Result<File> {
    if std::fs::metadata(device)?.file_type().is_socket() {
        let stream = UnixStream::connect(device)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        return Ok(File::from(OwnedFd::from(stream)));
    }
    File::options().read(true).write(true).open(device)
}
