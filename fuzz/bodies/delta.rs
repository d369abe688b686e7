//! A delta of any bytes against a small tree. It must end, within its limits, and read nothing but the tree.

#[path = "../../images/tests/support/programs.rs"]
pub mod programs;

use coracle_images::Limits;
use coracle_images::delta::{DeltaHeader, DeltaReader};
use lzma_rust2::{LzmaOptions, LzmaWriter};
use programs::{arm_program, framed, program};
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::sync::LazyLock;

/// Bytes that a target may have.
const MOST: u64 = 1 << 20;

/// The files of the base layer: a text, one that is packed, and a program of each kind of machine that deltas know.
pub fn base_files() -> Vec<(&'static str, Vec<u8>)> {
    let packed = include_bytes!("../seeds/old.gz").to_vec();
    vec![
        ("bin/a32", arm_program(40, 600, 3, 0)),
        ("bin/a64", arm_program(183, 600, 3, 0)),
        ("bin/doc.gz", packed),
        ("bin/frames.so", framed(60, 0..60)),
        ("bin/web", b"one two three ".repeat(100)),
        ("bin/x86", program(600, 3, 0)),
    ]
}

/// Its tree.
static BASE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("bin")).expect("a folder");
    for (name, bytes) in base_files() {
        fs::write(dir.path().join(name), bytes).expect("a file");
    }
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).expect("a link");
    dir
});

/// What begins as a delta is one, as it comes. Anything else is the contents of one, of which the operations are packed here, so
/// that changed bytes of them get past LZMA:
///
/// ```text
/// version, odd or even      1 byte
/// bytes of the target       4, of which the lowest 21 bits count
/// bytes of the operations   2
/// bytes of the pieces       2
/// operations, pieces, contents
/// ```
///
/// How many bytes it made, if it came to an end.
pub fn run(bytes: &[u8]) -> Option<u64> {
    match bytes.starts_with(b"CORACLED") {
        true => read(bytes),
        false => read(&framed_operations(bytes)?),
    }
}

fn read(delta: &[u8]) -> Option<u64> {
    let limits = Limits {
        unpacked_bytes: MOST,
        delta_control_bytes: 1 << 20,
        ..Limits::default()
    };
    let _ = DeltaHeader::read(delta);
    let mut blob = tempfile::tempfile().expect("a file");
    blob.write_all(delta)
        .and_then(|()| blob.rewind())
        .expect("writing");
    let base = File::open(BASE.path()).expect("the base");
    let mut reader = DeltaReader::open(blob, base.into(), &limits).ok()?;
    let size = reader.header().target_size;
    let mut came = Counter(0);
    let ended = io::copy(&mut reader, &mut came).is_ok();
    assert!(came.0 <= size, "{} bytes of {size} came out", came.0);
    assert!(!ended || came.0 == size, "{} bytes of {size}", came.0);
    ended.then_some(size)
}

fn framed_operations(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, rest) = bytes.split_first_chunk::<9>()?;
    let number = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]).into();
    let target = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) & 0x1F_FFFF;
    let (operations, rest) = rest.split_at(rest.len().min(number(5)));
    let (pieces, contents) = rest.split_at(rest.len().min(number(7)));
    let packed = pack(operations);
    let mut delta = b"CORACLED".to_vec();
    delta.extend([3 + (head[0] & 1), 0, 0, 0]);
    delta.extend([0; 64]);
    for number in [
        u64::from(target),
        packed.len() as u64,
        operations.len() as u64,
        pieces.len() as u64,
        contents.len() as u64,
    ] {
        delta.extend(number.to_le_bytes());
    }
    delta.extend(packed);
    delta.extend(pieces);
    delta.extend(contents);
    Some(delta)
}

/// LZMA as the control section has it.
fn pack(operations: &[u8]) -> Vec<u8> {
    let mut options = LzmaOptions::with_preset(0);
    (options.dict_size, options.lc, options.lp, options.pb) = (256 << 10, 3, 0, 0);
    let mut writer = LzmaWriter::new_no_header(Vec::new(), &options, false).expect("options");
    writer.write_all(operations).expect("in memory");
    writer.finish().expect("in memory")
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
