//! Blocks that moved into another file: what the file that a content is made from does not have may be in a third one.
//!
//! An index of samples of the old files says where; such a block then becomes a part of its own, made from that file, if that takes
//! fewer bytes in the end.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::base::{BaseFile, BaseFiles};
use super::compare::compare;
use super::expect::without_addresses;
use super::part::{CELL, Part, certain, covered, cut, filled};
use super::samples::{SAMPLE, places};
use crate::delta::layout::Layout;

/// One place in this many is a sample; of larger bases one in twice as many, and so on.
const ONE_IN: u32 = 64;

/// Samples in the index, which take 28 MB at most.
const MOST: usize = 1 << 20;

/// Files and contents below this are made from one file.
const LEAST: usize = 4 << 10;

/// Samples that a block shares with a file: fewer are chance, or no gain.
const SHARED: usize = 8;

/// Samples of a third file between those of a second one that are passed over.
const STRAY: usize = 3;

/// Bytes between two samples of one block.
const GAP: usize = 4 << 10;

/// Blocks of one content: the work on it is bounded by its size and this.
const BLOCKS: usize = 64;

/// Bytes by which a block must be covered better.
const GAIN: usize = 512;

/// Parts begin at multiples of this, so that a program's words stand as they did.
const ALIGNED: usize = 16;

/// A block and the samples that it has of a file.
struct Block {
    file: u32,
    /// Ends of the samples in the content, where they end in the file.
    hits: Vec<(usize, u32)>,
}

/// Samples of the files that are not in the newer layer as they were.
pub(super) struct Moved<'a> {
    files: Vec<&'a BaseFile>,
    /// Sample, and the first file and place that has it.
    found: HashMap<u32, (u32, u32)>,
    one_in: u32,
    layout: fn(&[u8]) -> Layout,
}

impl<'a> Moved<'a> {
    /// `unchanged`: contents that the newer layer has as well. They are where they were, and nothing moved out of them.
    pub(super) fn of(
        base: &'a BaseFiles,
        unchanged: &HashSet<*const Vec<u8>>,
        layout: fn(&[u8]) -> Layout,
    ) -> Self {
        let mut known = unchanged.clone();
        let changed = |file: &&BaseFile| {
            let fits = (LEAST..i32::MAX as usize).contains(&file.content.len());
            fits && known.insert(Arc::as_ptr(&file.content))
        };
        let files: Vec<&BaseFile> = base.files().filter(changed).collect();
        let bytes: usize = files.iter().map(|file| file.content.len()).sum();
        let mut one_in = ONE_IN;
        while bytes / one_in as usize > MOST {
            one_in *= 2;
        }
        let mut found = HashMap::new();
        for (index, file) in files.iter().enumerate() {
            let content = without_addresses(&file.content, &layout(&file.content));
            for (at, sample) in places(&content, one_in) {
                if found.len() >= MOST {
                    break;
                }
                found.entry(sample).or_insert((index as u32, at as u32));
            }
        }
        Self {
            files,
            found,
            one_in,
            layout,
        }
    }

    /// The parts that make `new`, when blocks of it are in other files than `whole`, of which it would be made in one. Whether
    /// they are worth it is for others to say.
    pub(super) fn parts(&self, new: &[u8], whole: Option<&Part<'a>>) -> Option<Vec<Part<'a>>> {
        if new.len() < LEAST || self.found.is_empty() {
            return None;
        }
        let layout = match whole {
            Some(whole) => whole.layouts[1].clone(),
            None => (self.layout)(new),
        };
        let covered = covered(new.len(), whole);
        let own = whole.map(|whole| Arc::as_ptr(&whole.source.content));
        let mut blocks = self.blocks(&without_addresses(new, &layout), &covered, own);
        blocks.sort_by_key(|block| usize::MAX - block.hits.len());
        blocks.truncate(BLOCKS);
        blocks.sort_by_key(|block| block.hits[0].0);
        let pieces = whole.map_or(&[][..], |whole| &whole.pieces);
        let rest = |range: Range<usize>, beside: &Part<'a>| {
            let of = whole.unwrap_or(beside);
            (!range.is_empty()).then(|| Part {
                source: of.source,
                layouts: [of.layouts[0].clone(), layout.stretch(&range)],
                pieces: filled(cut(pieces, &range), range.len()),
            })
        };
        let mut parts: Vec<Part<'a>> = Vec::new();
        let mut done = 0;
        for block in &blocks {
            let Some((range, part)) = self.block(block, new, &layout, done, whole) else {
                continue;
            };
            parts.extend(rest(done..range.start, &part));
            done = range.end;
            parts.push(part);
        }
        let last = rest(done..new.len(), parts.last()?);
        parts.extend(last);
        Some(parts)
    }

