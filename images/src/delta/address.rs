//! Where an address field is likely, and by what its difference can be guessed.
//!
//! When code grows in the middle, everything behind it moves by the same distance. A field that points to
//! T changes by shift(T), or by shift(T) - shift(here) when it is relative. Each field that was decoded
//! teaches shift(T) for its target, and the fields that follow with a target close by mostly agree.

use super::machine::{Machine, is_a32_branch, is_a64_branch, is_rel32};
use super::model::{AHEAD, BEHIND};

/// Bytes of a target's neighbourhood, log2: code moves in functions, not bytes.
const AREA_BITS: u32 = 8;

/// Entries of a table of shifts, log2; 8 bytes each, two tables a kind.
const TABLE_BITS: u32 = 14;

/// What a field is taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FieldKind {
    None = 0,
    /// x86: four little-endian bytes, relative to their end.
    Rel32 = 1,
    /// A word at a multiple of four: perhaps a pointer, perhaps nothing.
    Word = 2,
    /// A branch of A64 (`B`, `BL`: 26 bits) or A32 (`BL`: 24 bits), in instructions.
    Branch = 3,
}

/// A guess for the difference of one byte.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Guess {
    state: u8,
    diff: u8,
}

impl Guess {
    const UNKNOWN: u8 = 0;
    const WRONG: u8 = 1;
    const GOOD: u8 = 2;

    /// 0 nothing known, 1 already refuted in this field, 2 "no change", 3 "a change".
    pub(crate) fn flag_context(&self) -> u32 {
        match self.state {
            Self::GOOD => 2 + u32::from(self.diff != 0),
            state => state.into(),
        }
    }

    /// State and guessed difference.
    pub(crate) fn context(&self) -> u32 {
        u32::from(self.state) << 8 | u32::from(self.diff)
    }

    pub(crate) fn diff(&self) -> Option<u8> {
        (self.state == Self::GOOD).then_some(self.diff)
    }
}

/// What is known about the current byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) kind: FieldKind,
    /// Byte of the field, 0 … 3.
    pub(crate) at: u8,
    /// From the same target.
    pub(crate) exact: Guess,
    /// From a target nearby.
    pub(crate) area: Guess,
    /// From the last field of this kind.
    pub(crate) recent: Guess,
}

#[derive(Clone, Copy, Default)]
struct Learned {
    /// Hash of what it was learned for; 0 is empty.
    key: u32,
    shift: u32,
}

/// The field that is being coded.
struct Open {
    kind: FieldKind,
    at: u8,
    old: u32,
    new: u32,
    keys: [u32; 2],
    /// Guessed new words: same target, area, last.
    guesses: [Option<u32>; 3],
}

/// Shifts learned so far.
pub(crate) struct AddressMap {
    tables: Vec<Learned>,
    last: [u32; 4],
    open: Option<Open>,
    source: u32,
    machine: Machine,
    /// New position minus old position in the current range.
    here: u32,
}

impl AddressMap {
    pub(crate) fn new() -> Self {
        Self {
            tables: vec![Learned::default(); 2 << TABLE_BITS],
            last: [0; 4],
            open: None,
            source: 0,
            machine: Machine::Any,
            here: 0,
        }
    }

    pub(crate) fn new_source(&mut self, machine: Machine) {
        self.machine = machine;
        self.source = self.source.wrapping_add(1);
        self.open = None;
        self.last = [0; 4];
    }

    pub(crate) fn new_range(&mut self, old: u64, new: u64) {
        self.here = new.wrapping_sub(old) as u32;
        self.open = None;
    }

    /// Looks at the byte in the middle of `near`, which lies at `position` of the source.
    pub(crate) fn field(&mut self, near: &[u8; BEHIND + AHEAD + 1], position: u64) -> Field {
        if let Some(kind) = self.begins(near, position) {
            self.open = Some(self.open(kind, near, position as u32));
        }
        let Some(open) = &self.open else {
            let none = Guess::default();
            return Field {
                kind: FieldKind::None,
                at: 0,
                exact: none,
                area: none,
                recent: none,
            };
        };
        let old = near[BEHIND];
        let done = (1u64 << (8 * open.at)) as u32;
        let guess = |word: Option<u32>| match word {
            None => Guess {
                state: Guess::UNKNOWN,
                diff: 0,
            },
            Some(word) if (word ^ open.new) & done.wrapping_sub(1) != 0 => Guess {
                state: Guess::WRONG,
                diff: 0,
            },
            Some(word) => {
                let byte = (word >> (8 * open.at)) as u8;
                Guess {
                    state: Guess::GOOD,
                    diff: byte.wrapping_sub(old),
                }
            }
        };
        let [exact, area, recent] = open.guesses.map(guess);
        Field {
            kind: open.kind,
            at: open.at,
            exact,
            area,
            recent,
        }
    }

