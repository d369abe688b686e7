//! A layer of any bytes, as each media type. Nothing may appear outside the folder that it is unpacked to.

use coracle_images::Limits;
use coracle_images::layout::LayerType;
use coracle_images::unpack::{Source, apply_layer};
use std::fs::{self, File};
use std::io::{Seek, Write};

pub fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let layer = match kind % 3 {
        0 => LayerType::Tar,
        1 => LayerType::TarGzip,
        _ => LayerType::TarZstd,
    };
    // Small: a bomb must be stopped by the limit, not by the fuzzer's memory.
    let limits = Limits {
        unpacked_bytes: 1 << 20,
        entries: 200,
        devices: false,
        ..Limits::default()
    };
    let outside = tempfile::tempdir().expect("a folder");
    let inside = outside.path().join("layer");
    fs::create_dir(&inside).expect("a folder");
    let mut blob = tempfile::tempfile().expect("a file");
    blob.write_all(bytes)
        .and_then(|()| blob.rewind())
        .expect("writing");
    let dest = File::open(&inside).expect("the folder");
    if let Ok(applied) = apply_layer(Source::Full { blob, layer }, dest.into(), &limits) {
        assert!(applied.tar_bytes <= limits.unpacked_bytes && applied.entries <= limits.entries);
    }
    let names = fs::read_dir(outside.path()).expect("the folder").count();
    assert_eq!(names, 1, "something was written outside");
}
