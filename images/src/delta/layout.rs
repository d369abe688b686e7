//! What lies where in a program file: which bytes are code, and at which addresses they are loaded.

use std::io::{self, Read};

use super::DeltaError;
use super::format::{byte, number, signed};
#[cfg(feature = "make")]
use super::format::{put_number, put_signed};
#[cfg(feature = "make")]
use super::machine::Machine;

/// How the bytes of a region are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// No addresses.
    Plain = 0,
    /// Words at multiples of four, some of them addresses.
    Data = 1,
    /// Instructions.
    X86 = 2,
    /// Instructions.
    A64 = 3,
    /// Instructions.
    A32 = 4,
    /// Words, some of them distances from the region's start (`.eh_frame_hdr`).
    Table = 5,
}

impl Reading {
    fn from_byte(byte: u8) -> Option<Self> {
        let all = [
            Self::Plain,
            Self::Data,
            Self::X86,
            Self::A64,
            Self::A32,
            Self::Table,
        ];
        all.into_iter().find(|&reading| reading as u8 == byte)
    }
}

/// A stretch of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Region {
    /// Offset of its first byte.
    pub(crate) start: u32,
    /// Offset behind its last byte.
    pub(crate) end: u32,
    /// Address minus offset.
    pub(crate) shift: u32,
    pub(crate) reading: Reading,
}

/// The regions of one file, in order, without gaps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout(pub(crate) Vec<Region>);

impl Layout {
    pub(crate) fn at(&self, offset: u32) -> Option<&Region> {
        self.0
            .iter()
            .find(|region| (region.start..region.end).contains(&offset))
    }

    /// Reads it as it stands in the control section.
    pub(crate) fn read(source: &mut impl Read) -> io::Result<Self> {
        let count = number(source)?;
        if count > MOST_REGIONS as u64 {
            return Err(DeltaError::Malformed("too many regions").into());
        }
        let mut regions = Vec::with_capacity(count as usize);
        let mut start = 0u32;
        for _ in 0..count {
            let length = u32::try_from(number(source)?).ok();
            let end = length.and_then(|length| start.checked_add(length));
            let end = end.ok_or(DeltaError::Malformed("a region beyond 4 GiB"))?;
            let what = byte(source)?;
            let reading = Reading::from_byte(what & !LOADED);
            let reading = reading.ok_or(DeltaError::Malformed("unknown sort of region"))?;
            let shift = match what & LOADED {
                0 => NOT_LOADED,
                _ => signed(source)? as u32,
            };
            regions.push(Region {
                start,
                end,
                shift,
                reading,
            });
            start = end;
        }
        Ok(Self(regions))
    }

    #[cfg(feature = "make")]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.0.len() as u64);
        for region in &self.0 {
            put_number(out, (region.end - region.start).into());
            out.push(region.reading as u8 | if region.loaded() { LOADED } else { 0 });
            if region.loaded() {
                put_signed(out, i64::from(region.shift as i32));
            }
        }
    }

    /// That of a stretch of the file: every byte has the address that it had.
    #[cfg(feature = "make")]
    pub(crate) fn stretch(&self, range: &std::ops::Range<usize>) -> Self {
        let (from, to) = (range.start as u32, range.end as u32);
        let inside = |region: &Region| {
            let (start, end) = (region.start.max(from), region.end.min(to));
            (start < end).then(|| Region {
                start: start - from,
                end: end - from,
                shift: match region.loaded() {
                    true => region.shift.wrapping_add(from),
                    false => NOT_LOADED,
                },
                reading: region.reading,
            })
        };
        Self(self.0.iter().filter_map(inside).collect())
    }

    /// Address of an offset.
    pub(crate) fn address(&self, offset: u32) -> u32 {
        self.at(offset)
            .map_or(offset, |region| offset.wrapping_add(region.shift))
    }

    /// Offset of an address, if the file has it.
    pub(crate) fn offset(&self, address: u32) -> Option<u32> {
        self.0.iter().find_map(|region| {
            let offset = address.wrapping_sub(region.shift);
            (region.loaded() && (region.start..region.end).contains(&offset)).then_some(offset)
        })
    }
}

impl Region {
    /// Whether it has an address at all; what has none is told by this shift.
    pub(crate) fn loaded(&self) -> bool {
        self.shift != NOT_LOADED
    }
}

/// The shift of what is not loaded: it can't be one, as loaded parts lie on pages.
pub(crate) const NOT_LOADED: u32 = u32::MAX;

/// Regions of an ELF file by its section headers; one that lacks them is all code. Any other file is one region.
#[cfg(feature = "make")]
pub(crate) fn of_file(content: &[u8]) -> Layout {
    let whole = |reading, shift| {
        let end = content.len() as u32;
        Layout(vec![Region {
            start: 0,
            end,
            shift,
            reading,
        }])
    };
    let code = match Machine::of_file(content) {
        Machine::X86 => Reading::X86,
        Machine::A64 => Reading::A64,
        Machine::A32 => Reading::A32,
        Machine::Any => {
            let text = !content[..content.len().min(8192)].contains(&0);
            return whole(
                if text { Reading::Plain } else { Reading::Data },
                NOT_LOADED,
            );
        }
    };
    sections(content, code).unwrap_or_else(|| whole(code, 0))
}

