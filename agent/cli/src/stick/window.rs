//! The part of a file or block device that holds a file system: readable only, unless a result is to be left, and with a budget of
//! accesses, so that a folder whose clusters form a ring ends in an error and not never.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

const SECTOR: u64 = 512;

/// Accesses for one look into a folder or one piece of a file. A folder of 16384 blobs has some
/// 115000 entries of 32 bytes, each read in about 12 accesses.
const ACCESSES: u64 = 4_000_000;

/// Accesses that are left.
#[derive(Clone)]
pub struct Budget(Rc<Cell<u64>>);

impl Budget {
    /// For the next operation.
    pub fn refill(&self) {
        self.0.set(ACCESSES);
    }

    fn spend(&self) -> io::Result<()> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.unwrap_or(0));
        left.map(drop)
            .ok_or_else(|| invalid("a folder or a file has no end"))
    }
}

/// The part.
pub struct Window {
    file: File,
    start: u64,
    length: u64,
    at: u64,
    budget: Budget,
    writable: bool,
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Window {
    /// The whole of `file` when it begins with a FAT boot sector, else its first FAT partition.
    pub fn of_file_system(mut file: File) -> io::Result<Self> {
        // A block device has no length of its own in its metadata.
        let length = file.seek(SeekFrom::End(0))?;
        let mut sector = [0; SECTOR as usize];
        file.read_exact_at(&mut sector, 0)
            .map_err(|_| invalid("it is shorter than a boot sector"))?;
        let (start, length) = match is_boot_sector(&sector) {
            true => (0, length),
            false => partition(&sector, length)?,
        };
        let budget = Budget(Rc::new(Cell::new(ACCESSES)));
        Ok(Self {
            file,
            start,
            length,
            at: 0,
            budget,
            writable: false,
        })
    }

    /// The same, for whoever leaves something there.
    pub fn writable(self) -> Self {
        Self {
            writable: true,
            ..self
        }
    }

    /// What its readers share.
    pub fn budget(&self) -> Budget {
        self.budget.clone()
    }
}

/// Microsoft's FAT specification, section 3.1: jump, bytes per sector, sectors per cluster.
fn is_boot_sector(sector: &[u8; SECTOR as usize]) -> bool {
    let bytes = u16::from_le_bytes([sector[11], sector[12]]);
    sector[510..] == [0x55, 0xaa]
        && matches!(sector[0], 0xeb | 0xe9)
        && matches!(bytes, 512 | 1024 | 2048 | 4096)
        && sector[13].is_power_of_two()
}

/// The first FAT partition of a table in sector 0: four entries of 16 bytes from byte 446; type in
/// byte 4, first sector and length, in sectors, in bytes 8 and 12.
fn partition(sector: &[u8; SECTOR as usize], length: u64) -> io::Result<(u64, u64)> {
    const FAT_TYPES: [u8; 6] = [0x01, 0x04, 0x06, 0x0b, 0x0c, 0x0e];
    if sector[510..] != [0x55, 0xaa] {
        return Err(invalid(
            "it has neither a boot sector nor a table of partitions",
        ));
    }
    let number = |entry: &[u8], at: usize| {
        let bytes = [entry[at], entry[at + 1], entry[at + 2], entry[at + 3]];
        u64::from(u32::from_le_bytes(bytes)) * SECTOR
    };
    let entries = sector[446..510].chunks_exact(16);
    let fat = entries.filter(|entry| FAT_TYPES.contains(&entry[4]));
    let mut parts = fat.map(|entry| (number(entry, 8), number(entry, 12)));
    let (start, size) = parts
        .next()
        .ok_or_else(|| invalid("it has no FAT partition"))?;
    match start.checked_add(size) {
        Some(end) if end <= length => Ok((start, size)),
        _ => Err(invalid("its FAT partition lies beyond its end")),
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.budget.spend()?;
        let left = self.length.saturating_sub(self.at);
        let want = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let got = self
            .file
            .read_at(&mut buffer[..want], self.start + self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.budget.spend()?;
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at
            .filter(|at| *at <= self.length)
            .ok_or_else(|| invalid("it points beyond its end"))?;
        Ok(self.at)
    }
}

/// Within the part, and only where a result is left.
impl Write for Window {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.budget.spend()?;
        let left = usize::try_from(self.length - self.at).unwrap_or(usize::MAX);
        let fits = &bytes[..bytes.len().min(left)];
        let put = self.file.write_at(fits, self.start + self.at)?;
        self.at += put as u64;
        Ok(put)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
