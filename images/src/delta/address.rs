//! Where an address is likely, and what it will be.
//!
//! When code grows in the middle, everything behind it moves. The pieces of the file tell where each old byte
//! went, so an address that leads into the file can be followed. What leads elsewhere is learned: shift(T) is
//! by how much target T moved, and what was read from one address serves for the next one to the same place.

use super::layout::{Layout, Reading, Region};
use super::machine::{
    Distance, LOW_MASK, a32_branch, a64_branch, adrp, is_rel32, low_part, with_pages,
};
use super::model::{AHEAD, BEHIND, Near};
use super::pieces::Moves;

/// Bytes of a target's neighbourhood, log2: code moves in functions, not bytes.
const AREA_BITS: u32 = 8;

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

/// Guesses for a field: by the pieces, by the same target, by a target nearby, by the last field.
const GUESSES: usize = 4;

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
    /// New offset minus old offset in the current range.
    here: u32,
}

impl Addresses {
    pub(crate) fn new() -> Self {
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
            here: 0,
        }
    }

    pub(crate) fn new_source(&mut self, old: Layout, new: Layout) {
        self.source = self.source.wrapping_add(1);
        (self.old, self.new) = (old, new);
        self.moves = Moves::default();
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

    /// Opens a field if one begins at this byte.
    fn begin(&mut self, near: &Near, position: u32) {
        let open = self.state.open.as_ref().map(|open| open.kind);
        if !matches!(open, None | Some(Kind::Word)) {
            return;
        }
        let region = match self.state.region {
            Some(region) if (region.start..region.end).contains(&position) => region,
            _ => match self.old.at(position) {
                Some(region) => *self.state.region.insert(*region),
                None => return,
            },
        };
        let aligned = position.is_multiple_of(4);
        let old = u32::from_le_bytes([
            near[BEHIND],
            near[BEHIND + 1],
            near[BEHIND + 2],
            near[BEHIND + 3],
        ]);
        let from = position.wrapping_add(region.shift);
        let found = match region.reading {
            Reading::Plain => None,
            Reading::Data if aligned => Some(self.word(old, from)),
            Reading::X86 if is_rel32(near[BEHIND - 1], near[BEHIND - 2]) => {
                Some((Kind::Rel32, from.wrapping_add(4).wrapping_add(old), None, 0))
            }
            Reading::X86 if aligned && open.is_none() => Some((Kind::Word, old, None, 0)),
            Reading::A64 if aligned => self.a64(old, from, near),
            Reading::A32 if aligned => a32_branch(old).map(|distance| {
                (
                    Kind::Branch,
                    from.wrapping_add(distance.get(old)),
                    Some(distance),
                    0,
                )
            }),
            _ => None,
        };
        if let Some((kind, target, distance, detail)) = found {
            self.open(
                Open {
                    kind,
                    at: 0,
                    old,
                    new: 0,
                    target,
                    here: 0,
                    distance,
                    detail,
                    keys: [0; 2],
                    guesses: [None; GUESSES],
                },
                position,
            );
        }
    }

    fn word(&self, old: u32, from: u32) -> (Kind, u32, Option<Distance>, u8) {
        if old >= 4096 && self.old.offset(old).is_some() {
            return (Kind::Pointer, old, None, 0);
        }
        let target = from.wrapping_add(old);
        let code = |offset| {
            let reading = self.old.at(offset).map(|region| region.reading);
            matches!(reading, Some(Reading::X86 | Reading::A64 | Reading::A32))
        };
        if old != 0 && self.old.offset(target).is_some_and(code) {
            return (Kind::Offset, target, None, 0);
        }
        (Kind::Word, old, None, 0)
    }

    fn a64(
        &mut self,
        old: u32,
        from: u32,
        near: &Near,
    ) -> Option<(Kind, u32, Option<Distance>, u8)> {
        if let Some(distance) = a64_branch(old) {
            return Some((
                Kind::Branch,
                from.wrapping_add(distance.get(old)),
                Some(distance),
                0,
            ));
        }
        if let Some((register, pages)) = adrp(old) {
            let page = (from >> 12).wrapping_add(pages) << 12;
            // The instruction that adds the low part mostly follows soon.
            let follows = near[BEHIND + 4..BEHIND + AHEAD]
                .chunks_exact(4)
                .find_map(|bytes| {
                    let word = u32::from_le_bytes(bytes.try_into().ok()?);
                    let (base, unit) = low_part(word)?;
                    (base == register).then_some(((word & LOW_MASK) >> 10) << unit)
                });
            return Some((
                Kind::Pages,
                page.wrapping_add(follows.unwrap_or(0)),
                None,
                register as u8,
            ));
        }
        let (base, unit) = low_part(old)?;
        let (page, _) = self.state.pages[base]?;
        Some((
            Kind::Low,
            page.wrapping_add(((old & LOW_MASK) >> 10) << unit),
            None,
            (base as u8) << 3 | unit as u8,
        ))
    }

    fn open(&mut self, mut open: Open, position: u32) {
        let source = self.source.wrapping_mul(0x9E37_79B1);
        // Targets are the same thing for every kind that has one; other words are kept apart.
        let salt = match open.kind {
            Kind::Word => 2,
            Kind::Pages => 4,
            _ => 0,
        };
        let key = |value: u32, table: u32| {
            let mixed = (value ^ source).wrapping_mul(0x85EB_CA6B);
            (mixed ^ (mixed >> 15) ^ (salt + table)).wrapping_mul(0xC2B2_AE35) | 1
        };
        let exact = if open.kind == Kind::Pages {
            open.target >> 12
        } else {
            open.target
        };
        open.keys = [key(exact, 0), key(open.target >> AREA_BITS, 1)];
        let here = self.new.address(position.wrapping_add(self.here));
        let known = |table: usize| {
            let learned = self.tables[slot(table, open.keys[table])];
            (learned.key == open.keys[table]).then_some(learned.shift)
        };
        let last = self.state.last[open.kind as usize];
        let by_pieces = match open.kind {
            Kind::Word => Some(last[1]),
            _ => self
                .old
                .offset(open.target)
                .and_then(|offset| self.moves.new_offset(offset))
                .map(|offset| self.new.address(offset).wrapping_sub(open.target)),
        };
        let shifts = [by_pieces, known(0), known(1), Some(last[0])];
        open.here = here;
        open.guesses = shifts.map(|shift| self.apply(&open, shift?));
        self.state.open = Some(open);
    }

    /// The new word, if the target moved by `shift` and the field lies where it lies now.
    fn apply(&self, open: &Open, shift: u32) -> Option<u32> {
        let (target, here) = (open.target.wrapping_add(shift), open.here);
        Some(match open.kind {
            Kind::Word | Kind::Pointer => open.old.wrapping_add(shift),
            Kind::Rel32 => target.wrapping_sub(here).wrapping_sub(4),
            Kind::Offset => target.wrapping_sub(here),
            Kind::Branch => open.distance?.put(open.old, target.wrapping_sub(here)),
            Kind::Pages => with_pages(open.old, (target >> 12).wrapping_sub(here >> 12)),
            Kind::Low => {
                let (_, page) = self.state.pages[usize::from(open.detail >> 3)]?;
                let low = target.wrapping_sub(page) >> (open.detail & 7);
                if low >= 4096 {
                    return None;
                }
                (open.old & !LOW_MASK) | low << 10
            }
        })
    }

    /// The inverse: by how much the target moved. Takes in what an instruction does, too.
    fn shift(&mut self, open: &Open) -> u32 {
        let here = open.here;
        match open.kind {
            Kind::Word | Kind::Pointer => open.new.wrapping_sub(open.old),
            Kind::Rel32 => here
                .wrapping_add(4)
                .wrapping_add(open.new)
                .wrapping_sub(open.target),
            Kind::Offset => here.wrapping_add(open.new).wrapping_sub(open.target),
            Kind::Branch => {
                let distance = open.distance.map_or(0, |distance| distance.get(open.new));
                here.wrapping_add(distance).wrapping_sub(open.target)
            }
            Kind::Pages => {
                let old = open.target & !4095;
                let new = match adrp(open.new) {
                    Some((_, pages)) => (here >> 12).wrapping_add(pages) << 12,
                    None => old,
                };
                self.state.pages[usize::from(open.detail)] = Some((old, new));
                new.wrapping_sub(old)
            }
            Kind::Low => {
                let (_, page) = self.state.pages[usize::from(open.detail >> 3)].unwrap_or_default();
                let low = ((open.new & LOW_MASK) >> 10) << (open.detail & 7);
                page.wrapping_add(low).wrapping_sub(open.target)
            }
        }
    }
}

fn slot(table: usize, key: u32) -> usize {
    (table << TABLE_BITS) + (key >> (32 - TABLE_BITS)) as usize
}
