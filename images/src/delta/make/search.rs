//! Two files as ranges that are alike, after bsdiff (C. Percival, "Naive differences of executable code", 2003).

use std::ops::Range;
use std::panic::resume_unwind;
use std::thread;

/// By how many more equal bytes another part of the old file must win. A change of place costs about four bytes
/// of delta; measured on biome, esbuild and git, where 8 and 9 gave the least.
const BETTER: usize = 9;

/// New bytes from which on a file is looked through in two halves, by two threads.
const HALVES: usize = 1 << 20;

/// Old bytes whose suffixes are sorted at once, at four bytes each. A larger file is compared stretch by stretch, each with what lies
/// around its place in the old file.
const SORTED: usize = 256 << 20;

/// Of matches that are as long, how many on each side are looked at for the nearest one.
const NEIGHBOURS: usize = 24;

/// Bytes of a match from which on not every place is looked at, nor all of its neighbours: each of them costs its length, and in a
/// stretch of nothing but zeros, say, there is one for each place.
const LONG: usize = 2 << 10;

/// A range of the new file and where the old bytes like it begin.
pub(super) struct Alike {
    pub(super) old: usize,
    pub(super) new: Range<usize>,
}

impl Alike {
    /// Of a stretch: the same in the whole files, where it begins there.
    fn moved(self, old: usize, new: usize) -> Alike {
        Alike {
            old: self.old + old,
            new: self.new.start + new..self.new.end + new,
        }
    }
}

/// In order, apart from each other.
pub(super) fn alike_ranges(old: &[u8], new: &[u8]) -> Vec<Alike> {
    by_stretches(old, new, SORTED)
}

fn by_stretches(old: &[u8], new: &[u8], most: usize) -> Vec<Alike> {
    if old.is_empty() || i32::try_from(old.len()).is_err() {
        return Vec::new();
    }
    if old.len() <= most {
        return sorted(old, new, 0);
    }
    let mut ranges = Vec::new();
    for (number, stretch) in new.chunks(most / 2).enumerate() {
        let begin = number * (most / 2);
        let middle = (begin + stretch.len() / 2) as u128 * old.len() as u128 / new.len() as u128;
        let from = (middle as usize)
            .saturating_sub(most / 2)
            .min(old.len() - most);
        let window = &old[from..from + most];
        let expected = begin.saturating_sub(from).min(most);
        ranges.extend(
            sorted(window, stretch, expected)
                .into_iter()
                .map(|range| range.moved(from, begin)),
        );
    }
    ranges
}

/// By all suffixes of `old`, where the first byte of `new` is expected at `expected`.
fn sorted(old: &[u8], new: &[u8], expected: usize) -> Vec<Alike> {
    let mut suffixes = vec![0; old.len()];
    divsufsort::sort_in_place(old, &mut suffixes);
    if new.len() < HALVES {
        return scan(old, &suffixes, new, expected);
    }
    let middle = new.len() / 2;
    let (front, back) = new.split_at(middle);
    let behind = (expected + middle).min(old.len());
    let (mut front, back) = thread::scope(|scope| {
        let back = scope.spawn(|| scan(old, &suffixes, back, behind));
        let front = scan(old, &suffixes, front, expected);
        (
            front,
            back.join().unwrap_or_else(|panic| resume_unwind(panic)),
        )
    });
    front.extend(back.into_iter().map(|range| range.moved(0, middle)));
    front
}

/// Looks through `new`, whose first byte is expected at `begin` of the old file.
fn scan(old: &[u8], suffixes: &[i32], new: &[u8], begin: usize) -> Vec<Alike> {
    let mut ranges = Vec::new();
    let equal = |index: usize, offset: isize| {
        let at = index as isize + offset;
        at >= 0 && old.get(at as usize) == Some(&new[index])
    };
    let (mut scan, mut length, mut found) = (0, 0, 0);
    let (mut last_scan, mut last_found) = (0usize, begin);
    let mut offset = begin as isize;
    while scan < new.len() {
        // Looks for the next place where another part of the old file fits clearly better (by BETTER bytes)
        // than going on along the present diagonal.
        let mut score = 0;
        scan += length;
        let mut scored = scan;
        while scan < new.len() {
            (found, length) = longest(
                old,
                suffixes,
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
            // A match as long as that says the same for a while: what begins to fit better meanwhile is also found backwards.
            let next = match length {
                ..LONG => scan + 1,
                _ => (scan + length / 16).min(new.len()),
            };
            while scan < next {
                score -= usize::from(scored > scan && equal(scan, offset));
                scan += 1;
            }
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
        // One that ends where it is still alike comes before what is longer.
        if suffix[..least] < *new {
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
    let neighbours = NEIGHBOURS.min(NEIGHBOURS * LONG / best).max(2);
    // Of several that are as long, the one nearest to where the last piece goes on.
    let mut nearest = suffixes[middle] as usize;
    for step in [usize::MAX, 1] {
        let mut at = middle;
        for _ in 0..neighbours {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(next).collect()
    }

    fn equal_bytes(old: &[u8], new: &[u8], ranges: &[Alike]) -> usize {
        let one = |range: &Alike| {
            let from = &old[range.old..range.old + range.new.len()];
            let both = from.iter().zip(&new[range.new.clone()]);
            both.filter(|(old, new)| old == new).count()
        };
        ranges.iter().map(one).sum()
    }

    #[test]
    fn a_file_larger_than_what_is_sorted_at_once_is_found_stretch_by_stretch() {
        let old = noise(40_000);
        // Begins and ends as before, with more and with less in between.
        let new = [
            &old[..9_000],
            &[7; 300][..],
            &old[9_000..30_000],
            &old[31_000..],
        ]
        .concat();
        let whole = alike_ranges(&old, &new);
        let ranges = by_stretches(&old, &new, 8_192);
        let [all, found] = [&whole, &ranges].map(|ranges| equal_bytes(&old, &new, ranges));
        assert!(all >= 39_000, "{all}");
        assert!(found + 200 >= all, "{found} of {all}");
    }

    #[test]
    fn in_a_stretch_of_one_byte_the_longest_match_is_found_and_no_place_twice() {
        let mut old = vec![0; 100_000];
        old[60_000..60_300].copy_from_slice(&noise(300));
        let new = vec![0; 100_000];
        let mut suffixes = vec![0; old.len()];
        divsufsort::sort_in_place(&old, &mut suffixes);
        assert_eq!(longest(&old, &suffixes, &new, 0), (0, 60_000));
        let ranges = scan(&old, &suffixes, &new, 0);
        assert_eq!(equal_bytes(&old, &new, &ranges), new.len());
        assert!(ranges.len() <= 3, "{} ranges", ranges.len());
    }

    proptest! {
        #[test]
        fn ranges_of_stretches_lie_in_both_files_one_behind_the_other(
            old in proptest::collection::vec(0..4u8, 0..600),
            new in proptest::collection::vec(0..4u8, 0..600),
            most in 2..300usize,
        ) {
            let mut end = 0;
            for range in by_stretches(&old, &new, most) {
                prop_assert!(range.new.start >= end && range.new.start < range.new.end);
                prop_assert!(range.new.end <= new.len());
                prop_assert!(range.old + range.new.len() <= old.len());
                end = range.new.end;
            }
        }
    }
}
