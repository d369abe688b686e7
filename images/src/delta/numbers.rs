//! The model of a file's pieces: lengths, and where the old bytes are.

use std::io;

use super::counter::{Fine, Form};
use super::format::Version;
use super::mix::{Kind, Predictor, Select, Shape, hash};
use super::pieces::Piece;
use super::processor::{Task, carry_out};
use super::range::BitCoder;

/// What an input counts for at first.
const PRIOR: [i32; 4] = [8738; 4];

/// Numbers of a piece: each has a coarse set of weights.
const NUMBERS: usize = 5;

/// Bits of a number.
#[derive(Clone)]
struct Bits;

impl Kind for Bits {
    type Entry = Fine;
    const SHAPE: Shape = Shape {
        bits: [12, 12],
        large: 4,
        fine: 256,
        rate: 8,
        refiners: 1,
    };
}

/// Diagonals (new offset minus old offset) that are remembered.
const DIAGONALS: usize = 4;

/// Predicts and learns. It can be copied to look ahead.
#[derive(Clone)]
pub(crate) struct Numbers {
    predictor: Predictor<Bits, 4>,
    /// The last diagonals, the latest first.
    diagonals: [u32; DIAGONALS],
    last: [u32; 3],
}

impl Numbers {
    pub(crate) fn new(version: Version) -> Self {
        let form = Form::fine(version != Version::Three);
        Self {
            predictor: Predictor::new(form, std::iter::repeat_n(PRIOR, NUMBERS)),
            diagonals: [0; DIAGONALS],
            last: [0; 3],
        }
    }

    /// A file's first piece comes.
    pub(crate) fn new_source(&mut self) {
        self.diagonals = [0; DIAGONALS];
    }

    /// Codes the next piece, which begins at `new` of the new file; `old`: where the last one ended.
    pub(crate) fn piece(
        &mut self,
        coder: &mut impl BitCoder,
        new: u32,
        old: u32,
        piece: Piece,
    ) -> io::Result<Piece> {
        let [literals, lengths, kinds] = self.last;
        let literal = self.number(coder, 0, [literals, lengths, kinds], piece.literal)?;
        let size = literal.checked_ilog2().map_or(0, |bits| bits + 1);
        let exact = self.number(coder, 1, [size, lengths, kinds & 3], u32::from(piece.exact))? != 0;
        let start = new.wrapping_add(literal);
        let wanted = start.wrapping_sub(piece.old);
        let known = self
            .diagonals
            .iter()
            .position(|&diagonal| diagonal == wanted)
            .unwrap_or(DIAGONALS);
        let known = self.number(coder, 2, [size, kinds, lengths], known as u32)? as usize;
        let from = match self.diagonals.get(known) {
            Some(diagonal) => start.wrapping_sub(*diagonal),
            None => {
                let seek = piece.old.wrapping_sub(old) as i32;
                let folded = ((seek << 1) ^ (seek >> 31)) as u32;
                let folded = self.number(coder, 3, [size, kinds, lengths], folded)?;
                old.wrapping_add((folded >> 1) ^ (folded & 1).wrapping_neg())
            }
        };
        let length = self.number(coder, 4, [known as u32, size, lengths], piece.length)?;
        let shift = known.min(DIAGONALS - 1);
        self.diagonals[..=shift].rotate_right(1);
        self.diagonals[0] = start.wrapping_sub(from);
        let bits = length.checked_ilog2().map_or(0, |bits| bits + 1);
        self.last = [
            size,
            bits,
            (kinds << 2 | u32::from(known == DIAGONALS) << 1 | u32::from(exact)) & 255,
        ];
        Ok(Piece {
            literal,
            old: from,
            length,
            exact,
        })
    }

    fn number<C: BitCoder>(
        &mut self,
        coder: &mut C,
        which: u32,
        known: [u32; 3],
        value: u32,
    ) -> io::Result<u32> {
        carry_out(Number {
            numbers: self,
            coder,
            which,
            known,
            value,
        })
    }

    /// The number's size in bits, then its bits below the highest.
    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn decide(
        &mut self,
        coder: &mut impl BitCoder,
        which: u32,
        known: [u32; 3],
        value: u32,
    ) -> io::Result<u32> {
        let size = value.checked_ilog2().map_or(0, |bits| bits + 1);
        let mut node = 1;
        for shift in (0..6).rev() {
            let contexts = [
                hash([which, node]),
                hash([which, node, known[0], 1]),
                hash([which, node, known[1], known[0]]),
                hash([which, node, known[2], known[1], 2]),
            ];
            let bit = self.predictor.code(
                coder,
                size >> shift & 1 == 1,
                &contexts,
                Select {
                    coarse: which as usize,
                    fine: (which * 8 + shift) as usize,
                    refiner: 0,
                },
            )?;
            node = node * 2 + u32::from(bit);
        }
        let size = (node & 63).min(32);
        if size == 0 {
            return Ok(0);
        }
        let mut made = 1u32;
        for shift in (0..size - 1).rev() {
            let top = if size - 1 - shift <= 5 { made } else { 0 };
            let contexts = [
                hash([which + 8, size, shift, top]),
                hash([which + 8, size, shift, top, known[0]]),
                hash([which + 8, size, shift, known[1]]),
                hash([which + 8, shift, made]),
            ];
            let bit = self.predictor.code(
                coder,
                value >> shift & 1 == 1,
                &contexts,
                Select {
                    coarse: which as usize,
                    fine: (64 + which * 32 + shift) as usize,
                    refiner: 0,
                },
            )?;
            made = made * 2 + u32::from(bit);
        }
        Ok(made)
    }
}

/// The decisions of one number.
struct Number<'a, C> {
    numbers: &'a mut Numbers,
    coder: &'a mut C,
    which: u32,
    known: [u32; 3],
    value: u32,
}

impl<C: BitCoder> Task for Number<'_, C> {
    type Done = io::Result<u32>;

    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn carry_out(self) -> io::Result<u32> {
        self.numbers
            .decide(self.coder, self.which, self.known, self.value)
    }
}
