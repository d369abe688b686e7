//! The pieces that a file is made of, known before its bytes are: they tell where each old byte went.

/// How one stretch of the new file is made: literal bytes, then old bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Piece {
    pub(crate) literal: u32,
    pub(crate) old: u32,
    pub(crate) length: u32,
    /// Old bytes as they are, not with differences.
    pub(crate) exact: bool,
}

/// Most pieces that are remembered of a file, and bytes of the shortest one at first.
const MOST_MOVES: usize = 1 << 15;
const LEAST_MOVE: u32 = 32;

/// Pieces that are remembered whatever their length, and how far behind their end they are followed.
const RECENT: usize = 17;
const BESIDE: u32 = 32;

/// Where old bytes went.
#[derive(Default)]
pub(crate) struct Moves(Vec<Move>);

#[derive(Clone, Copy, Default)]
struct Move {
    old: u32,
    new: u32,
    length: u32,
}

impl Moves {
    /// From the pieces of a file. Short ones say little, as code repeats itself; when there are too many, only
    /// longer and longer ones count.
    pub(crate) fn of<E>(pieces: impl Iterator<Item = Result<Piece, E>>) -> Result<Self, E> {
        let mut all = Vec::new();
        let mut least = LEAST_MOVE;
        let mut start = 0u32;
        for piece in pieces {
            let piece = piece?;
            start = start.wrapping_add(piece.literal);
            if piece.length >= least {
                while all.len() >= MOST_MOVES {
                    least = least.saturating_mul(2);
                    all.retain(|one: &Move| one.length >= least);
                }
                if piece.length >= least {
                    all.push(Move {
                        old: piece.old,
                        new: start,
                        length: piece.length,
                    });
                }
            }
            start = start.wrapping_add(piece.length);
        }
        all.sort_unstable_by_key(|one| (one.old, u32::MAX - one.length, one.new));
        let mut kept = 0;
        for index in 0..all.len() {
            kept = keep(&mut all, kept, index);
        }
        all.truncate(kept);
        Ok(Self(all))
    }

    /// New offset of an old one, by the last piece that begins at or before it.
    pub(crate) fn new_offset(&self, old: u32) -> Option<u32> {
        let next = self.0.partition_point(|one| one.old <= old);
        let one = self.0.get(next.checked_sub(1)?)?;
        Some(one.new.wrapping_add(old - one.old))
    }
}

/// The last pieces: short ones, too, tell where the bytes beside them went.
#[derive(Default)]
pub(crate) struct Recent {
    /// In a ring; `next` is the oldest.
    pieces: [Move; RECENT],
    next: usize,
}

impl Recent {
    /// A piece begins, whose bytes go to `new`.
    pub(crate) fn push(&mut self, piece: &Piece, new: u32) {
        self.pieces[self.next] = Move {
            old: piece.old,
            new,
            length: piece.length,
        };
        self.next = (self.next + 1) % RECENT;
    }

    /// New offset of an old one, by the piece that has it, or ends nearest before it; of several the latest.
    pub(crate) fn new_offset(&self, old: u32) -> Option<u32> {
        let (newer, older) = self.pieces.split_at(self.next);
        let all = newer.iter().rev().chain(older.iter().rev());
        let near = all.filter_map(|one| {
            let into = old.checked_sub(one.old)?;
            let beyond = (into + 1).saturating_sub(one.length);
            (one.length > 0 && beyond < BESIDE).then_some((beyond, one.new.wrapping_add(into)))
        });
        near.min_by_key(|&(beyond, _)| beyond).map(|(_, new)| new)
    }
}

/// Takes the piece at `index` behind the `kept` first ones. Where old bytes went to several places, the longest
/// piece counts.
fn keep(all: &mut [Move], mut kept: usize, index: usize) -> usize {
    let mut one = all[index];
    while kept > 0 {
        let last = &mut all[kept - 1];
        let end = last.old.saturating_add(last.length);
        if one.old >= end {
            break;
        }
        if one.length <= last.length {
            let cut = end - one.old;
            if cut >= one.length {
                return kept;
            }
            one.old += cut;
            one.new = one.new.wrapping_add(cut);
            one.length -= cut;
            break;
        }
        // The last one may have been cut to begin behind this one: then nothing of it stays.
        last.length = one.old.saturating_sub(last.old);
        if last.length > 0 {
            break;
        }
        kept -= 1;
    }
    all[kept] = one;
    kept + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn moves(pieces: &[(u32, u32, u32)]) -> Moves {
        let pieces = pieces.iter().map(|&(literal, old, length)| {
            Ok::<_, std::convert::Infallible>(Piece {
                literal,
                old,
                length,
                exact: false,
            })
        });
        let Ok(moves) = Moves::of(pieces);
        moves
    }

    #[test]
    fn a_longer_piece_takes_the_place_of_one_that_was_cut_to_begin_behind_it() {
        let moves = moves(&[(0, 0, 100), (0, 50, 80), (0, 60, 90)]);
        // The first keeps its hundred bytes, the third has what lies behind them.
        assert_eq!(moves.new_offset(99), Some(99));
        assert_eq!(moves.new_offset(120), Some(180 + 60));
    }

    #[test]
    fn short_pieces_are_followed_while_they_are_among_the_last() {
        let mut recent = Recent::default();
        let mut push = |old, length, new| {
            let piece = Piece {
                old,
                length,
                ..Piece::default()
            };
            recent.push(&piece, new);
            recent.new_offset(110)
        };
        assert_eq!(push(100, 8, 500), Some(510));
        // One that has the byte counts more than one that ends before it; of two the latest.
        assert_eq!(push(104, 7, 904), Some(910));
        assert_eq!(push(96, 20, 196), Some(210));
        assert_eq!(push(40, 20, 0), Some(210));
        for number in 1..RECENT as u32 - 1 {
            assert_eq!(push(1000 * number, 9, 0), Some(210), "{number}");
        }
        assert_eq!(push(111, 9, 0), None);
    }

    proptest! {
        #[test]
        fn stretches_stand_in_order_and_apart(
            pieces in proptest::collection::vec((0u32..99, 0u32..4000, 0u32..2000), 0..60)
        ) {
            let Moves(all) = moves(&pieces);
            for two in all.windows(2) {
                prop_assert!(two[0].old + two[0].length <= two[1].old);
            }
        }
    }
}
