//! A delta of any bytes against a small tree. It must end, within its limits, and read nothing but the tree.

use coracle_images::Limits;
use coracle_images::delta::{DeltaHeader, DeltaReader};
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::sync::LazyLock;

/// The base layer's tree.
static BASE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("bin")).expect("a folder");
    fs::write(dir.path().join("bin/web"), b"one two three ".repeat(100)).expect("a file");
    fs::write(
        dir.path().join("bin/doc.gz"),
        include_bytes!("../seeds/old.gz"),
    )
    .expect("a file");
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).expect("a link");
    dir
});

pub fn run(bytes: &[u8]) {
    let limits = Limits {
        unpacked_bytes: 1 << 20,
        delta_control_bytes: 1 << 20,
        ..Limits::default()
    };
    let _ = DeltaHeader::read(bytes);
    let mut blob = tempfile::tempfile().expect("a file");
    blob.write_all(bytes)
        .and_then(|()| blob.rewind())
        .expect("writing");
    let base = File::open(BASE.path()).expect("the base");
    if let Ok(mut reader) = DeltaReader::open(blob, base.into(), &limits) {
        let size = reader.header().target_size;
        if let Ok(read) = io::copy(&mut reader, &mut io::sink()) {
            assert_eq!(read, size);
        }
    }
}
