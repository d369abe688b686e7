//! The stick's folder as a vfat image, to be written to a stick as it is (`dd`, balenaEtcher, …).
//! Without a partition table, as sticks from the factory often come.

use super::StickError;
use crate::files::{self, Access};
use crate::progress;
use coracle_protocol::stick::FOLDER;
use fatfs::{Date, DateTime, Dir, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The volume's label.
pub const LABEL: &[u8; 11] = b"CORACLE    ";

/// Largest file on vfat.
const FILE_BYTES: u64 = u32::MAX as u64;
/// Least size of the image: small volumes get a FAT12 that some firmware does not read.
const LEAST: u64 = 34 << 20;
/// A file's share beside its bytes: half a cluster of 32 KiB at worst twice, and names.
const PER_FILE: u64 = 64 << 10;

/// Writes `dir` as a vfat image.
pub fn write(dir: &Path, image: &Path) -> Result<u64, StickError> {
    write_at_least(LEAST, dir, image)
}

fn write_at_least(least: u64, dir: &Path, image: &Path) -> Result<u64, StickError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StickError::Io { path, source }
    };
    let (bytes, count) = measure(dir).map_err(failed(dir))?;
    // A hundredth for the allocation tables: four bytes for each cluster of 4 KiB, twice.
    let size = (bytes + bytes / 100 + count * PER_FILE + (1 << 20))
        .max(least)
        .next_multiple_of(1 << 20);
    let bar = progress::bytes("writing the image", bytes);
    files::write_with(image, Access::Public, |file| {
        file.set_len(size)?;
        let mut disk = Disk::new(file);
        let options = FormatVolumeOptions::new()
            .volume_label(*LABEL)
            // The same stick, the same image.
            .volume_id(0x434f_5241);
        fatfs::format_volume(&mut disk, options)?;
        disk.seek(SeekFrom::Start(0))?;
        let volume = FileSystem::new(
            disk,
            FsOptions::new()
                .update_accessed_date(false)
                .time_provider(&Epoch),
        )?;
        copy_folder(dir, &volume.root_dir(), &bar)?;
        volume.unmount()?;
        super::dots::repair(file, &[FOLDER, "blobs", "sha256"])
    })?;
    bar.finish_and_clear();
    Ok(size)
}

/// The first day that vfat knows, for every file: the same stick, the same image.
#[derive(Debug)]
struct Epoch;

impl TimeProvider for Epoch {
    fn get_current_date(&self) -> Date {
        Date {
            year: 1980,
            month: 1,
            day: 1,
        }
    }
    fn get_current_date_time(&self) -> DateTime {
        DateTime {
            date: self.get_current_date(),
            time: Time {
                hour: 0,
                min: 0,
                sec: 0,
                millis: 0,
            },
        }
    }
}

/// Bytes and number of all files and folders.
fn measure(dir: &Path) -> io::Result<(u64, u64)> {
    let (mut bytes, mut count) = (0, 0);
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        count += 1;
        if facts.is_dir() {
            let (inner, more) = measure(&entry.path())?;
            bytes += inner;
            count += more;
        } else if facts.len() > FILE_BYTES {
            let name = entry.file_name();
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!(
                    "{} has {} bytes; a file on vfat ends below 4 GiB",
                    name.display(),
                    facts.len()
                ),
            ));
        } else {
            bytes += facts.len();
        }
    }
    Ok((bytes, count))
}

fn copy_folder(
    from: &Path,
    to: &Dir<'_, Disk<'_>>,
    bar: &indicatif::ProgressBar,
) -> io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(from)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let name = entry.file_name();
        let name = name
            .to_str()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a name is no text"))?;
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to.create_dir(name)?, bar)?;
            continue;
        }
        let mut source = progress::reading(bar, File::open(entry.path())?);
        let mut file = to.create_file(name)?;
        file.truncate()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = source.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read])?;
        }
        file.flush()?;
    }
    Ok(())
}

/// The image file: writes that follow each other are gathered, since vfat writes a cluster at a time.
struct Disk<'a> {
    file: BufWriter<&'a mut File>,
    at: u64,
}

impl<'a> Disk<'a> {
    fn new(file: &'a mut File) -> Self {
        Self {
            file: BufWriter::with_capacity(1 << 20, file),
            at: 0,
        }
    }
}

impl Read for Disk<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.flush()?;
        let read = self.file.get_mut().read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Write for Disk<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.at += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Disk<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let here = match to {
            SeekFrom::Start(at) => at == self.at,
            SeekFrom::Current(by) => by == 0,
            SeekFrom::End(_) => false,
        };
        if !here {
            self.at = self.file.seek(to)?;
        }
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FAT16 and FAT32: another implementation finds no damage, and reads the long names.
    #[test]
    fn small_and_large_volumes_are_whole() {
        for least in [LEAST, 600 << 20] {
            let dir = tempfile::tempdir().unwrap();
            let blobs = dir.path().join("stick/coracle/blobs/sha256");
            std::fs::create_dir_all(&blobs).unwrap();
            for n in 0..100 {
                let name = format!("{n:064x}");
                std::fs::write(blobs.join(name), vec![n; 1000 * usize::from(n)]).unwrap();
            }
            let image = dir.path().join("image");
            write_at_least(least, &dir.path().join("stick"), &image).unwrap();
            let output = std::process::Command::new("/usr/sbin/fsck.vfat")
                .args(["-n", "-v"])
                .arg(&image)
                .output()
                .expect("this test needs fsck.vfat (Debian: dosfstools)");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            for bad in [
                "Invalid",
                "Bad",
                "Expected",
                "wrong",
                "differences",
                "Fixing",
            ] {
                assert!(!said.contains(bad), "{said}");
            }
            let bits = if least == LEAST {
                "16 bit entries"
            } else {
                "32 bit entries"
            };
            assert!(said.contains(bits) && said.contains("104 files"), "{said}");
        }
    }
}