/// Added to a region's reading when it has an address.
const LOADED: u8 = 128;

/// Most regions that a file may have.
pub(crate) const MOST_REGIONS: usize = 64;

/// PT_GNU_EH_FRAME, and how such a table begins whose entries are distances from its start, of four bytes.
#[cfg(feature = "make")]
const FRAMES: u64 = 0x6474_E550;
#[cfg(feature = "make")]
const SORTED_FRAMES: u64 = 0x3B03_1B01;

#[cfg(feature = "make")]
fn sections(content: &[u8], code: Reading) -> Option<Layout> {
    let wide = content[4] == 2;
    // What a header says of a place may be anything.
    let number_in = |head: usize, at: usize, bytes: usize| -> Option<u64> {
        let at = head.checked_add(at)?;
        let field = content.get(at..at.checked_add(bytes)?)?;
        Some(
            field
                .iter()
                .rev()
                .fold(0, |all, &byte| all << 8 | u64::from(byte)),
        )
    };
    let number = |at, bytes| number_in(0, at, bytes);
    let word = if wide { 8 } else { 4 };
    let table = number(if wide { 0x28 } else { 0x20 }, word)? as usize;
    let entry = number(if wide { 0x3A } else { 0x2E }, 2)? as usize;
    let count = number(if wide { 0x3C } else { 0x30 }, 2)? as usize;
    // Where the sorted table of frames is tells only a program header.
    let heads = number(if wide { 0x20 } else { 0x1C }, word)? as usize;
    let head = number(if wide { 0x36 } else { 0x2A }, 2)? as usize;
    let frames = (0..number(if wide { 0x38 } else { 0x2C }, 2)? as usize).find_map(|index| {
        let at = heads.checked_add(index * head)?;
        let start = number_in(at, if wide { 8 } else { 4 }, word)?;
        (number(at, 4)? == FRAMES && number(start as usize, 4)? == SORTED_FRAMES).then_some(start)
    });
    let mut regions: Vec<Region> = Vec::new();
    for index in 0..count {
        let at = table.checked_add(index * entry)?;
        let kind = number_in(at, 4, 4)?;
        let flags = number_in(at, 8, word)?;
        let address = number_in(at, 8 + word, word)?;
        let start = number_in(at, 8 + 2 * word, word)?;
        let size = number_in(at, 8 + 3 * word, word)?;
        // NULL, NOBITS, or not loaded.
        if kind == 0 || kind == 8 || flags & 2 == 0 || size == 0 {
            continue;
        }
        let end = u32::try_from(start.checked_add(size)?).ok()?;
        let reading = match flags & 4 != 0 {
            true => code,
            false if frames == Some(start) => Reading::Table,
            false => Reading::Data,
        };
        regions.push(Region {
            start: start as u32,
            end,
            shift: address.wrapping_sub(start) as u32,
            reading,
        });
    }
    regions.sort_by_key(|region| region.start);
    let mut joined: Vec<Region> = Vec::new();
    let mut done = 0u32;
    let gap = |start, end| Region {
        start,
        end,
        shift: NOT_LOADED,
        reading: Reading::Data,
    };
    for region in regions {
        if region.start < done || region.end as usize > content.len() {
            return None;
        }
        match joined.last_mut() {
            Some(last) if (last.shift, last.reading) == (region.shift, region.reading) => {
                last.end = region.end
            }
            Some(last) if region.start - done < 4096 && region.shift == last.shift => {
                last.end = region.start;
                joined.push(region);
            }
            _ => {
                if region.start > done {
                    joined.push(gap(done, region.start));
                }
                joined.push(region);
            }
        }
        done = region.end;
    }
    if (done as usize) < content.len() {
        joined.push(gap(done, content.len() as u32));
    }
    (joined.len() <= MOST_REGIONS && !joined.is_empty()).then_some(Layout(joined))
}

#[cfg(all(test, feature = "make"))]
mod tests {
    use super::of_file;

    #[test]
    fn tables_at_the_end_of_the_numbers_are_none() {
        let mut file = vec![0u8; 4096];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18] = 62;
        // One program header, one section header.
        file[0x36] = 56;
        file[0x38] = 1;
        file[0x3A] = 64;
        file[0x3C] = 1;
        for before_the_end in 1..64u64 {
            let place = (u64::MAX - before_the_end).to_le_bytes();
            for field in [0x20, 0x28] {
                let mut file = file.clone();
                file[field..field + 8].copy_from_slice(&place);
                of_file(&file);
            }
        }
    }
}
