//! Files that share contents under other names.

use std::collections::HashMap;

/// Bytes of a sample.
pub(super) const SAMPLE: usize = 32;

/// One place in this many is a sample, chosen by what stands there, so that it is found wherever it went.
const ONE_IN: u32 = 512;

/// Most samples of a file: bounds the index.
const MOST: usize = 4096;

/// Samples that two files must share: less is chance, or a common header.
const LEAST: usize = 4;

/// Which files of the base have a sample.
#[derive(Default)]
pub(super) struct Samples {
    paths: Vec<Vec<u8>>,
    /// Sample, and the first file that has it.
    found: HashMap<u32, u32>,
}

impl Samples {
    pub(super) fn add(&mut self, path: &[u8], content: &[u8]) {
        let index = self.paths.len() as u32;
        self.paths.push(path.to_vec());
        for sample in samples(content) {
            self.found.entry(sample).or_insert(index);
        }
    }

    /// The file that shares most samples with a content.
    pub(super) fn likest(&self, content: &[u8]) -> Option<&Vec<u8>> {
        let mut shared: HashMap<u32, usize> = HashMap::new();
        for sample in samples(content) {
            if let Some(&file) = self.found.get(&sample) {
                *shared.entry(file).or_default() += 1;
            }
        }
        // Of several the first one, so that the same layers make the same delta.
        let (file, most) = shared
            .into_iter()
            .max_by_key(|&(file, most)| (most, u32::MAX - file))?;
        (most >= LEAST).then(|| &self.paths[file as usize])
    }
}

/// Hashes of the content's samples.
fn samples(content: &[u8]) -> impl Iterator<Item = u32> {
    places(content, ONE_IN).map(|(_, hash)| hash).take(MOST)
}

/// One sample in `one_in` places: where its last byte is, and its hash, by a rolling sum of powers.
pub(super) fn places(content: &[u8], one_in: u32) -> impl Iterator<Item = (usize, u32)> {
    const BASE: u32 = 0x0100_0193;
    let leaving = (0..SAMPLE).fold(1u32, |power, _| power.wrapping_mul(BASE));
    let mut hash = 0u32;
    let hashes = content.iter().enumerate().map(move |(at, &byte)| {
        hash = hash.wrapping_mul(BASE).wrapping_add(u32::from(byte) + 1);
        if at >= SAMPLE {
            let left = u32::from(content[at - SAMPLE]) + 1;
            hash = hash.wrapping_sub(left.wrapping_mul(leaving));
        }
        (at, hash.wrapping_mul(0x9E37_79B1))
    });
    let full = hashes.filter(|&(at, _)| at + 1 >= SAMPLE);
    full.filter(move |&(_, hash)| (hash >> 8).is_multiple_of(one_in))
}
