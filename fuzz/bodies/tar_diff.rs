//! A tar-diff against a small tree. It must end, within its limits, and read nothing but the tree.

use coracle_images::Limits;
use coracle_images::delta::tar_diff::apply;
use std::fs::{self, File};
use std::io::{self, Write};
use std::sync::LazyLock;

/// The base layer's tree.
static BASE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("bin")).expect("a folder");
    fs::write(dir.path().join("bin/web"), b"one two three ".repeat(100)).expect("a file");
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).expect("a link");
    dir
});

/// What the first byte says: 0 a file as it comes, 1 operations, which are packed here, so that changed bytes of them
/// get past zstd.
pub fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let packed = kind % 2 == 1;
    let diff = match packed {
        false => bytes.to_vec(),
        true => {
            let mut diff = b"tardf1\n\0".to_vec();
            diff.extend(stored(bytes));
            diff
        }
    };
    let limits = Limits {
        unpacked_bytes: 1 << 20,
        ..Limits::default()
    };
    let base = File::open(BASE.path()).expect("the base");
    let mut out = Counter(0);
    let made = apply(&diff[..], base.into(), &limits, &mut out);
    assert!(out.0 <= limits.unpacked_bytes, "{} bytes came out", out.0);
    if let Ok(made) = made {
        assert_eq!(made, out.0);
    }
}

/// One zstd frame of blocks that are not compressed (RFC 8878 3.1.1).
fn stored(bytes: &[u8]) -> Vec<u8> {
    // Magic, no checksum, window of 1 MiB.
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x50];
    let mut chunks = bytes.chunks(64 << 10).peekable();
    if bytes.is_empty() {
        frame.extend([1, 0, 0]);
    }
    while let Some(chunk) = chunks.next() {
        let last = u32::from(chunks.peek().is_none());
        let header = (chunk.len() as u32) << 3 | last;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(chunk);
    }
    frame
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
