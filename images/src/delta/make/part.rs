//! A stretch of a content, and the pieces that make it.

use std::ops::Range;

use super::base::BaseFile;
use crate::delta::layout::Layout;
use crate::delta::pieces::Piece;

/// Bytes for which together it is told whether a content's source has them.
pub(super) const CELL: usize = 256;

/// A piece from which on it says that its bytes are those of the source, and are not just somewhere.
const CERTAIN: u32 = 32;

/// How a stretch of a content is made.
pub(in crate::delta) struct Part<'a> {
    pub(in crate::delta) source: &'a BaseFile,
    /// Of the source, and of this stretch.
    pub(in crate::delta) layouts: [Layout; 2],
    pub(in crate::delta) pieces: Vec<Piece>,
}

impl Part<'_> {
    /// Bytes that it makes.
    pub(in crate::delta) fn length(&self) -> usize {
        made(&self.pieces)
    }
}

fn made(pieces: &[Piece]) -> usize {
    let one = |piece: &Piece| piece.literal as usize + piece.length as usize;
    pieces.iter().map(one).sum()
}

/// Cells of a content that its source has.
pub(super) fn covered(length: usize, whole: Option<&Part<'_>>) -> Vec<bool> {
    let mut bytes = vec![0; length.div_ceil(CELL)];
    let mut at = 0;
    for piece in whole.into_iter().flat_map(|whole| &whole.pieces) {
        at += piece.literal as usize;
        let end = at + piece.length as usize;
        while at < end {
            let next = end.min((at / CELL + 1) * CELL);
            if piece.length >= CERTAIN {
                bytes[at / CELL] += next - at;
            }
            at = next;
        }
    }
    bytes.into_iter().map(|bytes| bytes * 2 >= CELL).collect()
}

/// Bytes that pieces have of the source for certain.
pub(super) fn certain(pieces: &[Piece]) -> usize {
    let long = pieces.iter().filter(|piece| piece.length >= CERTAIN);
    long.map(|piece| piece.length as usize).sum()
}

/// Pieces that make so many bytes, the last of them literals where there are none for them.
pub(super) fn filled(mut pieces: Vec<Piece>, length: usize) -> Vec<Piece> {
    let missing = length - made(&pieces);
    if missing > 0 {
        pieces.push(Piece {
            literal: missing as u32,
            exact: true,
            ..Piece::default()
        });
    }
    pieces
}

/// What pieces make of a stretch of the content.
pub(super) fn cut(pieces: &[Piece], range: &Range<usize>) -> Vec<Piece> {
    let within = |start: u32, length: u32| {
        let begin = start.max(range.start as u32);
        let end = (start + length).min(range.end as u32);
        match begin < end {
            true => (begin - start, end - begin),
            false => (0, 0),
        }
    };
    let mut at = 0;
    let mut all: Vec<Piece> = Vec::new();
    for piece in pieces {
        let (_, literal) = within(at, piece.literal);
        at += piece.literal;
        let (skipped, length) = within(at, piece.length);
        at += piece.length;
        if literal + length == 0 {
            continue;
        }
        all.push(Piece {
            literal,
            old: if length > 0 { piece.old + skipped } else { 0 },
            length,
            exact: piece.exact || length == 0,
        });
    }
    all
}
