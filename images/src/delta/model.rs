//! The model of a file that is made from an older one.
//!
//! Code that was compiled again keeps its bytes, but for addresses. Where an address is likely its new value
//! is predicted ([`address`](super::address)); any other byte is predicted to stay. Sixteen bytes at a time are
//! coded as "all as predicted" or not; if not, each byte; and only a byte that is otherwise costs its value
//! ([`symbols`](super::symbols)).

use std::io;
use std::iter::repeat_n;

use super::address::{Addresses, View};
use super::counter::{Fine, Form};
use super::format::Version;
use super::layout::Layout;
use super::mix::{Kind, Predictor, Select, Shape, hash};
use super::pieces::{Moves, Piece};
use super::processor::{Task, carry_out};
use super::range::BitCoder;
use super::symbols::{Known, Symbols};

/// Old bytes that the model sees behind and ahead of the current one.
pub(crate) const BEHIND: usize = 8;
/// See [`BEHIND`].
pub(crate) const AHEAD: usize = 24;
/// Bytes that are coded at once when all are as predicted; units begin at multiples in the source.
pub(crate) const UNIT: usize = 16;

/// How many bytes the unit has that begins at this place of the source, with `left` bytes to come in its range.
pub(crate) fn unit_end(position: u64, left: u64) -> usize {
    let whole = UNIT - (position % UNIT as u64) as usize;
    whole.min(usize::try_from(left).unwrap_or(UNIT))
}

/// Old bytes around one.
pub(crate) type Near = [u8; BEHIND + AHEAD];

const UNIT_INPUTS: usize = 7;
const BYTE_INPUTS: usize = 9;

/// What an input counts for at first, and the predictors' sizes.
const UNIT_PRIOR: [i32; UNIT_INPUTS] = [8000, 7000, 12000, 12000, 27000, 3000, 5000];
const BYTE_PRIOR: [i32; BYTE_INPUTS] = [4800, 17000, 3500, 8000, 2500, 12000, 9700, 16000, 3300];

/// Whether a unit is otherwise.
struct Units;

impl Kind for Units {
    type Entry = Fine;
    const SHAPE: Shape = Shape {
        bits: [14, 14],
        large: UNIT_INPUTS,
        fine: 1024,
        rate: 4,
        refiners: 64,
    };
}

/// Whether a byte is otherwise.
struct Bytes;

impl Kind for Bytes {
    type Entry = Fine;
    const SHAPE: Shape = Shape {
        bits: [14, 14],
        large: BYTE_INPUTS,
        fine: 2048,
        rate: 6,
        refiners: 128,
    };
}

/// Predicts and learns. One for a whole delta: what one file taught serves the next.
pub(crate) struct DiffModel {
    units: Predictor<Units, UNIT_INPUTS>,
    bytes: Predictor<Bytes, BYTE_INPUTS>,
    symbols: Symbols,
    addresses: Addresses,
    /// Bit n: whether the byte n + 1 back was otherwise than predicted; of the last units the same.
    missed: u32,
    missed_units: u32,
    diffs: u64,
    changes: u32,
    /// Bytes since the last miss, and between the two before.
    changed: u32,
    since: u32,
    gap: u32,
}

impl DiffModel {
    pub(crate) fn new(version: Version) -> Self {
        let form = Form::fine(version != Version::Three);
        Self {
            units: Predictor::new(form.clone(), repeat_n(UNIT_PRIOR, 8)),
            bytes: Predictor::new(form, repeat_n(BYTE_PRIOR, 32)),
            symbols: Symbols::new(version),
            addresses: Addresses::new(version),
            missed: 0,
            missed_units: 0,
            diffs: 0,
            changes: 0,
            changed: 0,
            since: 0,
            gap: 0,
        }
    }

    /// A source begins, whose files are laid out like this.
    pub(crate) fn new_source(&mut self, old: Layout, new: Layout) {
        self.addresses.new_source(old, new);
    }

    /// Where the new source's bytes went.
    pub(crate) fn moves(&mut self, moves: Moves) {
        self.addresses.moves = moves;
    }

    /// A piece comes, whose old bytes go to `new` of the member.
    pub(crate) fn piece(&mut self, piece: &Piece, new: u32) {
        if let Some(recent) = &mut self.addresses.recent {
            recent.push(piece, new);
        }
    }

