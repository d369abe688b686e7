//! The model of difference bytes: how a byte of a new file differs from the old byte below it.
//!
//! Code that was compiled again keeps its bytes, but for addresses: a call's distance, a pointer in a
//! table. So each byte is coded as "changed or not" and, if so, the difference's eight bits, both
//! predicted from
//! - the old bytes around it (known on both sides, also those ahead),
//! - which of the last bytes changed and how,
//! - where an address field is likely (x86 rel32 after a call, jump or rip-relative operand; A64 and A32
//!   branches; aligned words), what its target has moved by elsewhere.

use std::io;

use super::address::{AddressMap, Field, Guess};
use super::machine::Machine;
use super::mix::{Predictor, Stretch};
use super::range::BitCoder;

/// Old bytes that the model sees behind and ahead of the current one.
pub(crate) const BEHIND: usize = 8;
/// See [`BEHIND`].
pub(crate) const AHEAD: usize = 8;

const FLAG_INPUTS: usize = 11;
const BIT_INPUTS: usize = 10;

/// Predicts and learns. One for a whole delta: what one file taught serves the next.
pub(crate) struct DiffModel {
    stretch: Stretch,
    flags: Predictor<FLAG_INPUTS>,
    bits: Predictor<BIT_INPUTS>,
    addresses: AddressMap,
    /// Bit n: whether the byte n + 1 back changed.
    changed: u32,
    /// Differences of the last eight bytes, the latest lowest.
    diffs: u64,
    /// The last four differences that were not zero, the latest lowest.
    changes: u32,
    /// Bytes since the last change, and between the two before.
    since: u32,
    gap: u32,
    /// The last new bytes, the latest lowest.
    new: u32,
}

impl DiffModel {
    pub(crate) fn new() -> Self {
        Self {
            stretch: Stretch::new(),
            flags: Predictor::new(14, 256, 1023, 6),
            bits: Predictor::new(16, 2048, 127, 10),
            addresses: AddressMap::new(),
            changed: 0,
            diffs: 0,
            changes: 0,
            since: 0,
            gap: 0,
            new: 0,
        }
    }

    /// A new source file begins: addresses mean something else now.
    pub(crate) fn new_source(&mut self, machine: Machine) {
        self.addresses.new_source(machine);
    }

    /// A range begins, whose old bytes lie at `old` in the source and whose new ones at `new` in the member.
    pub(crate) fn new_range(&mut self, old: u64, new: u64) {
        self.addresses.new_range(old, new);
    }

    /// Codes the byte at `window[at]`: `BEHIND` old bytes lie before it and `AHEAD` after. `new` counts for
    /// an encoder only. Returns the new byte.
    pub(crate) fn code(
        &mut self,
        coder: &mut impl BitCoder,
        window: &[u8],
        at: usize,
        position: u64,
        new: u8,
    ) -> io::Result<u8> {
        let near = at.checked_sub(BEHIND).and_then(|from| window.get(from..));
        let near = near.and_then(|near| near.first_chunk::<{ BEHIND + AHEAD + 1 }>());
        let near = near.ok_or(io::ErrorKind::InvalidInput)?;
        let field = self.addresses.field(near, position);
        let old = near[BEHIND];
        let is_changed = self.code_flag(coder, near, &field, position, old != new)?;
        let diff = match is_changed {
            true => self.code_diff(coder, near, &field, position, new.wrapping_sub(old))?,
            false => 0,
        };
        let new = old.wrapping_add(diff);
        self.addresses.learn(new);
        self.changed = (self.changed << 1) | u32::from(diff != 0);
        self.diffs = (self.diffs << 8) | u64::from(diff);
        self.new = (self.new << 8) | u32::from(new);
        if diff != 0 {
            self.changes = (self.changes << 8) | u32::from(diff);
            self.gap = self.since;
            self.since = 0;
        } else {
            self.since = self.since.saturating_add(1);
        }
        Ok(new)
    }

