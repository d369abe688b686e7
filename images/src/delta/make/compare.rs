//! The pieces that make one file from another.

use std::ops::Range;

use super::expect::{expect, without_addresses};
use super::search::{Alike, alike_ranges};
use crate::delta::layout::Layout;
use crate::delta::pieces::{Moves, Piece};

/// A run of equal bytes that is worth an operation of its own: it saves the board's time, and costs about
/// as many bytes as its differences would.
const COPY_RUN: usize = 16 << 10;

/// New bytes between two ranges on the same diagonal that are coded as differences, not literals.
const BRIDGE: usize = 64;

/// How often data is compared again, with the addresses that the comparison before led to expect.
const ROUNDS: usize = 2;

/// Pieces that make `new` from `old`, in order. `layouts`: of both.
pub(in crate::delta) fn compare(old: &[u8], new: &[u8], layouts: [&Layout; 2]) -> Vec<Piece> {
    let newer = without_addresses(new, layouts[1]);
    let mut older = without_addresses(old, layouts[0]);
    let mut ranges = bridge(alike_ranges(&older, &newer));
    for _ in 0..ROUNDS {
        let mut end = 0;
        let pieces = ranges.iter().map(|range| {
            let literal = (range.new.start - end) as u32;
            end = range.new.end;
            let (old, length) = (range.old as u32, range.new.len() as u32);
            Ok::<_, std::convert::Infallible>(Piece {
                literal,
                old,
                length,
                exact: false,
            })
        });
        let Ok(moves) = Moves::of(pieces);
        if !expect(old, &mut older, layouts, &moves) {
            break;
        }
        ranges = bridge(alike_ranges(&older, &newer));
    }
    let mut pieces = Pieces {
        all: Vec::new(),
        done: 0,
    };
    for range in ranges {
        split(old, new, range, &mut pieces);
    }
    if pieces.done < new.len() {
        let literal = (new.len() - pieces.done) as u32;
        pieces.all.push(Piece {
            literal,
            old: 0,
            length: 0,
            exact: true,
        });
    }
    pieces.all
}

/// Pieces in the making.
struct Pieces {
    all: Vec<Piece>,
    /// New bytes that they make.
    done: usize,
}

impl Pieces {
    fn push(&mut self, old: usize, new: Range<usize>, exact: bool) {
        self.all.push(Piece {
            literal: (new.start - self.done) as u32,
            old: old as u32,
            length: new.len() as u32,
            exact,
        });
        self.done = new.end;
    }
}

/// Joins neighbours on one diagonal.
fn bridge(ranges: Vec<Alike>) -> Vec<Alike> {
    let mut joined: Vec<Alike> = Vec::new();
    for range in ranges {
        // Also over a short one between them, which would cost more than its bytes.
        let from = joined.len().saturating_sub(3);
        let found = (from..joined.len()).rev().find(|&index| {
            let last = &joined[index];
            let gap = range.new.start - last.new.end;
            gap <= BRIDGE && last.old + last.new.len() + gap == range.old
        });
        match found {
            Some(index) => {
                joined[index].new.end = range.new.end;
                joined.truncate(index + 1);
            }
            None => joined.push(range),
        }
    }
    joined
}

/// Takes long runs of equal bytes out of a range.
fn split(old: &[u8], new: &[u8], alike: Alike, pieces: &mut Pieces) {
    let at = |index: usize| alike.old + (index - alike.new.start);
    let mut begun = alike.new.start;
    let mut index = begun;
    while index < alike.new.end {
        let rest = index..alike.new.end;
        let run = rest
            .take_while(|&index| old[at(index)] == new[index])
            .count();
        if run >= COPY_RUN || run == alike.new.len() {
            if begun < index {
                pieces.push(at(begun), begun..index, false);
            }
            pieces.push(at(index), index..index + run, true);
            begun = index + run;
        }
        index += run + 1;
    }
    if begun < alike.new.end {
        pieces.push(at(begun), begun..alike.new.end, false);
    }
}
