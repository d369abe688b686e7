//! What of two files is compared: code without its addresses, data with the addresses that it is expected to get.
//!
//! Addresses differ wherever something moved and would cut every match short, while the model of differences has
//! a guess for them.

use crate::delta::layout::{Layout, Reading, Region};
use crate::delta::machine::{
    ADRP_MASK, Distance, LOW_MASK, a32_branch, a64_branch, adrp, is_rel32, low_part,
};
use crate::delta::pieces::Moves;

/// The file with the addresses in its instructions blanked.
pub(super) fn without_addresses(content: &[u8], layout: &Layout) -> Vec<u8> {
    let mut plain = content.to_vec();
    for region in &layout.0 {
        match region.reading {
            Reading::Plain | Reading::Data | Reading::Table => {}
            Reading::X86 => {
                let mut index = region.start as usize + 2;
                while index + 4 <= region.end as usize {
                    if is_rel32(content[index - 1], content[index - 2]) {
                        plain[index..index + 4].fill(0);
                        index += 4;
                    } else {
                        index += 1;
                    }
                }
            }
            Reading::A64 | Reading::A32 => words(content, &mut plain, region),
        }
    }
    plain
}

fn words(content: &[u8], plain: &mut [u8], region: &Region) {
    // Up to where a register is taken to hold the page that it got.
    let mut pages = [0u32; 32];
    let start = (region.start as usize).next_multiple_of(4);
    for index in (start..region.end as usize).step_by(4) {
        let Some(bytes) = content
            .get(index..index + 4)
            .and_then(|bytes| bytes.first_chunk())
        else {
            break;
        };
        let word = u32::from_le_bytes(*bytes);
        let mask = match region.reading {
            Reading::A32 => a32_branch(word).map_or(0, Distance::mask),
            _ => {
                if let Some(distance) = a64_branch(word) {
                    if word >> 24 & 0x7C == 0x14 {
                        distance.mask()
                    } else {
                        0
                    }
                } else if let Some((register, _)) = adrp(word) {
                    pages[register] = index as u32 + 64;
                    ADRP_MASK
                } else if low_part(word).is_some_and(|(base, _)| pages[base] > index as u32) {
                    LOW_MASK
                } else {
                    0
                }
            }
        };
        let word = word & !mask;
        plain[index..index + 4].copy_from_slice(&word.to_le_bytes());
    }
}

/// Puts the addresses into the old file's data that they are expected to become. False when there are none.
pub(super) fn expect(old: &[u8], plain: &mut [u8], layouts: [&Layout; 2], moves: &Moves) -> bool {
    let mut any = false;
    let [before, after] = layouts;
    for region in before
        .0
        .iter()
        .filter(|region| matches!(region.reading, Reading::Data | Reading::Table))
    {
        let start = (region.start as usize).next_multiple_of(4);
        for index in (start..region.end as usize).step_by(4) {
            let Some(bytes) = old
                .get(index..index + 4)
                .and_then(|bytes| bytes.first_chunk())
            else {
                break;
            };
            let word = u32::from_le_bytes(*bytes);
            let moved = |address: u32| {
                moves
                    .new_offset(before.offset(address)?)
                    .map(|offset| after.address(offset))
            };
            let table = region.reading == Reading::Table;
            let from = if table { region.start } else { index as u32 };
            let from = from.wrapping_add(region.shift);
            let new = if table {
                let to = moved(from.wrapping_add(word)).filter(|_| word != 0);
                let start = after
                    .0
                    .iter()
                    .find(|region| region.reading == Reading::Table);
                to.zip(start)
                    .map(|(to, start)| to.wrapping_sub(start.start).wrapping_sub(start.shift))
            } else if word >= 4096 && before.offset(word).is_some() {
                moved(word)
            } else if word != 0
                && before
                    .offset(from.wrapping_add(word))
                    .and_then(|offset| before.at(offset))
                    .is_some_and(|region| region.reading as u8 > 1)
            {
                moved(from.wrapping_add(word))
                    .zip(moves.new_offset(index as u32))
                    .map(|(to, here)| to.wrapping_sub(after.address(here)))
            } else {
                None
            };
            if let Some(new) = new {
                plain[index..index + 4].copy_from_slice(&new.to_le_bytes());
                any = true;
            }
        }
    }
    any
}
