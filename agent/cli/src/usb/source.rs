//! What lies on a stick: a folder, or a vfat image, with or without a partition table. Only plain
//! files at fixed paths are read; nothing is written; no name from the stick is used.

use crate::failure::Failure;
use coracle_protocol::stick::{FOLDER, INDEX};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of a sector in a partition table.
const SECTOR: u64 = 512;

/// A stick.
pub struct Source {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Folder(PathBuf),
    Image(Box<fatfs::FileSystem<Window>>),
}

impl Source {
    /// Opens `path`: a folder that holds `coracle/stick.json` or `stick.json`, or an image.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let bad = |what: String| Failure::File {
            path: path.to_owned(),
            what,
        };
        let facts = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?;
        let kind = if facts.is_dir() {
            let inner = path.join(FOLDER);
            let folder = if inner.join(INDEX).exists() {
                inner
            } else {
                path.to_owned()
            };
            Kind::Folder(folder)
        } else {
            let file = File::open(path).map_err(|e| bad(e.to_string()))?;
            Kind::Image(Box::new(image(file).map_err(|e| {
                bad(format!("neither a folder nor a vfat image: {e}"))
            })?))
        };
        let path = path.to_owned();
        Ok(Self { path, kind })
    }

    /// Opens a file below the stick's folder; its bytes and their number.
    pub fn open_file(&self, parts: &[&str]) -> Result<(Box<dyn Read + '_>, u64), Failure> {
        let name = parts.join("/");
        let failed = |e: io::Error| self.failure(&name, e.to_string());
        match &self.kind {
            Kind::Folder(folder) => {
                let path = parts.iter().fold(folder.clone(), |p, part| p.join(part));
                // No link out of the stick, no device or pipe that never ends.
                let file = File::options()
                    .read(true)
                    .custom_flags(NO_FOLLOW | NON_BLOCK)
                    .open(path)
                    .map_err(failed)?;
                let facts = file.metadata().map_err(failed)?;
                if !facts.is_file() {
                    return Err(self.failure(&name, "is no plain file".into()));
                }
                Ok((Box::new(file.take(facts.len())), facts.len()))
            }
            Kind::Image(fs) => {
                let mut file = fs
                    .root_dir()
                    .open_file(&format!("{FOLDER}/{name}"))
                    .map_err(failed)?;
                let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
                file.seek(SeekFrom::Start(0)).map_err(failed)?;
                Ok((Box::new(file), size))
            }
        }
    }

    /// A failure that names the file.
    pub fn failure(&self, name: &str, what: String) -> Failure {
        Failure::File {
            path: self.path.join(name),
            what,
        }
    }
}

/// `O_NOFOLLOW` and `O_NONBLOCK` (fcntl.h); the former differs on ARM.
const NO_FOLLOW: i32 = if cfg!(any(target_arch = "arm", target_arch = "aarch64")) {
    0o100_000
} else {
    0o400_000
};
const NON_BLOCK: i32 = 0o4000;

/// The file system in an image: all of it, or the first FAT partition of an MBR.
fn image(mut file: File) -> io::Result<fatfs::FileSystem<Window>> {
    let size = file.seek(SeekFrom::End(0))?;
    let mut sector = [0; SECTOR as usize];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut sector)?;
    let open = |file: File, start| {
        let mut window = Window { file, start };
        window.seek(SeekFrom::Start(0))?;
        fatfs::FileSystem::new(window, fatfs::FsOptions::new())
    };
    match open(file.try_clone()?, 0) {
        Ok(fs) => Ok(fs),
        Err(whole) => {
            // Partition entry: type at 4, first sector at 8, little-endian.
            let entries = sector[446..510].chunks_exact(16);
            let fat = |e: &&[u8]| matches!(e[4], 0x01 | 0x04 | 0x06 | 0x0b | 0x0c | 0x0e);
            let first = entries.into_iter().find(fat).ok_or(whole)?;
            let start = u32::from_le_bytes([first[8], first[9], first[10], first[11]]);
            let start = u64::from(start) * SECTOR;
            if start == 0 || start >= size {
                return Err(io::Error::other("its partition lies outside the image"));
            }
            open(file, start)
        }
    }
}

/// A file from `start` on, which cannot be written.
struct Window {
    file: File,
    start: u64,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Write for Window {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(
                at.checked_add(self.start)
                    .ok_or(io::ErrorKind::InvalidInput)?,
            ),
            other => other,
        };
        let at = self.file.seek(to)?;
        at.checked_sub(self.start)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_on_a_stick_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("coracle");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("stick.json"), "{}").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", inner.join("link")).unwrap();
        let source = Source::open(folder.path()).unwrap();
        assert_eq!(source.open_file(&["stick.json"]).unwrap().1, 2);
        assert!(source.open_file(&["link"]).is_err());
        assert!(source.open_file(&["gone"]).is_err());
    }

    #[test]
    fn an_image_is_read_with_and_without_a_partition_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stick.img");
        const START: u64 = 2048 * SECTOR;
        for start in [0, START] {
            let file = File::options()
                .create(true)
                .truncate(true)
                .read(true)
                .write(true)
                .open(&path)
                .unwrap();
            file.set_len(start + (4 << 20)).unwrap();
            let mut disk = WritableWindow(Window {
                file: file.try_clone().unwrap(),
                start,
            });
            disk.seek(SeekFrom::Start(0)).unwrap();
            let options = fatfs::FormatVolumeOptions::new().total_sectors((4 << 20) / 512);
            fatfs::format_volume(&mut disk, options).unwrap();
            disk.seek(SeekFrom::Start(0)).unwrap();
            {
                let fs = fatfs::FileSystem::new(disk, fatfs::FsOptions::new()).unwrap();
                let coracle = fs.root_dir().create_dir("coracle").unwrap();
                let mut index = coracle.create_file("stick.json").unwrap();
                index.write_all(b"12345").unwrap();
            }
            if start > 0 {
                let mut entry = [0; 16];
                entry[4] = 0x0c;
                entry[8..12].copy_from_slice(&2048u32.to_le_bytes());
                let mut table = [0; 512];
                table[446..462].copy_from_slice(&entry);
                table[510..].copy_from_slice(&[0x55, 0xaa]);
                let mut file = &file;
                file.seek(SeekFrom::Start(0)).unwrap();
                file.write_all(&table).unwrap();
            }
            let source = Source::open(&path).unwrap();
            let (mut file, size) = source.open_file(&["stick.json"]).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), size), ("12345", 5));
        }
    }

    struct WritableWindow(Window);

    impl Read for WritableWindow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for WritableWindow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.file.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Seek for WritableWindow {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }
}
