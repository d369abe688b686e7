//! The archive that the kernel unpacks into its first file system: cpio, "newc" form (kernel,
//! Documentation/driver-api/early-userspace/buffer-format.rst).

/// An archive being written. Folders above an entry are made with it.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    folders: Vec<String>,
}

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

impl Archive {
    /// Paths have no leading slash.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.folders_above(path);
        self.entry(path, FILE | mode, (0, 0), content);
    }

    pub fn link(&mut self, path: &str, to: &str) {
        self.folders_above(path);
        self.entry(path, LINK, (0, 0), to.as_bytes());
    }

    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.folders_above(path);
        self.entry(path, CHARACTER_DEVICE, (major, minor), &[]);
    }

    pub fn folder(&mut self, path: &str) {
        self.folders_above(path);
        if !self.folders.iter().any(|known| known == path) {
            self.entry(path, FOLDER, (0, 0), &[]);
            self.folders.push(path.to_owned());
        }
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn folders_above(&mut self, path: &str) {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        // ino, mode, uid, gid, nlink, mtime, filesize, major, minor, rmajor, rminor, namesize, check
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            u32::try_from(content.len()).expect("an initramfs file below 4 GiB"),
            0,
            0,
            device.0,
            device.1,
            path.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Name and content each end on a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_as_the_format_says() {
        let mut archive = Archive::default();
        archive.file("a/b", 0o644, b"12345");
        archive.folder("a");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        let entries: Vec<&str> = text.split("070701").skip(1).collect();
        assert_eq!(entries.len(), 3, "the folder once, the file, the end");
        assert!(entries[0].starts_with("00000001000041ed"));
        assert!(entries[1].starts_with("00000002000081a4"));
        assert!(entries[1].ends_with("a/b\0\0\x0012345\0\0\0"));
    }
}
