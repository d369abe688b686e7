//! Files that look like programs to whoever makes and reads deltas.

/// Something like code: instructions with calls, moved about by insertions.
pub fn program(count: usize, seed: u32, insert: usize) -> Vec<u8> {
    let mut bytes = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3E\0".to_vec();
    let mut state = seed;
    for number in 0..count {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if number == count * 9 / 20 {
            bytes.extend((0..insert).map(|index| index as u8));
        }
        if state >> 29 == 0 {
            let target = (state >> 8) as usize % (3 * count);
            let target = if target > 2 * count {
                target + insert
            } else {
                target
            };
            bytes.push(0xE8);
            bytes.extend((target as i32 - bytes.len() as i32 - 4).to_le_bytes());
        } else {
            bytes.extend(&state.to_le_bytes()[1..4]);
        }
    }
    bytes
}

/// Instructions of ARM, of 64 or of 32 bits, with branches; some were put in between.
pub fn arm_program(machine: u8, count: usize, seed: u32, insert: usize) -> Vec<u8> {
    let class = if machine == 183 { 2 } else { 1 };
    let mut bytes = b"\x7FELF\0\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\0\0".to_vec();
    (bytes[4], bytes[18]) = (class, machine);
    let mut state = seed;
    for number in 0..count {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if number % 1000 == 500 {
            for index in 0..insert as u32 {
                let fresh = 0x9100_0000 | ((index * 0x0003_0421) & 0xFF_FFFF);
                bytes.extend(fresh.to_le_bytes());
            }
        }
        let word = match state >> 30 {
            0 if machine == 183 => 0x9400_0000 | (state >> 8 & 0xFFF),
            0 => 0xEB00_0000 | (state >> 8 & 0xFFF),
            _ => 0xE000_0000 | state >> 6,
        };
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

/// An ELF file with functions in this order and the sorted table of their frames (`.eh_frame_hdr`).
pub fn framed(functions: u32, order: impl Iterator<Item = u32>) -> Vec<u8> {
    const TABLE: u32 = 128;
    let (code, frames) = (TABLE + 12 + 8 * functions, 0x10_0000);
    let mut table = [0x3B03_1B01, frames - TABLE - 4, functions]
        .map(u32::to_le_bytes)
        .concat();
    let mut text = Vec::new();
    for function in order {
        let place = code + text.len() as u32 - TABLE;
        table.extend(place.to_le_bytes());
        table.extend((frames + 40 * function - TABLE).to_le_bytes());
        let mut state = function;
        for _ in 0..8 + function % 7 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.extend((state >> 8 & 0x0F0F_0F0F).to_le_bytes());
        }
    }
    let sections = code as usize + text.len();
    let mut bytes = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3E\0".to_vec();
    bytes.resize(TABLE as usize, 0);
    let mut put = |at: usize, number: u64, width: usize| {
        bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
    };
    for (at, number) in [(0x20, 64), (0x28, sections as u64), (72, TABLE.into())] {
        put(at, number, 8);
    }
    for (at, number) in [(0x36, 56), (0x38, 1), (0x3A, 64), (0x3C, 3)] {
        put(at, number, 2);
    }
    put(64, 0x6474_E550, 4);
    bytes.extend(table);
    bytes.extend(&text);
    bytes.extend([0; 64]);
    for (flags, start, size) in [(2, TABLE, code - TABLE), (6, code, text.len() as u32)] {
        let fields = [1 << 32, flags, start.into(), start.into(), size.into()];
        bytes.extend(fields.map(u64::to_le_bytes).concat());
        bytes.extend([0; 24]);
    }
    bytes
}
