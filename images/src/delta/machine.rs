//! Which bytes of machine code are addresses, and how an instruction holds them.

/// Opcodes (the last byte) that compilers use with a rip-relative operand.
const RIP_OPCODES: [u8; 32] = [
    0x03, 0x10, 0x11, 0x1E, 0x28, 0x29, 0x2B, 0x2E, 0x2F, 0x39, 0x3B, 0x54, 0x57, 0x58, 0x59, 0x5C,
    0x63, 0x6F, 0x7E, 0x7F, 0x80, 0x83, 0x85, 0x89, 0x8B, 0x8D, 0xB6, 0xB7, 0xC7, 0xD6, 0xF6, 0xFF,
];

/// What a file's instructions are.
#[cfg(feature = "make")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Machine {
    /// None that is known here.
    Any,
    /// x86 of 32 or 64 bits.
    X86,
    /// 64-bit ARM.
    A64,
    /// 32-bit ARM.
    A32,
}

#[cfg(feature = "make")]
impl Machine {
    /// From an ELF header's `e_machine`.
    pub(crate) fn of_file(content: &[u8]) -> Self {
        match content {
            [0x7F, b'E', b'L', b'F', _, 1, ..] if content.len() >= 20 => match content[18] {
                3 | 62 => Self::X86,
                183 => Self::A64,
                40 => Self::A32,
                _ => Self::Any,
            },
            _ => Self::Any,
        }
    }
}

/// x86: whether four bytes after these two (the last one first) are relative to their end.
pub(crate) fn is_rel32(last: u8, before: u8) -> bool {
    let call = matches!(last, 0xE8 | 0xE9);
    let jump = before == 0x0F && last & 0xF0 == 0x80;
    // ModRM "rip + disp32" after an opcode that takes one.
    let operand = last & 0xC7 == 0x05 && RIP_OPCODES.contains(&before);
    call || jump || operand
}

/// A distance that an ARM instruction holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Distance {
    /// Lowest bit and number of bits in the instruction.
    low: u32,
    bits: u32,
    /// log2 of the distance's unit in bytes.
    unit: u32,
}

impl Distance {
    const fn new(low: u32, bits: u32, unit: u32) -> Self {
        Self { low, bits, unit }
    }

    pub(crate) fn mask(self) -> u32 {
        ((1u64 << self.bits) - 1) as u32 * (1 << self.low)
    }

    /// Bytes, with sign.
    pub(crate) fn get(self, word: u32) -> u32 {
        let field = (word & self.mask()) << (32 - self.low - self.bits);
        (((field as i32) >> (32 - self.bits)) as u32) << self.unit
    }

    pub(crate) fn put(self, word: u32, distance: u32) -> u32 {
        let field = (distance >> self.unit) << self.low;
        (word & !self.mask()) | (field & self.mask())
    }
}

/// A64: the branch that this instruction is: `B`, `BL`; `B.cond`, `CBZ`, `CBNZ`; `TBZ`, `TBNZ`.
pub(crate) fn a64_branch(word: u32) -> Option<Distance> {
    match word >> 24 {
        0x14..=0x17 | 0x94..=0x97 => Some(Distance::new(0, 26, 2)),
        0x54 | 0x34 | 0x35 | 0xB4 | 0xB5 => Some(Distance::new(5, 19, 2)),
        0x36 | 0x37 | 0xB6 | 0xB7 => Some(Distance::new(5, 14, 2)),
        _ => None,
    }
}

/// A32: `BL`, always executed.
pub(crate) fn a32_branch(word: u32) -> Option<Distance> {
    (word >> 24 == 0xEB).then_some(Distance::new(0, 24, 2))
}

/// A64 `ADRP`: its register, and the distance in pages.
pub(crate) fn adrp(word: u32) -> Option<(usize, u32)> {
    if word & 0x9F00_0000 != 0x9000_0000 {
        return None;
    }
    let field = (word >> 29) & 3 | (word >> 3) & 0x1F_FFFC;
    Some(((word & 31) as usize, ((field << 11) as i32 >> 11) as u32))
}

/// The bits of an `ADRP` that hold the distance.
pub(crate) const ADRP_MASK: u32 = 0x60FF_FFE0;

/// An `ADRP` with another distance.
pub(crate) fn with_pages(word: u32, pages: u32) -> u32 {
    (word & !ADRP_MASK) | (pages & 3) << 29 | (pages >> 2 & 0x7_FFFF) << 5
}

/// A64: an instruction that adds an offset below 4096 to a register, as behind `ADRP`: the register, log2 of
/// the offset's unit. `ADD` (immediate, 64 bits), and loads and stores with an unsigned offset.
pub(crate) fn low_part(word: u32) -> Option<(usize, u32)> {
    let base = (word >> 5 & 31) as usize;
    if word & 0xFFC0_0000 == 0x9100_0000 {
        return Some((base, 0));
    }
    if word & 0x3B00_0000 == 0x3900_0000 {
        let wide = word & 0x0480_0000 == 0x0480_0000;
        return Some((base, if wide { 4 } else { word >> 30 }));
    }
    None
}

/// The bits of an instruction that hold a [`low_part`].
pub(crate) const LOW_MASK: u32 = 0x003F_FC00;
