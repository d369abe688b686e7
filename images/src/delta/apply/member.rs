//! A member's content made from a base file, piece by piece.

use super::sections::Sections;
use super::source::Source;
use crate::delta::DeltaError;
use crate::delta::model::{AHEAD, BEHIND, DiffModel, UNIT, unit_end};
use crate::delta::numbers::Numbers;
use crate::delta::pieces::{Moves, Piece};

/// Where the making of a content stands.
pub(super) struct Member {
    /// Pieces to come.
    pieces: u64,
    /// The piece at hand, with what is left of it.
    piece: Piece,
    /// New bytes so far.
    at: u32,
    /// Where the last old bytes ended.
    done: u32,
    /// The last old bytes of the range at hand.
    behind: [u8; BEHIND],
}

impl Member {
    /// Looks through the pieces once, for where old bytes went. Each piece makes at least a byte, and all of them
    /// at most `room`.
    pub(super) fn begin(
        pieces: u64,
        room: u64,
        sections: &Sections,
        numbers: &mut Numbers,
        model: &mut DiffModel,
    ) -> Result<Self, DeltaError> {
        numbers.new_source();
        let mut ahead = sections.pieces_ahead();
        let mut numbers = numbers.clone();
        let (mut at, mut done) = (0u32, 0u32);
        let mut made = 0u64;
        let moves = Moves::of((0..pieces).map(|_| {
            let piece = numbers.piece(&mut ahead, at, done, Piece::default());
            let piece = piece.map_err(DeltaError::Read)?;
            let bytes = u64::from(piece.literal) + u64::from(piece.length);
            made += bytes;
            if bytes == 0 || made > room {
                return Err(DeltaError::Malformed(
                    "pieces that make nothing, or too much",
                ));
            }
            at = at.wrapping_add(bytes as u32);
            done = piece.old.wrapping_add(piece.length);
            Ok(piece)
        }))?;
        model.moves(moves);
        Ok(Self {
            pieces,
            piece: Piece::default(),
            at: 0,
            done: 0,
            behind: [0; BEHIND],
        })
    }

    /// Makes up to `most` bytes into `out`; false at the end.
    pub(super) fn fill(
        &mut self,
        most: usize,
        source: &mut Source,
        sections: &mut Sections,
        numbers: &mut Numbers,
        model: &mut DiffModel,
        out: &mut Vec<u8>,
    ) -> Result<bool, DeltaError> {
        if self.piece.literal == 0 && self.piece.length == 0 {
            if self.pieces == 0 {
                return Ok(false);
            }
            self.pieces -= 1;
            let empty = Piece::default();
            let piece = numbers.piece(&mut sections.pieces, self.at, self.done, empty);
            self.piece = piece.map_err(DeltaError::Read)?;
            let start = self.at.wrapping_add(self.piece.literal);
            model.piece(&self.piece, start);
            self.behind = [0; BEHIND];
            if self.piece.literal == 0 {
                model.new_range(self.piece.old, self.at);
            }
        }
        let now = if self.piece.literal > 0 {
            self.literal(most, source, sections, model, out)?
        } else if self.piece.exact {
            let now = (self.piece.length as usize).min(most);
            out.resize(now, 0);
            source.at = self.piece.old.into();
            source.read(out)?;
            self.advance(now)?;
            now
        } else {
            self.add(most, source, sections, model, out)?
        };
        self.at = self.at.wrapping_add(now as u32);
        if self.piece.literal == 0 && self.piece.length == 0 {
            self.done = self.piece.old;
        }
        Ok(true)
    }

    /// Old bytes have been used.
    fn advance(&mut self, bytes: usize) -> Result<(), DeltaError> {
        let old = self.piece.old.checked_add(bytes as u32);
        self.piece.old = old.ok_or(DeltaError::Malformed("a piece beyond 4 GiB"))?;
        self.piece.length -= bytes as u32;
        Ok(())
    }

    fn literal(
        &mut self,
        most: usize,
        source: &Source,
        sections: &mut Sections,
        model: &mut DiffModel,
        out: &mut Vec<u8>,
    ) -> Result<usize, DeltaError> {
        let left = self.piece.literal as usize;
        // Whole words: `most` is more than one.
        let now = match left <= most {
            true => left,
            false => most - self.at.wrapping_add(most as u32) as usize % 4,
        };
        // The old bytes that would be there if it went on as before, or as behind the literal.
        let (mut before, mut behind) = (vec![0; now], vec![0; now]);
        source.peek(self.done.into(), &mut before)?;
        if self.piece.length > 0 {
            let from = i64::from(self.piece.old) - i64::from(self.piece.literal);
            source.peek(from, &mut behind)?;
        }
        out.resize(now, 0);
        let mut index = 0;
        while index < now {
            let position = self.at.wrapping_add(index as u32);
            let word = model.word_ahead(position, left - index);
            let next = index + if word { 4 } else { 1 };
            for index in (index..next).rev() {
                let guesses = [before[index], behind[index]];
                let position = self.at.wrapping_add(index as u32);
                let byte = model.literal(&mut sections.contents, guesses, position, word, 0);
                out[index] = byte.map_err(DeltaError::Read)?;
            }
            index = next;
        }
        self.done = self.done.wrapping_add(now as u32);
        self.piece.literal -= now as u32;
        if self.piece.literal == 0 {
            model.new_range(self.piece.old, self.at.wrapping_add(now as u32));
        }
        Ok(now)
    }

    fn add(
        &mut self,
        most: usize,
        source: &mut Source,
        sections: &mut Sections,
        model: &mut DiffModel,
        out: &mut Vec<u8>,
    ) -> Result<usize, DeltaError> {
        let left = self.piece.length as usize;
        let start = self.piece.old;
        // Whole units: the last one of a range may be shorter.
        let now = left.min(most - start as usize % UNIT);
        let ahead = (left - now).min(AHEAD);
        // Old bytes with their surroundings; what lies outside the range counts as zero.
        let mut window = vec![0; BEHIND + now + AHEAD];
        window[..BEHIND].copy_from_slice(&self.behind);
        source.at = start.into();
        source.read(&mut window[BEHIND..BEHIND + now + ahead])?;
        out.resize(now, 0);
        let mut index = 0;
        while index < now {
            let position = start.wrapping_add(index as u32);
            let end = index + unit_end(position.into(), (now - index) as u64);
            let unit = &mut out[index..end];
            let coded = model.unit(&mut sections.contents, &window[index..], position, unit);
            coded.map_err(DeltaError::Read)?;
            index = end;
        }
        self.behind.copy_from_slice(&window[now..now + BEHIND]);
        self.advance(now)?;
        Ok(now)
    }
}
