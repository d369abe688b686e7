//! Two files as ranges that are alike, after bsdiff (C. Percival, "Naive differences of executable code", 2003).

use std::ops::Range;

use super::expect::{expect, without_addresses};
use crate::delta::layout::Layout;
use crate::delta::pieces::{Moves, Piece};

/// A run of equal bytes that is worth an operation of its own: it saves the board's time, and costs about
/// as many bytes as its differences would.
const COPY_RUN: usize = 16 << 10;

/// New bytes between two ranges on the same diagonal that are coded as differences, not literals.
const BRIDGE: usize = 64;

/// By how many more equal bytes another part of the old file must win. A change of place costs about six bytes
/// of delta; measured on two versions of CPython, where 10 and 12 gave the least.
const BETTER: usize = 12;

/// How often data is compared again, with the addresses that the comparison before led to expect.
const ROUNDS: usize = 2;

/// Of matches that are as long, how many on each side are looked at for the nearest one.
const NEIGHBOURS: usize = 24;
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

/// A range of the new file and where the old bytes like it begin.
struct Alike {
    old: usize,
    new: Range<usize>,
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

fn alike_ranges(old: &[u8], new: &[u8]) -> Vec<Alike> {
    let mut ranges = Vec::new();
    if old.is_empty() || i32::try_from(old.len()).is_err() {
        return ranges;
    }
    let mut suffixes = vec![0; old.len()];
    divsufsort::sort_in_place(old, &mut suffixes);

    let equal = |index: usize, offset: isize| {
        let at = index as isize + offset;
        at >= 0 && old.get(at as usize) == Some(&new[index])
    };
    let (mut scan, mut length, mut found) = (0, 0, 0);
    let (mut last_scan, mut last_found) = (0usize, 0usize);
    let mut offset = 0isize;
    while scan < new.len() {
        // Looks for the next place where another part of the old file fits clearly better (by BETTER bytes)
        // than going on along the present diagonal.
        let mut score = 0;
        scan += length;
        let mut scored = scan;
        while scan < new.len() {
            (found, length) = longest(
                old,
                &suffixes,
                &new[scan..],
                (scan as isize + offset).max(0) as usize,
            );
            while scored < scan + length {
                score += usize::from(equal(scored, offset));
                scored += 1;
            }
            if (length == score && length != 0) || length > score + BETTER {
                break;
            }
            score -= usize::from(scored > scan && equal(scan, offset));
            scan += 1;
        }
        if length == score && scan != new.len() {
            continue;
        }
        let ahead = reach(
            (0..(scan - last_scan).min(old.len() - last_found))
                .map(|index| old[last_found + index] == new[last_scan + index]),
        );
        let back = match scan < new.len() {
            true => reach(
                (1..=(scan - last_scan).min(found))
                    .map(|index| old[found - index] == new[scan - index]),
            ),
            false => 0,
        };
        let overlap = (last_scan + ahead).saturating_sub(scan - back);
        let keep = best_cut(overlap, |index| {
            let front = old[last_found + ahead - overlap + index]
                == new[last_scan + ahead - overlap + index];
            let behind = old[found - back + index] == new[scan - back + index];
            (front, behind)
        });
        let ahead = ahead - overlap + keep;
        let back = back - keep;
        if ahead > 0 {
            ranges.push(Alike {
                old: last_found,
                new: last_scan..last_scan + ahead,
            });
        }
        last_scan = scan - back;
        last_found = found - back;
        offset = found as isize - scan as isize;
        if scan == new.len() {
            break;
        }
    }
    ranges
}

/// How far a range reaches with at least every second byte equal.
fn reach(equal: impl Iterator<Item = bool>) -> usize {
    let (mut sum, mut best, mut length) = (0isize, 0isize, 0);
    for (index, equal) in equal.enumerate() {
        sum += if equal { 1 } else { -1 };
        if sum > best {
            (best, length) = (sum, index + 1);
        }
    }
    length
}

/// Where two ranges that overlap are best cut: how many of the bytes the first one keeps.
fn best_cut(overlap: usize, equal: impl Fn(usize) -> (bool, bool)) -> usize {
    let (mut sum, mut best, mut keep) = (0isize, 0isize, 0);
    for index in 0..overlap {
        let (front, behind) = equal(index);
        sum += isize::from(front) - isize::from(behind);
        if sum > best {
            (best, keep) = (sum, index + 1);
        }
    }
    keep
}

/// The longest match of `new`'s beginning in the old file: where, how long.
fn longest(old: &[u8], suffixes: &[i32], new: &[u8], expected: usize) -> (usize, usize) {
    let common = |at: i32| {
        old[at as usize..]
            .iter()
            .zip(new)
            .take_while(|(old, new)| old == new)
            .count()
    };
    let (mut low, mut high) = (0, suffixes.len() - 1);
    while high - low > 1 {
        let middle = (low + high) / 2;
        let suffix = &old[suffixes[middle] as usize..];
        let least = suffix.len().min(new.len());
        if suffix[..least] < new[..least] {
            low = middle
        } else {
            high = middle
        }
    }
    let (at_low, at_high) = (common(suffixes[low]), common(suffixes[high]));
    let (middle, best) = if at_low > at_high {
        (low, at_low)
    } else {
        (high, at_high)
    };
    if best == 0 {
        return (suffixes[middle] as usize, 0);
    }
    // Of several that are as long, the one nearest to where the last piece goes on.
    let mut nearest = suffixes[middle] as usize;
    for step in [usize::MAX, 1] {
        let mut at = middle;
        for _ in 0..NEIGHBOURS {
            at = at.wrapping_add(step);
            let Some(&suffix) = suffixes.get(at) else {
                break;
            };
            let suffix = suffix as usize;
            if old.len() - suffix < best || old[suffix..suffix + best] != new[..best] {
                break;
            }
            if suffix.abs_diff(expected) < nearest.abs_diff(expected) {
                nearest = suffix;
            }
        }
    }
    (nearest, best)
}
