//! Two files as ranges that are alike, after bsdiff (C. Percival, "Naive differences of executable code", 2003).

use std::borrow::Cow;
use std::ops::Range;

use super::super::machine::{Machine, address_at};

/// A run of equal bytes that is worth an operation of its own: it saves the board's time, and costs about
/// as many bytes as its differences would.
const COPY_RUN: usize = 16 << 10;

/// New bytes between two ranges on the same diagonal that are coded as differences, not literals.
const BRIDGE: usize = 64;

/// By how many more equal bytes another part of the old file must win. A change of place costs about six bytes
/// of delta; measured on two versions of CPython, where 10 and 12 gave the least.
const BETTER: usize = 12;

/// How to make a part of the new file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Equal bytes.
    Copy { old: usize, new: Range<usize> },
    /// Similar bytes.
    Add { old: usize, new: Range<usize> },
    /// New bytes.
    Literal { new: Range<usize> },
}

/// Pieces that make `new` from `old`, in order.
///
/// Code is compared without its addresses: they differ wherever something moved, and would cut every match
/// short, while the model of differences has a guess for them.
pub(super) fn compare(old: &[u8], new: &[u8], machine: Machine) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut done = 0;
    for alike in bridge(alike_ranges(
        &without_addresses(old, machine),
        &without_addresses(new, machine),
    )) {
        if alike.new.start > done {
            pieces.push(Piece::Literal {
                new: done..alike.new.start,
            });
        }
        done = alike.new.end;
        split(old, new, alike, &mut pieces);
    }
    if done < new.len() {
        pieces.push(Piece::Literal {
            new: done..new.len(),
        });
    }
    pieces
}

/// A range of the new file and where the old bytes like it begin.
struct Alike {
    old: usize,
    new: Range<usize>,
}

fn without_addresses(content: &[u8], machine: Machine) -> Cow<'_, [u8]> {
    if machine == Machine::Any {
        return Cow::Borrowed(content);
    }
    let mut plain = content.to_vec();
    let mut index = 0;
    while index + 4 <= content.len() {
        index += match address_at(content, index, machine) {
            Some(mask) => {
                for (byte, mask) in plain[index..index + 4].iter_mut().zip(mask) {
                    *byte &= mask;
                }
                4
            }
            None => 1,
        };
    }
    Cow::Owned(plain)
}

/// Joins neighbours on one diagonal.
fn bridge(ranges: Vec<Alike>) -> Vec<Alike> {
    let mut joined: Vec<Alike> = Vec::new();
    for range in ranges {
        if let Some(last) = joined.last_mut() {
            let gap = range.new.start - last.new.end;
            if gap <= BRIDGE && last.old + last.new.len() + gap == range.old {
                last.new.end = range.new.end;
                continue;
            }
        }
        joined.push(range);
    }
    joined
}

/// Takes long runs of equal bytes out of a range.
fn split(old: &[u8], new: &[u8], alike: Alike, pieces: &mut Vec<Piece>) {
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
                pieces.push(Piece::Add {
                    old: at(begun),
                    new: begun..index,
                });
            }
            pieces.push(Piece::Copy {
                old: at(index),
                new: index..index + run,
            });
            begun = index + run;
        }
        index += run + 1;
    }
    if begun < alike.new.end {
        pieces.push(Piece::Add {
            old: at(begun),
            new: begun..alike.new.end,
        });
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
            (found, length) = longest(old, &suffixes, &new[scan..]);
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
fn longest(old: &[u8], suffixes: &[i32], new: &[u8]) -> (usize, usize) {
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
    if at_low > at_high {
        (suffixes[low] as usize, at_low)
    } else {
        (suffixes[high] as usize, at_high)
    }
}
