//! The model of bytes that could not be predicted: those of an ADD that are otherwise, and literals.

use std::io;

use super::address::View;
use super::counter::{Form, Quick};
use super::format::Version;
use super::mix::{Keys, Kind, PICK, Predictor, Select, Shape, hash};
use super::model::{BEHIND, Near};
use super::processor::{Task, carry_out};
use super::range::BitCoder;
use super::repeats::Repeats;
use super::sums::{Expected, Sums};

const INPUTS: usize = 20;

/// Those of them that follow a guess for the whole byte.
const GUESSES: usize = 7;
const BASES: usize = INPUTS - GUESSES;

/// Those of the others that have large tables.
const LARGE: usize = BASES - 1;

/// What an input counts for at first: for bytes that are otherwise, for literals.
const PRIOR: [[i32; INPUTS]; 2] = [
    [
        3200, 4800, 7700, 4900, 6000, 5300, 3400, 14000, 8800, 7800, 4600, 4000, 500, 17000, 8100,
        5600, 8100, 22700, 2000, 0,
    ],
    [
        3600, 3300, 2500, 4200, 3000, 9800, 3500, 2500, 12600, 7400, 3600, 3100, 500, 7600, 9800,
        7100, 11000, 6700, 4900, 0,
    ],
];

/// Modes of a byte: otherwise, or a literal and how well a repetition went.
const MODES: usize = 5;

/// Bits of a byte.
struct Bits;

impl Kind for Bits {
    type Entry = Quick;
    const SHAPE: Shape = Shape {
        bits: [16, 14],
        large: LARGE,
        fine: MODES * 8 * 9,
        rate: 8,
        refiners: 2 * 256,
    };
}

/// What is known about a byte.
pub(crate) struct Known<'a> {
    pub(crate) near: &'a Near,
    pub(crate) view: View,
    pub(crate) position: u32,
    /// Differences of the last eight bytes, the latest lowest.
    pub(crate) diffs: u64,
    /// The last four differences that were not zero.
    pub(crate) changes: u32,
    pub(crate) missed: u32,
}

/// Predicts and learns bytes.
pub(crate) struct Symbols {
    predictor: Predictor<Bits, INPUTS>,
    /// The last new bytes, the latest lowest; when `turned`, the last words from their last byte on.
    last: u128,
    turned: bool,
    repeats: Repeats,
    /// Since version 4.
    sums: Option<Sums>,
    /// How the last guesses went: for bytes that are otherwise, for literals.
    hits: [[u8; GUESSES]; 2],
    /// What came last in a context: differences, and bytes.
    came: Vec<u8>,
}

/// Entries of a table of what came last, log2.
const CAME_BITS: u32 = 12;

fn came(table: usize, context: u32) -> usize {
    (table << CAME_BITS) + (context.wrapping_mul(0x9E37_79B1) >> (32 - CAME_BITS)) as usize
}

impl Symbols {
    pub(crate) fn new(version: Version) -> Self {
        let form = Form::quick(version != Version::Three);
        // Inputs that version 3 lacks: the last of the contexts, and of the guesses.
        let absent = match version {
            Version::Three => 1 << (BASES - 1) | 1 << (INPUTS - 1),
            Version::Four => 0,
        };
        let priors = (0..MODES * 8).map(|set| PRIOR[(set / 8).min(1)]);
        Self {
            predictor: Predictor::new(form, priors).without(absent),
            last: 0,
            turned: false,
            repeats: Repeats::new(),
            sums: (version != Version::Three).then(Sums::default),
            hits: [[0; GUESSES]; 2],
            came: vec![0; 4 << CAME_BITS],
        }
    }

