//! Serves a [`Disk`] to QEMU: the baseline of the NBD protocol (nbd, doc/proto.md), fixed newstyle, one client, with
//! flush and without FUA, so that each demand for durability is a flush in the disk's log.

use super::disk::Disk;
use anyhow::{Context, Result};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const OPT_EXPORT_NAME: u32 = 1;
const OPT_ABORT: u32 = 2;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_ERR_UNSUP: u32 = 0x8000_0001;
/// HAS_FLAGS and SEND_FLUSH.
const TRANSMISSION: u16 = 1 | 4;
/// FIXED_NEWSTYLE and NO_ZEROES.
const HANDSHAKE: u16 = 1 | 2;
/// More than QEMU asks for at once.
const LONGEST: usize = 64 << 20;
const EINVAL: u32 = 22;
const EIO: u32 = 5;

/// A server, for as long as the client stays.
pub struct Server {
    pub socket: PathBuf,
    pub disk: Arc<Mutex<Disk>>,
}

impl Server {
    pub fn start(disk: Disk, socket: &Path) -> Result<Server> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).with_context(|| socket.display().to_string())?;
        let disk = Arc::new(Mutex::new(disk));
        let served = disk.clone();
        std::thread::spawn(move || {
            if let Ok((stream, _)) = listener.accept() {
                // Its end is the client's: a killed QEMU hangs up in the middle of a word.
                let _ = serve(stream, &served);
            }
        });
        Ok(Server {
            socket: socket.to_owned(),
            disk,
        })
    }
}

struct Wire(UnixStream);

impl Wire {
    fn u16(&mut self) -> io::Result<u16> {
        let mut bytes = [0; 2];
        self.0.read_exact(&mut bytes)?;
        Ok(u16::from_be_bytes(bytes))
    }
    fn u32(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.0.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }
    fn u64(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }
    fn bytes(&mut self, length: u32) -> io::Result<Vec<u8>> {
        let length = length as usize;
        if length > LONGEST {
            return Err(io::Error::other(format!("{length} bytes at once")));
        }
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }
    fn option_reply(&mut self, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
        let mut reply = OPTION_REPLY.to_be_bytes().to_vec();
        reply.extend(option.to_be_bytes());
        reply.extend(kind.to_be_bytes());
        reply.extend((data.len() as u32).to_be_bytes());
        reply.extend(data);
        self.0.write_all(&reply)
    }
}

fn serve(stream: UnixStream, disk: &Mutex<Disk>) -> io::Result<()> {
    let mut wire = Wire(stream);
    let size = locked(disk).size;
    if !agree(&mut wire, size)? {
        return Ok(());
    }
    loop {
        let magic = wire.u32()?;
        if magic != REQUEST {
            return Err(io::Error::other(format!(
                "a request begins with {magic:#x}"
            )));
        }
        let (_flags, kind, handle) = (wire.u16()?, wire.u16()?, wire.u64()?);
        let (offset, length) = (wire.u64()?, wire.u32()?);
        let payload = match kind {
            1 => wire.bytes(length)?,
            _ => Vec::new(),
        };
        let mut disk = locked(disk);
        if disk.is_dead() {
            continue;
        }
        let mut data = Vec::new();
        let done = match kind {
            0 if length as usize <= LONGEST => {
                data = vec![0; length as usize];
                disk.read(offset, &mut data)
            }
            1 => disk.write(offset, payload),
            2 => return Ok(()),
            3 => {
                disk.flush();
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        };
        // Answered only by a disk that still has power.
        let dead = disk.is_dead();
        drop(disk);
        if dead {
            continue;
        }
        let error = match &done {
            Ok(()) => 0,
            Err(fault) if fault.kind() == io::ErrorKind::InvalidInput => EINVAL,
            Err(_) => EIO,
        };
        let mut reply = REPLY.to_be_bytes().to_vec();
        reply.extend(error.to_be_bytes());
        reply.extend(handle.to_be_bytes());
        if error == 0 {
            reply.extend(data);
        }
        wire.0.write_all(&reply)?;
    }
}

/// Handshake and options; whether a transmission follows.
fn agree(wire: &mut Wire, size: u64) -> io::Result<bool> {
    wire.0.write_all(b"NBDMAGIC")?;
    wire.0.write_all(&IHAVEOPT.to_be_bytes())?;
    wire.0.write_all(&HANDSHAKE.to_be_bytes())?;
    let _client_flags = wire.u32()?;
    let mut export = size.to_be_bytes().to_vec();
    export.extend(TRANSMISSION.to_be_bytes());
    loop {
        let (_magic, option, length) = (wire.u64()?, wire.u32()?, wire.u32()?);
        let _data = wire.bytes(length)?;
        match option {
            OPT_EXPORT_NAME => {
                wire.0.write_all(&export)?;
                return Ok(true);
            }
            OPT_GO => {
                // NBD_INFO_EXPORT is 0.
                let info: Vec<u8> = [0, 0].into_iter().chain(export).collect();
                wire.option_reply(option, REP_INFO, &info)?;
                wire.option_reply(option, REP_ACK, &[])?;
                return Ok(true);
            }
            OPT_ABORT => {
                wire.option_reply(option, REP_ACK, &[])?;
                return Ok(false);
            }
            _ => wire.option_reply(option, REP_ERR_UNSUP, &[])?,
        }
    }
}

pub fn locked(disk: &Mutex<Disk>) -> std::sync::MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}
