//! A gzip file (RFC 1952) made again from its text, as the program that made it would.

use super::deflate::{Deflate, Preset};

/// Most bytes of a text: the old one is held in memory.
pub(crate) const MOST_TEXT: u64 = 1 << 20;

/// Most bytes before the packed data: ten, and a name.
pub(crate) const MOST_HEAD: u64 = 512;

/// Takes a text, gives the file.
pub(crate) struct Packer {
    deflate: Deflate,
    sum: flate2::Crc,
}

impl Packer {
    pub(crate) fn new(preset: Preset) -> Self {
        Self {
            deflate: Deflate::new(preset),
            sum: flate2::Crc::new(),
        }
    }

    pub(crate) fn push(&mut self, text: &[u8], out: &mut Vec<u8>) {
        self.sum.update(text);
        self.deflate.push(text, out);
    }

    pub(crate) fn finish(mut self, out: &mut Vec<u8>) {
        self.deflate.finish(out);
        out.extend(self.sum.sum().to_le_bytes());
        out.extend(self.sum.amount().to_le_bytes());
    }
}

/// What makes a file again, beside its text.
#[cfg(feature = "make")]
pub(crate) struct Packing {
    pub(crate) preset: Preset,
    pub(crate) head: Vec<u8>,
}

/// The text of a gzip file that is not too long.
#[cfg(feature = "make")]
pub(crate) fn text(file: &[u8]) -> Option<Vec<u8>> {
    use std::io::Read;
    if !file.starts_with(&[0x1F, 0x8B, 8]) {
        return None;
    }
    let mut text = Vec::new();
    let mut unpacked = flate2::bufread::GzDecoder::new(file).take(MOST_TEXT + 1);
    unpacked.read_to_end(&mut text).ok()?;
    (text.len() as u64 <= MOST_TEXT).then_some(text)
}

/// Looks for what made a file with this text.
#[cfg(feature = "make")]
pub(crate) fn packing(file: &[u8], text: &[u8]) -> Option<Packing> {
    let mut head = 10;
    let flags = *file.get(3)?;
    // A comment, a checksum of the head and extra fields are rare; a name is not.
    if flags & !8 != 0 {
        return None;
    }
    if flags & 8 != 0 {
        head += file.get(10..)?.iter().position(|&byte| byte == 0)? + 1;
    }
    if head as u64 > MOST_HEAD {
        return None;
    }
    // What the head says about the level goes first.
    let levels: [u8; 6] = match file.get(8)? {
        2 => [9, 6, 8, 7, 5, 4],
        _ => [6, 9, 8, 7, 5, 4],
    };
    let presets = levels.into_iter().flat_map(|level| [level, level | 16]);
    let preset = presets.filter_map(Preset::from_byte).find(|&preset| {
        let mut made = file[..head].to_vec();
        let mut packer = Packer::new(preset);
        for part in text.chunks(32 << 10) {
            packer.push(part, &mut made);
            if !file.starts_with(&made) {
                return false;
            }
        }
        packer.finish(&mut made);
        made == file
    })?;
    Some(Packing {
        preset,
        head: file[..head].to_vec(),
    })
}

#[cfg(all(test, feature = "make"))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Seek, Write};
    use std::process::Command;

    /// What a program makes of a text.
    fn packed(program: &[&str], text: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut input = tempfile::tempfile()?;
        input.write_all(text)?;
        input.rewind()?;
        let made = Command::new(program[0])
            .args(&program[1..])
            .stdin(input)
            .output()?;
        Ok(made.stdout)
    }

    fn words(seed: u32, count: usize, kinds: u32) -> Vec<u8> {
        let mut state = seed;
        let mut text = Vec::new();
        for _ in 0..count {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let word = (state >> 10) % kinds;
            text.extend(format!("{:x} ", word.wrapping_mul(0x9E37_79B1)).bytes());
            if state >> 28 == 0 {
                text.push(b'\n');
            }
        }
        text
    }

    /// Texts that are short, long, dull, and such that deflate does not help.
    fn texts() -> Vec<Vec<u8>> {
        let noise: Vec<u8> = words(9, 30_000, u32::MAX)
            .chunks(2)
            .map(|two| two[0].wrapping_mul(31) ^ two[two.len() - 1].rotate_left(3))
            .collect();
        vec![
            Vec::new(),
            b"a".to_vec(),
            b"ab ab ab ab".to_vec(),
            vec![b'x'; 200_000],
            words(1, 500, 50),
            words(2, 70_000, 3000),
            words(3, 60_000, 100_000),
            noise,
        ]
    }

    #[test]
    fn what_gzip_made_is_made_again() {
        for (index, text) in texts().iter().enumerate() {
            for level in 4..=9 {
                let file = packed(&["gzip", "-nc", &format!("-{level}")], text).unwrap();
                let found = packing(&file, text);
                assert!(found.is_some(), "text {index}, level {level}");
            }
        }
    }

    #[test]
    fn what_zlib_made_is_made_again() {
        let script = "import sys, zlib; packer = zlib.compressobj(int(sys.argv[1]), 8, 31); \
                      sys.stdout.buffer.write(packer.compress(sys.stdin.buffer.read()) + packer.flush())";
        for (index, text) in texts().iter().enumerate() {
            for level in [6, 9] {
                let file = packed(&["python3", "-c", script, &level.to_string()], text).unwrap();
                let found = packing(&file, text);
                assert!(found.is_some(), "text {index}, level {level}");
            }
        }
    }

    proptest! {
        /// In whatever pieces the text comes, it is packed alike, and unpacks to itself.
        #[test]
        fn any_text(
            text in proptest::collection::vec(0u8..5, 0..80_000),
            part in 1usize..9000,
            byte in prop_oneof![4u8..=9, 20u8..=25],
        ) {
            let pack = |part: usize| {
                let mut out = vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3];
                let mut packer = Packer::new(Preset::from_byte(byte).unwrap());
                for part in text.chunks(part) {
                    packer.push(part, &mut out);
                }
                packer.finish(&mut out);
                out
            };
            let file = pack(part);
            prop_assert!(file == pack(usize::MAX));
            prop_assert!(super::text(&file).unwrap() == text);
        }
    }
}