    /// A byte that differs from what was predicted.
    pub(crate) fn otherwise(
        &mut self,
        coder: &mut impl BitCoder,
        known: &Known,
        new: u8,
    ) -> io::Result<u8> {
        self.turn(false);
        let near = known.near;
        let b = |offset: isize| u32::from(near[(BEHIND as isize + offset) as usize]);
        let c = |back: u32| (self.last >> (8 * (back - 1))) as u32 & 255;
        let d = |back: u32| (known.diffs >> (8 * (back - 1))) as u32 & 255;
        let view = &known.view;
        let phase = known.position & 3;
        let place = view.place;
        let plus = |diff: u32| (b(0) + diff) & 255;
        let word = [
            b(-(phase as isize)),
            b(1 - phase as isize),
            b(2 - phase as isize),
            b(3 - phase as isize),
        ];
        let fresh = (self.last as u32) & ((1u64 << (8 * phase)) - 1) as u32;
        let last = known.changes & 255;
        let sum = self.expected();
        let slots = [
            came(0, hash([41, place, known.changes & 0xFFFF])),
            came(1, hash([42, b(-1), b(0), b(1), place])),
        ];
        let guesses = [
            view.other,
            plus(last) as u8,
            plus(d(4)) as u8,
            plus(d(8)) as u8,
            plus(self.came[slots[0]].into()) as u8,
            self.came[slots[1]],
            sum.byte,
        ];
        let hits = |index: usize| u32::from(self.hits[0][index]) & 15;
        let known_by = [
            hash([1, place, view.pattern, hits(0)]),
            hash([2, place, hits(1), known.missed & 7]),
            hash([3, phase, hits(2), hits(3) & 3]),
            hash([4, phase, hits(3), hits(2) & 3]),
            hash([5, place, hits(4)]),
            hash([6, place, hits(5)]),
            hash([45, sum.standing, sum.right]),
        ];
        let old_word = word[0] | word[1] << 8 | word[2] << 16 | word[3] << 24;
        let above = ((self.last >> (8 * phase)) & 0xFFFF_FFFF) as u32;
        let bases = [
            hash([3, b(-3) << 24 | b(-2) << 16 | b(-1) << 8 | b(0)]),
            hash([5, b(0), known.changes & 0xFF_FFFF]),
            hash([6, c(1), b(0), b(1)]),
            hash([7, c(2) << 8 | c(1), b(0)]),
            hash([8, self.last as u32 & 0xFF_FFFF, phase]),
            hash([9, self.last as u32, 0]),
            hash([
                10,
                word[0] | word[1] << 8 | word[2] << 16 | word[3] << 24,
                fresh,
                phase,
            ]),
            hash([11, plus(d(1)), plus(d(2)), known.missed & 3]),
            hash([12, c(1), u32::from(view.predicted), place]),
            hash([13, b(0), plus(last), place]),
            hash([14, old_word >> 21, fresh, phase]),
            hash([15, above & 0xFF, above >> 13 & 7, b(0), fresh, phase]),
            hash([46, sum.before, sum.begun, sum.bits]),
        ];
        let new = self.code(coder, &bases, (guesses, known_by), 0, new)?;
        for (hits, guess) in self.hits[0].iter_mut().zip(guesses) {
            *hits = *hits << 1 | u8::from(guess == new);
        }
        self.came[slots[0]] = new.wrapping_sub(b(0) as u8);
        self.came[slots[1]] = new;
        self.came_next(new);
        Ok(new)
    }

    /// A literal; `old`: the old bytes that would be there if it went on as before, or as behind it.
    pub(crate) fn literal(
        &mut self,
        coder: &mut impl BitCoder,
        old: [u8; 2],
        position: u32,
        word: bool,
        new: u8,
    ) -> io::Result<u8> {
        self.turn(word);
        let (repeat, right) = self.repeats.guess();
        let sum = self.expected();
        let c = |back: u32| (self.last >> (8 * (back - 1))) as u32 & 255;
        let [before, behind] = old.map(u32::from);
        // Bytes of the word that are known.
        let done = match word {
            true => 3 - (position & 3),
            false => position & 3,
        };
        let phase = done + 4 * u32::from(word);
        let fresh = (self.last as u32) & ((1u64 << (8 * done)) - 1) as u32;
        let above = ((self.last >> (8 * done)) & 0xFFFF_FFFF) as u32;
        let further = (self.last >> (8 * done + 32)) as u32;
        let hits = |index: usize| u32::from(self.hits[1][index]);
        let known_by = [
            hash([21, right.min(31), 0, 0]),
            hash([22, hits(1), u32::from(old[0] == old[1]), 0]),
            hash([23, hits(2), u32::from(old[0] == old[1]), 0]),
            hash([24, hits(1) & 15, hits(2) & 15, right.min(1)]),
            hash([25, hits(4), right.min(1)]),
            hash([26, hits(5), right.min(1)]),
            hash([45, sum.standing, sum.right]),
        ];
        let slots = [
            came(2, hash([43, c(1), c(2), c(3)])),
            came(3, hash([44, above >> 21, fresh, phase])),
        ];
        let guesses = [
            repeat,
            old[0],
            old[1],
            old[0],
            self.came[slots[0]],
            self.came[slots[1]],
            sum.byte,
        ];
        let bases = [
            hash([8, self.last as u32 & 0xFF_FFFF, phase]),
            hash([24, c(1), before, behind]),
            hash([
                25,
                (self.last & 0xFFFF_FFFF_FFFF) as u32,
                (self.last >> 32) as u32 & 0xFFFF,
            ]),
            hash([26, c(2) << 8 | c(1), before]),
            hash([27, c(2) << 8 | c(1), behind]),
            hash([28, c(2) << 8 | c(1)]),
            hash([9, self.last as u32, 0]),
            hash([30, above, fresh, phase]),
            hash([32, c(1), phase]),
            hash([33, c(4) << 16 | c(3) << 8 | c(2)]),
            hash([34, above >> 21, further >> 21, fresh, phase]),
            hash([35, above & 0x3FF, fresh, phase]),
            hash([46, sum.before, sum.begun, sum.bits]),
        ];
        let strength = match right {
            0 => 1,
            1..=15 => 2,
            16..=31 => 3,
            _ => 4,
        };
        let new = self.code(coder, &bases, (guesses, known_by), strength, new)?;
        for (hits, guess) in self.hits[1].iter_mut().zip(guesses) {
            *hits = *hits << 1 | u8::from(guess == new);
        }
        self.came[slots[0]] = new;
        self.came[slots[1]] = new;
        self.came_next(new);
        self.repeats.push(new, self.last as u64);
        Ok(new)
    }