    /// A range begins, whose old bytes lie at `old` in the source and whose new ones at `new` in the member.
    pub(crate) fn new_range(&mut self, old: u32, new: u32) {
        self.addresses.new_range(old, new);
    }

    /// Codes up to UNIT bytes: `window` has BEHIND old bytes before and AHEAD behind the `len` that are coded.
    pub(crate) fn unit<C: BitCoder>(
        &mut self,
        coder: &mut C,
        window: &[u8],
        position: u32,
        new: &mut [u8],
    ) -> io::Result<()> {
        carry_out(Unit {
            model: self,
            coder,
            window,
            position,
            new,
        })
    }

    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn code_bytes(
        &mut self,
        coder: &mut impl BitCoder,
        window: &[u8],
        position: u32,
        new: &mut [u8],
    ) -> io::Result<()> {
        let len = new.len();
        let whole_window = window.len() >= BEHIND + len + AHEAD && len <= UNIT;
        if !whole_window {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let near = |index: usize| -> &Near {
            window[index..]
                .first_chunk()
                .unwrap_or(&[0; BEHIND + AHEAD])
        };
        let mark = self.addresses.mark();
        let mut predicted = [0u8; UNIT];
        let (mut patterns, mut doubts, mut fields) = (0u32, 7u32, 0u32);
        for (index, predicted) in predicted[..len].iter_mut().enumerate() {
            let at = position.wrapping_add(index as u32);
            let view = self.addresses.view(near(index), at);
            *predicted = view.predicted;
            self.addresses.learn(view.predicted);
            if view.place & 3 == 0 && view.place != 0 {
                patterns = patterns
                    .wrapping_mul(0x2F0B_4C47)
                    .wrapping_add(view.pattern << 8 | view.place);
                doubts = doubts.min(view.trust);
                fields += 1;
            }
        }
        let whole = predicted[..len] == *new;
        if !self.code_unit(
            coder,
            near(0),
            position,
            len,
            [patterns, doubts, fields],
            !whole,
        )? {
            new.copy_from_slice(&predicted[..len]);
            for index in 0..len {
                self.passed(window[BEHIND + index], predicted[index]);
            }
            self.missed <<= len;
            self.since = self.since.saturating_add(len as u32);
            self.missed_units <<= 1;
            return Ok(());
        }
        self.addresses.back_to(mark);
        self.missed_units = self.missed_units << 1 | 1;
        let mut any = false;
        for (index, new) in new.iter_mut().enumerate() {
            let near = near(index);
            let position = position.wrapping_add(index as u32);
            let view = self.addresses.view(near, position);
            // The last byte must be otherwise if no other was.
            let forced = !any && index + 1 == len;
            let miss = forced
                || self.code_byte(
                    coder,
                    near,
                    &view,
                    position,
                    any,
                    len - index,
                    *new != view.predicted,
                )?;
            let byte = if miss {
                any = true;
                let known = Known {
                    near,
                    view,
                    position,
                    diffs: self.diffs,
                    changes: self.changes,
                    missed: self.missed,
                };
                self.symbols.otherwise(coder, &known, *new)?
            } else {
                self.symbols.pass(view.predicted);
                view.predicted
            };
            *new = byte;
            self.addresses.learn(byte);
            self.count(near[BEHIND], byte);
            self.missed = self.missed << 1 | u32::from(miss);
            if miss {
                self.gap = self.since;
                self.since = 0;
            } else {
                self.since = self.since.saturating_add(1);
            }
        }
        Ok(())
    }

    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn passed(&mut self, old: u8, new: u8) {
        self.symbols.pass(new);
        self.count(old, new);
    }

    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn count(&mut self, old: u8, new: u8) {
        let diff = new.wrapping_sub(old);
        self.diffs = self.diffs << 8 | u64::from(diff);
        self.changed = self.changed << 1 | u32::from(diff != 0);
        if diff != 0 {
            self.changes = self.changes << 8 | u32::from(diff);
        }
    }

    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn code_unit(
        &mut self,
        coder: &mut impl BitCoder,
        near: &Near,
        position: u32,
        len: usize,
        fields: [u32; 3],
        bit: bool,
    ) -> io::Result<bool> {
        let [patterns, doubts, count] = fields;
        let word = |at: usize| {
            u32::from_le_bytes([
                near[BEHIND + at],
                near[BEHIND + at + 1],
                near[BEHIND + at + 2],
                near[BEHIND + at + 3],
            ])
        };
        let units = self.missed_units;
        let since = bucket(self.since);
        let short = if len == UNIT { 0 } else { len as u32 };
        let contexts = [
            hash([1, units & 0xFFF, short]),
            hash([2, word(0), units & 1]),
            hash([3, word(8), word(12)]),
            hash([4, since, bucket(self.gap), short]),
            hash([5, patterns, doubts]),
            hash([7, word(0), word(4), word(8) & 0xFFFF]),
            hash([8, self.changed & 0xFFFF, position >> 4 & 3, short]),
        ];
        let selector = (doubts as usize * 9 + count.min(8) as usize) * 8 + (units & 7) as usize;
        self.units.code(
            coder,
            bit,
            &contexts,
            Select {
                coarse: doubts as usize,
                fine: selector,
                refiner: (doubts * 8 + since.min(7)) as usize,
            },
        )
    }

    #[allow(clippy::too_many_arguments)]
    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn code_byte(
        &mut self,
        coder: &mut impl BitCoder,
        near: &Near,
        view: &View,
        position: u32,
        any: bool,
        left: usize,
        bit: bool,
    ) -> io::Result<bool> {
        let b = |offset: isize| u32::from(near[(BEHIND as isize + offset) as usize]);
        let phase = position & 3;
        let (place, pattern) = (view.place, view.pattern);
        let back = |distance: u32| self.changed >> (distance - 1) & 1;
        let strides = back(4) | back(8) << 1 | back(12) << 2 | back(16) << 3 | back(24) << 4;
        let waiting = if any { 0 } else { left as u32 };
        let missed = self.missed;
        let contexts = [
            hash([1, missed & 0xFFFF, phase]),
            hash([2, b(0), b(-1), missed & 3]),
            hash([4, b(0) << 24 | b(1) << 16 | b(2) << 8 | b(3), place]),
            hash([6, self.changes & 0xFFFF, missed & 15, place]),
            hash([7, waiting, place, bucket(self.since)]),
            hash([8, b(-2), b(-1), missed & 15, place]),
            hash([9, pattern, place, view.trust]),
            hash([10, pattern, place, missed & 15, waiting.min(2)]),
            hash([11, strides, position & 7, missed & 3]),
        ];
        let selector = ((view.trust * 32 + place) * 4 + waiting.min(3)) as usize;
        self.bytes.code(
            coder,
            bit,
            &contexts,
            Select {
                coarse: place as usize,
                fine: selector,
                refiner: (view.trust * 16 + waiting.min(15)) as usize,
            },
        )
    }

    /// Whether the next four literals are an instruction, which is coded from its last byte on, as that says what it is.
    pub(crate) fn word_ahead(&self, position: u32, left: usize) -> bool {
        position.is_multiple_of(4) && left >= 4 && self.addresses.instruction_at(position)
    }

    /// Codes a literal; `old`: the old bytes that would be there if it went on as before, or as behind it.
    pub(crate) fn literal(
        &mut self,
        coder: &mut impl BitCoder,
        old: [u8; 2],
        position: u32,
        word: bool,
        new: u8,
    ) -> io::Result<u8> {
        self.symbols.literal(coder, old, position, word, new)
    }
}

/// What [`DiffModel::unit`] does.
struct Unit<'a, C> {
    model: &'a mut DiffModel,
    coder: &'a mut C,
    window: &'a [u8],
    position: u32,
    new: &'a mut [u8],
}

impl<C: BitCoder> Task for Unit<'_, C> {
    type Done = io::Result<()>;

    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn carry_out(self) -> io::Result<()> {
        self.model
            .code_bytes(self.coder, self.window, self.position, self.new)
    }
}

/// Roughly the logarithm of a distance: 0 … 15.
fn bucket(distance: u32) -> u32 {
    match distance {
        0..=7 => distance,
        _ => (5 + distance.ilog2()).min(15),
    }
}