    /// Takes in the new byte; at a field's end its target's shift is learned.
    pub(crate) fn learn(&mut self, new: u8) {
        let Some(open) = &mut self.open else { return };
        open.new |= u32::from(new) << (8 * open.at);
        open.at += 1;
        if open.at < 4 {
            return;
        }
        let shift = shift_of(open.kind, open.old, open.new, self.here);
        let keys = open.keys;
        self.last[open.kind as usize] = shift;
        self.open = None;
        for (table, key) in keys.into_iter().enumerate() {
            self.tables[slot(table, key)] = Learned { key, shift };
        }
    }

    /// Whether a field begins at this byte. A relative one also ends a word that is open, as words are
    /// mere suspicion.
    fn begins(&self, near: &[u8; BEHIND + AHEAD + 1], position: u64) -> Option<FieldKind> {
        let aligned = position.is_multiple_of(4);
        match &self.open {
            Some(open) if open.kind != FieldKind::Word => return None,
            _ => {}
        }
        let top = near[BEHIND + 3];
        let (last, before) = (near[BEHIND - 1], near[BEHIND - 2]);
        let found = match self.machine {
            Machine::Any => None,
            Machine::A64 => (aligned && is_a64_branch(top)).then_some(FieldKind::Branch),
            Machine::A32 => (aligned && is_a32_branch(top)).then_some(FieldKind::Branch),
            Machine::X86 => is_rel32(last, before).then_some(FieldKind::Rel32),
        };
        if found.is_some() {
            return found;
        }
        (aligned && self.open.is_none()).then_some(FieldKind::Word)
    }

    fn open(&self, kind: FieldKind, near: &[u8; BEHIND + AHEAD + 1], position: u32) -> Open {
        let old = u32::from_le_bytes([
            near[BEHIND],
            near[BEHIND + 1],
            near[BEHIND + 2],
            near[BEHIND + 3],
        ]);
        let target = match kind {
            FieldKind::Rel32 => position.wrapping_add(4).wrapping_add(old),
            FieldKind::Branch => position.wrapping_add(branch(old)),
            FieldKind::Word | FieldKind::None => old,
        };
        let key = |value: u32, table: u32| {
            let mixed = (value ^ self.source.wrapping_mul(0x9E37_79B1)).wrapping_mul(0x85EB_CA6B);
            (mixed ^ (mixed >> 15) ^ (kind as u32 * 2 + table)).wrapping_mul(0xC2B2_AE35) | 1
        };
        let keys = [key(target, 0), key(target >> AREA_BITS, 1)];
        let found = |table: usize| {
            let learned = self.tables[slot(table, keys[table])];
            let shift = (learned.key == keys[table]).then_some(learned.shift)?;
            Some(apply(kind, old, shift, self.here))
        };
        let last = Some(apply(kind, old, self.last[kind as usize], self.here));
        Open {
            kind,
            at: 0,
            old,
            new: 0,
            keys,
            guesses: [found(0), found(1), last],
        }
    }
}

/// The distance of a branch in bytes, modulo its field's size.
fn branch(word: u32) -> u32 {
    if word >> 24 == 0xEB {
        (word << 8) >> 6
    } else {
        ((word << 6) >> 4) & 0x0FFF_FFFF
    }
}

/// The new word, if the target moved by `shift` and the field by `here`.
fn apply(kind: FieldKind, old: u32, shift: u32, here: u32) -> u32 {
    match kind {
        FieldKind::Rel32 => old.wrapping_add(shift).wrapping_sub(here),
        FieldKind::Word | FieldKind::None => old.wrapping_add(shift),
        FieldKind::Branch => {
            let mask = if old >> 24 == 0xEB {
                0x00FF_FFFF
            } else {
                0x03FF_FFFF
            };
            let moved = (branch(old).wrapping_add(shift).wrapping_sub(here)) >> 2;
            (old & !mask) | (moved & mask)
        }
    }
}

/// The inverse of [`apply`].
fn shift_of(kind: FieldKind, old: u32, new: u32, here: u32) -> u32 {
    match kind {
        FieldKind::Rel32 => new.wrapping_sub(old).wrapping_add(here),
        FieldKind::Word | FieldKind::None => new.wrapping_sub(old),
        FieldKind::Branch => branch(new).wrapping_sub(branch(old)).wrapping_add(here),
    }
}

fn slot(table: usize, key: u32) -> usize {
    (table << TABLE_BITS) + (key >> (32 - TABLE_BITS)) as usize
}
