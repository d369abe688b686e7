//! Which bytes of machine code are address fields.

/// Opcodes (the last byte) that compilers use with a rip-relative operand.
const RIP_OPCODES: [u8; 32] = [
    0x03, 0x10, 0x11, 0x1E, 0x28, 0x29, 0x2B, 0x2E, 0x2F, 0x39, 0x3B, 0x54, 0x57, 0x58, 0x59, 0x5C,
    0x63, 0x6F, 0x7E, 0x7F, 0x80, 0x83, 0x85, 0x89, 0x8B, 0x8D, 0xB6, 0xB7, 0xC7, 0xD6, 0xF6, 0xFF,
];

/// What the bytes of a source are taken for: it decides which fields there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Machine {
    /// Words only.
    Any = 0,
    /// x86 of 32 or 64 bits.
    X86 = 1,
    /// 64-bit ARM.
    A64 = 2,
    /// 32-bit ARM, instructions of four bytes.
    A32 = 3,
}

impl Machine {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Any, Self::X86, Self::A64, Self::A32]
            .into_iter()
            .find(|&machine| machine as u8 == byte)
    }

    /// From an ELF header's `e_machine`.
    #[cfg(feature = "make")]
    pub(crate) fn of_file(content: &[u8]) -> Self {
        match content {
            [0x7F, b'E', b'L', b'F', ..] if content.len() >= 20 => match content[18] {
                3 | 62 => Self::X86,
                183 => Self::A64,
                40 => Self::A32,
                _ => Self::Any,
            },
            _ => Self::Any,
        }
    }
}

/// Whether four bytes at `index` are taken for an address field of this machine, and which of their bits are
/// not the address.
#[cfg(feature = "make")]
pub(crate) fn address_at(content: &[u8], index: usize, machine: Machine) -> Option<[u8; 4]> {
    let top = *content.get(index + 3)?;
    let before = |back: usize| index.checked_sub(back).map_or(0, |index| content[index]);
    match machine {
        Machine::X86 => is_rel32(before(1), before(2)).then_some([0; 4]),
        Machine::A64 if index.is_multiple_of(4) && is_a64_branch(top) => Some([0, 0, 0, 0xFC]),
        Machine::A32 if index.is_multiple_of(4) && is_a32_branch(top) => Some([0, 0, 0, 0xFF]),
        _ => None,
    }
}

/// x86: whether four bytes after these two (the last one first) are relative to their end.
pub(super) fn is_rel32(last: u8, before: u8) -> bool {
    let call = matches!(last, 0xE8 | 0xE9);
    let jump = before == 0x0F && last & 0xF0 == 0x80;
    // ModRM "rip + disp32" after an opcode that takes one.
    let operand = last & 0xC7 == 0x05 && RIP_OPCODES.contains(&before);
    call || jump || operand
}

/// A64: `B` or `BL`, from the top byte.
pub(super) fn is_a64_branch(top: u8) -> bool {
    matches!(top, 0x94..=0x97 | 0x14..=0x17)
}

/// A32: `BL`, always executed.
pub(super) fn is_a32_branch(top: u8) -> bool {
    top == 0xEB
}
