//! How a field is found, where it leads, and what it becomes when its target moves.

use super::{Addresses, GUESSES, Kind, Open, slot};
use crate::delta::layout::Reading;
use crate::delta::machine::{
    Distance, LOW_MASK, a32_branch, a64_branch, adrp, is_rel32, low_part, with_pages,
};
use crate::delta::model::{AHEAD, BEHIND, Near};

/// Bytes of a target's neighbourhood, log2: code moves in functions, not bytes.
const AREA_BITS: u32 = 8;

/// What tells distances from their region's start from those from their own place.
const TABLE: u8 = 1;

impl Addresses {
    /// Opens a field if one begins at this byte.
    pub(super) fn begin(&mut self, near: &Near, position: u32) {
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
            Reading::Table if aligned => {
                let target = region.start.wrapping_add(region.shift).wrapping_add(old);
                match self.old.offset(target) {
                    Some(_) if old != 0 => Some((Kind::Offset, target, None, TABLE)),
                    _ => Some((Kind::Word, old, None, 0)),
                }
            }
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
        let here = position.wrapping_add(self.here);
        let here = match self.new.at(here) {
            Some(region) if open.kind == Kind::Offset && open.detail == TABLE => {
                region.start.wrapping_add(region.shift)
            }
            _ => self.new.address(here),
        };
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
        let by_last_pieces = match (open.kind, &self.recent) {
            (Kind::Branch | Kind::Rel32, Some(recent)) => {
                let offset = self.old.offset(open.target);
                offset
                    .and_then(|offset| recent.new_offset(offset))
                    .map(|offset| self.new.address(offset).wrapping_sub(open.target))
            }
            _ => None,
        };
        let shifts = [by_pieces, known(0), known(1), Some(last[0]), by_last_pieces];
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
    pub(super) fn shift(&mut self, open: &Open) -> u32 {
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
