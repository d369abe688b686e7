//! Where an address is likely, and what it will be.
//!
//! When code grows in the middle, everything behind it moves. The pieces of the file tell where each old byte
//! went, so an address that leads into the file can be followed. What leads elsewhere is learned: shift(T) is
//! by how much target T moved, and what was read from one address serves for the next one to the same place.

mod field;

use super::format::Version;
use super::layout::{Layout, Reading, Region};
use super::machine::Distance;
use super::model::{BEHIND, Near};
use super::pieces::{Moves, Recent};

/// Entries of a table of shifts, log2; 8 bytes each, two tables.
const TABLE_BITS: u32 = 13;

/// What four bytes are taken for; 0 is no field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// x86: relative to their end.
    Rel32 = 1,
    /// A word that is no address of this file.
    Word = 2,
    /// ARM: a branch.
    Branch = 3,
    /// A64: `ADRP`.
    Pages = 4,
    /// A64: the low part of an address whose page a register has.
    Low = 5,
    /// A word that is an address.
    Pointer = 6,
    /// A word that is a distance from its own place to code.
    Offset = 7,
}

const KINDS: usize = 8;

/// Guesses for a field: by the pieces, by the same target, by a target nearby, by the last field, by the last pieces.
const GUESSES: usize = 5;

/// What is expected of one byte.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct View {
    pub(crate) predicted: u8,
    /// Another guess, or the old byte.
    pub(crate) other: u8,
    /// Two bits for each guess: 0 none, 1 refuted by an earlier byte of the field, 2 as predicted, 3 otherwise.
    pub(crate) pattern: u32,
    /// Kind and byte of the field.
    pub(crate) place: u32,
    /// How often such predictions were right, 0 … 7.
    pub(crate) trust: u32,
}

#[derive(Clone, Copy, Default)]
struct Learned {
    /// Hash of what it was learned for; 0 is empty.
    key: u32,
    shift: u32,
}

/// The field that is being coded.
#[derive(Clone, Copy)]
struct Open {
    kind: Kind,
    at: u8,
    old: u32,
    new: u32,
    /// Old address of what it leads to.
    target: u32,
    /// New address of the field.
    here: u32,
    distance: Option<Distance>,
    /// Register or log2 of the unit.
    detail: u8,
    keys: [u32; 2],
    guesses: [Option<u32>; GUESSES],
}

/// What changes with every byte, and can be set back.
#[derive(Clone, Copy)]
pub(crate) struct State {
    open: Option<Open>,
    /// Last and last but one shift of each kind.
    last: [[u32; 2]; KINDS],
    /// How often each guess, and at the end "no change", was right; 16 bits.
    trust: [[[u16; GUESSES + 1]; 8]; KINDS],
    /// Of each kind, whether the last three fields changed.
    moved: [u8; KINDS],
    /// A64: the page that each register got, old and new.
    pages: [Option<(u32, u32)>; 32],
    region: Option<Region>,
}

/// Shifts learned so far, and the layouts of the file at hand.
pub(crate) struct Addresses {
    tables: Vec<Learned>,
    pub(crate) state: State,
    undo: Vec<(usize, Learned)>,
    source: u32,
    old: Layout,
    new: Layout,
    pub(crate) moves: Moves,
    /// Since version 4.
    pub(crate) recent: Option<Recent>,
    /// New offset minus old offset in the current range.
    here: u32,
}

impl Addresses {
    pub(crate) fn new(version: Version) -> Self {
        Self {
            tables: vec![Learned::default(); 2 << TABLE_BITS],
            state: State {
                open: None,
                last: [[0; 2]; KINDS],
                trust: [[[1 << 15; GUESSES + 1]; 8]; KINDS],
                moved: [0; KINDS],
                pages: [None; 32],
                region: None,
            },
            undo: Vec::new(),
            source: 0,
            old: Layout::default(),
            new: Layout::default(),
            moves: Moves::default(),
            recent: (version != Version::Three).then(Recent::default),
            here: 0,
        }
    }

    pub(crate) fn new_source(&mut self, old: Layout, new: Layout) {
        self.source = self.source.wrapping_add(1);
        (self.old, self.new) = (old, new);
        self.moves = Moves::default();
        self.recent = self.recent.take().map(|_| Recent::default());
        self.state.open = None;
        self.state.region = None;
        self.state.last = [[0; 2]; KINDS];
        self.state.pages = [None; 32];
    }