    fn code_flag(
        &mut self,
        coder: &mut impl BitCoder,
        near: &[u8; BEHIND + AHEAD + 1],
        field: &Field,
        position: u64,
        bit: bool,
    ) -> io::Result<bool> {
        let b = |offset: isize| u32::from(near[(BEHIND as isize + offset) as usize]);
        let phase = (position & 3) as u32;
        let since = bucket(self.since);
        let gap = bucket(self.gap);
        let back = |distance: u32| (self.changed >> (distance - 1)) & 1;
        let strides = back(4) | back(8) << 1 | back(12) << 2 | back(16) << 3 | back(24) << 4;
        let exact = field.exact.flag_context();
        let area = field.area.flag_context();
        let recent = field.recent.flag_context();
        let place = field.kind as u32 * 4 + u32::from(field.at);
        let contexts = [
            hash(&[1, self.changed & 0xFFFF, phase]),
            hash(&[2, b(0), b(-1), self.changed & 3]),
            hash(&[3, b(-3), b(-2), b(-1), b(0)]),
            hash(&[4, b(0), b(1), b(2), b(3)]),
            hash(&[5, b(-1), b(0), b(1), b(2), self.changed & 1]),
            hash(&[6, self.changes & 0xFFFF, self.changed & 15, place]),
            hash(&[7, since, gap, phase]),
            hash(&[8, b(-2), b(-1), self.changed & 15, place]),
            hash(&[9, strides, (position & 7) as u32, self.changed & 3]),
            hash(&[10, exact, area, place]),
            hash(&[11, area, recent, place, since.min(3)]),
        ];
        let selector = (exact.min(3) * 4 + area.min(3)) * 16 + place;
        self.flags
            .code(coder, &self.stretch, bit, &contexts, selector as usize)
    }

    fn code_diff(
        &mut self,
        coder: &mut impl BitCoder,
        near: &[u8; BEHIND + AHEAD + 1],
        field: &Field,
        position: u64,
        diff: u8,
    ) -> io::Result<u8> {
        let b = |offset: isize| u32::from(near[(BEHIND as isize + offset) as usize]);
        let phase = (position & 3) as u32;
        let place = field.kind as u32 * 4 + u32::from(field.at);
        let d = |back: u32| (self.diffs >> (8 * (back - 1))) as u32 & 255;
        let bases = [
            hash(&[21, self.changes & 255, place]),
            hash(&[22, d(1), d(2), self.changed & 7]),
            hash(&[23, b(-3), b(-2), b(-1), b(0)]),
            hash(&[24, d(4), d(8), phase]),
            hash(&[25, b(0), self.changes & 255, self.changed & 1]),
            hash(&[26, self.changes & 0xFF_FFFF, self.changed & 7]),
            hash(&[27, b(0), self.new & 255, b(1)]),
            hash(&[28, self.new & 0xFFFF, b(0)]),
            hash(&[29, field.exact.context(), field.area.context(), place]),
            hash(&[30, field.area.context(), field.recent.context(), place]),
        ];
        let known = field.exact.flag_context().min(3) * 4 + field.area.flag_context().min(3);
        let mut node = 1u32;
        for shift in (0..8).rev() {
            let contexts = bases.map(|base| base.wrapping_add(node.wrapping_mul(0x2F0B_4C47)));
            let hit = |p: &Guess| match p.diff() {
                Some(guess) => u32::from((0x100 | u32::from(guess)) >> (shift + 1) == node),
                None => 2,
            };
            let selector =
                ((shift as u32 * 16 + known) * 3 + hit(&field.exact)) * 3 + hit(&field.area);
            let bit = (diff >> shift) & 1 == 1;
            let bit = self
                .bits
                .code(coder, &self.stretch, bit, &contexts, selector as usize)?;
            node = node * 2 + u32::from(bit);
        }
        Ok(node as u8)
    }
}

/// Roughly the logarithm of a distance: 0 … 15.
fn bucket(distance: u32) -> u32 {
    match distance {
        0..=7 => distance,
        _ => (5 + distance.ilog2()).min(15),
    }
}

/// A hash of small numbers, the first of which tells the context's kind.
fn hash(values: &[u32]) -> u32 {
    values.iter().fold(0x811C_9DC5u32, |hash, value| {
        (hash ^ value)
            .wrapping_mul(0x0100_0193)
            .rotate_left(13)
            .wrapping_mul(0x85EB_CA6B)
    })
}