    /// Where samples of one file follow each other, in what the content's own source does not cover.
    fn blocks(&self, new: &[u8], covered: &[bool], own: Option<*const Vec<u8>>) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut last = None;
        for (at, sample) in places(new, self.one_in) {
            // A run of one byte is the same sample everywhere.
            if last.replace(sample) == Some(sample) {
                continue;
            }
            let Some(&(file, old)) = self.found.get(&sample).filter(|_| !covered[at / CELL]) else {
                continue;
            };
            if own == Some(Arc::as_ptr(&self.files[file as usize].content)) {
                continue;
            }
            let goes_on = |block: &Block| {
                let last = block.hits[block.hits.len() - 1].0;
                let between = &covered[last / CELL..=at / CELL];
                block.file == file
                    && at - last <= GAP
                    && between.iter().filter(|cell| **cell).count() * CELL <= GAIN
            };
            let last = blocks.len().wrapping_sub(1);
            let before = blocks.len().wrapping_sub(2);
            if blocks.get(last).is_some_and(goes_on) {
                blocks[last].hits.push((at, old));
            } else if blocks
                .get(last)
                .is_some_and(|block| block.hits.len() < STRAY)
                && blocks.get(before).is_some_and(goes_on)
            {
                blocks.truncate(last);
                blocks[before].hits.push((at, old));
            } else {
                let hits = vec![(at, old)];
                blocks.push(Block { file, hits });
            }
        }
        blocks.retain(|block| block.hits.len() >= SHARED);
        blocks
    }

    /// The part that makes a block, and which bytes those are, from `done` on.
    fn block(
        &self,
        block: &Block,
        new: &[u8],
        layout: &Layout,
        done: usize,
        whole: Option<&Part<'a>>,
    ) -> Option<(Range<usize>, Part<'a>)> {
        let source = self.files[block.file as usize];
        let (first, last) = (block.hits[0].0, block.hits[block.hits.len() - 1].0);
        // Samples stand apart: what is before the first and behind the last may belong to it.
        let beside = self.one_in as usize;
        let start = first.saturating_sub(SAMPLE + beside) / ALIGNED * ALIGNED;
        let start = start.max(done);
        let end = (last + 1 + beside).next_multiple_of(ALIGNED).min(new.len());
        let range = start..end;
        if range.is_empty() {
            return None;
        }
        let window = window(&block.hits, range.len(), source.content.len());
        let before = (self.layout)(&source.content);
        let after = layout.stretch(&range);
        let mut pieces = compare(
            &source.content[window.clone()],
            &new[range.clone()],
            [&before.stretch(&window), &after],
        );
        for piece in pieces.iter_mut().filter(|piece| piece.length > 0) {
            piece.old += window.start as u32;
        }
        let own = whole.map_or(0, |whole| certain(&cut(&whole.pieces, &range)));
        let layouts = [before, after];
        let good = certain(&pieces);
        (good >= own + GAIN && good * 2 >= range.len()).then_some((
            range,
            Part {
                source,
                layouts,
                pieces,
            },
        ))
    }
}

/// What of the source is compared with a block: around where most of its samples are, in proportion to its length.
fn window(hits: &[(usize, u32)], length: usize, size: usize) -> Range<usize> {
    let mut places: Vec<usize> = hits.iter().map(|&(_, old)| old as usize).collect();
    places.sort_unstable();
    let few = places.len() / 10;
    let (low, high) = (places[few], places[places.len() - 1 - few]);
    let most = 2 * length + (64 << 10);
    let (low, high) = match high - low <= most {
        true => (low, high),
        false => {
            let middle = places[places.len() / 2];
            (middle.saturating_sub(most / 2), middle + most / 2)
        }
    };
    let beside = length / 2 + GAP;
    low.saturating_sub(beside)..(high + beside).min(size)
}