    /// `mode`: 0 for a byte that is otherwise, more for literals, by how well a repetition went.
    fn code<C: BitCoder>(
        &mut self,
        coder: &mut C,
        bases: &[u32; BASES],
        (guesses, known_by): ([u8; GUESSES], [u32; GUESSES]),
        mode: usize,
        new: u8,
    ) -> io::Result<u8> {
        carry_out(Decisions {
            symbols: self,
            coder,
            bases,
            guesses,
            known_by,
            mode,
            new,
        })
    }

    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn decide(
        &mut self,
        coder: &mut impl BitCoder,
        bases: &[u32; BASES],
        (guesses, known_by): ([u8; GUESSES], [u32; GUESSES]),
        mode: usize,
        new: u8,
    ) -> io::Result<u8> {
        let bases = bases.map(|base| base.wrapping_mul(PICK));
        let known_by = known_by.map(|base| base.wrapping_mul(PICK));
        let nibbles = self.sums.is_some();
        let mut keys = Keys::new();
        // Where the entries of a byte's half begin, of contexts that are looked up once for four decisions.
        let mut found = [0u32; LARGE];
        let mut node = 1u32;
        for shift in (0..8).rev() {
            // Since version 4 the first four decisions, and the last four, have a node of their own.
            if !nibbles || shift & 3 == 3 {
                let top = if nibbles && shift > 3 { 1 } else { node };
                for (index, found) in found.iter_mut().enumerate() {
                    self.predictor
                        .key(&mut keys, index, bases[index].wrapping_add(salted(top)));
                    *found = keys.slots[index];
                }
            }
            if nibbles {
                let begun = 1 << (3 - (shift & 3));
                let within = node & (begun - 1) | begun;
                for (slot, found) in keys.slots.iter_mut().zip(&found) {
                    *slot = found ^ within;
                }
            }
            for (index, base) in bases.iter().enumerate().skip(LARGE) {
                self.predictor
                    .key(&mut keys, index, base.wrapping_add(salted(node)));
            }
            // What a guess says to this bit: 0 nothing, as it was refuted.
            let says =
                guesses.map(
                    |guess| match (0x100 | u32::from(guess)) >> (shift + 1) == node {
                        true => 1 + (u32::from(guess) >> shift & 1),
                        false => 0,
                    },
                );
            for (index, (base, says)) in known_by.iter().zip(says).enumerate() {
                let picked = base.wrapping_add(salted(says * 8 + shift));
                self.predictor.key(&mut keys, BASES + index, picked);
            }
            let selector =
                ((mode * 8 + shift as usize) * 3 + says[0] as usize) * 3 + says[1] as usize;
            let bit = (new >> shift) & 1 == 1;
            let refiner = usize::from(mode > 0) * 256 + node as usize;
            let bit = self.predictor.decide(
                coder,
                bit,
                &keys,
                Select {
                    coarse: mode * 8 + shift as usize,
                    fine: selector,
                    refiner,
                },
            )?;
            node = node * 2 + u32::from(bit);
        }
        Ok(node as u8)
    }

    /// Takes in bytes that were as predicted.
    pub(crate) fn pass(&mut self, new: u8) {
        self.turn(false);
        self.came_next(new);
    }

    fn came_next(&mut self, new: u8) {
        if let Some(sums) = &mut self.sums {
            sums.push(new);
        }
        self.last = self.last << 8 | u128::from(new);
    }

    fn expected(&self) -> Expected {
        self.sums.as_ref().map(Sums::expected).unwrap_or_default()
    }

    /// From words as they come to words from their last byte on, or back.
    fn turn(&mut self, word: bool) {
        if word != self.turned {
            self.turned = word;
            let bytes = self.last.to_le_bytes();
            let mut turned = [0; 16];
            for (turned, bytes) in turned.chunks_exact_mut(4).zip(bytes.chunks_exact(4)) {
                for (turned, byte) in turned.iter_mut().zip(bytes.iter().rev()) {
                    *turned = *byte;
                }
            }
            self.last = u128::from_le_bytes(turned);
        }
    }
}

/// The eight of a byte.
struct Decisions<'a, C> {
    symbols: &'a mut Symbols,
    coder: &'a mut C,
    bases: &'a [u32; BASES],
    guesses: [u8; GUESSES],
    known_by: [u32; GUESSES],
    mode: usize,
    new: u8,
}

impl<C: BitCoder> Task for Decisions<'_, C> {
    type Done = io::Result<u8>;

    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn carry_out(self) -> io::Result<u8> {
        let guessed = (self.guesses, self.known_by);
        self.symbols
            .decide(self.coder, self.bases, guessed, self.mode, self.new)
    }
}

/// What a node, or what a guess says, adds to a context's hash that was multiplied by [`PICK`].
#[cfg_attr(feature = "make", inline(always))]
#[cfg_attr(not(feature = "make"), inline)]
fn salted(salt: u32) -> u32 {
    salt.wrapping_mul(0x2F0B_4C47u32.wrapping_mul(PICK))
}