    pub(crate) fn new_range(&mut self, old: u32, new: u32) {
        self.here = new.wrapping_sub(old);
        self.state.open = None;
        self.state.pages = [None; 32];
    }

    /// Whether an instruction of four bytes stands here in the new file.
    pub(crate) fn instruction_at(&self, position: u32) -> bool {
        self.new.at(position).is_some_and(|region| {
            matches!(region.reading, Reading::A64 | Reading::A32) && region.end - position >= 4
        })
    }

    /// From here on what is learned can be taken back.
    pub(crate) fn mark(&mut self) -> State {
        self.undo.clear();
        self.state
    }

    pub(crate) fn back_to(&mut self, state: State) {
        while let Some((slot, learned)) = self.undo.pop() {
            self.tables[slot] = learned;
        }
        self.state = state;
    }

    /// Looks at the byte in the middle of `near`, which lies at `position` of the source.
    pub(crate) fn view(&mut self, near: &Near, position: u32) -> View {
        self.begin(near, position);
        let old = near[BEHIND];
        let Some(open) = &self.state.open else {
            return View {
                predicted: old,
                other: old,
                ..View::default()
            };
        };
        let done = ((1u64 << (8 * open.at)) - 1) as u32;
        let moved = usize::from(self.state.moved[open.kind as usize]);
        let trust = &self.state.trust[open.kind as usize][moved];
        let mut best = None;
        let mut second = None;
        let mut bytes = [None; GUESSES];
        for (index, guess) in open.guesses.iter().enumerate() {
            let Some(word) = guess else { continue };
            if (word ^ open.new) & done != 0 {
                continue;
            }
            let byte = (word >> (8 * open.at)) as u8;
            bytes[index] = Some(byte);
            if best.is_none_or(|(most, _)| trust[index] > most) {
                second = best;
                best = Some((trust[index], byte));
            } else if second.is_none_or(|(most, _)| trust[index] > most) {
                second = Some((trust[index], byte));
            }
        }
        let unchanged = (open.old ^ open.new) & done == 0;
        let (sure, predicted) = match best {
            Some((most, byte)) if !unchanged || most >= trust[GUESSES] => (most, byte),
            _ => (if unchanged { trust[GUESSES] } else { 0 }, old),
        };
        let mut pattern = 0;
        for (index, byte) in bytes.iter().enumerate() {
            let state = match byte {
                Some(byte) if *byte == predicted => 2,
                Some(_) => 3,
                None => u32::from(open.guesses[index].is_some()),
            };
            pattern |= state << (2 * index);
        }
        let other = match (best, second) {
            (Some((_, byte)), _) if byte != predicted => byte,
            (_, Some((_, byte))) if byte != predicted => byte,
            _ => old,
        };
        View {
            predicted,
            other,
            pattern,
            place: open.kind as u32 * 4 + u32::from(open.at),
            trust: u32::from(sure >> 13),
        }
    }

    /// Takes in the new byte; at a field's end its target's shift is learned.
    pub(crate) fn learn(&mut self, new: u8) {
        let Some(open) = &mut self.state.open else {
            return;
        };
        open.new |= u32::from(new) << (8 * open.at);
        open.at += 1;
        if open.at < 4 {
            return;
        }
        let open = *open;
        self.state.open = None;
        let moved = &mut self.state.moved[open.kind as usize];
        let trust = &mut self.state.trust[open.kind as usize][usize::from(*moved)];
        *moved = (*moved << 1 | u8::from(open.new != open.old)) & 7;
        for (trust, guess) in trust
            .iter_mut()
            .zip(open.guesses.into_iter().chain([Some(open.old)]))
        {
            let Some(guess) = guess else { continue };
            let goal = if guess == open.new { 65535 } else { 0 };
            *trust = (i32::from(*trust) + (goal - i32::from(*trust)) / 32) as u16;
        }
        let shift = self.shift(&open);
        let last = &mut self.state.last[open.kind as usize];
        *last = [shift, last[0]];
        for (table, key) in open.keys.into_iter().enumerate() {
            let slot = slot(table, key);
            self.undo.push((slot, self.tables[slot]));
            self.tables[slot] = Learned { key, shift };
        }
    }
}

fn slot(table: usize, key: u32) -> usize {
    (table << TABLE_BITS) + (key >> (32 - TABLE_BITS)) as usize
}
