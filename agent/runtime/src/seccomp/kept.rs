//! A filter as bytes, for a caller that ends before it is needed again.

use libc::sock_filter;

use super::SeccompProgram;

/// The flags, and each instruction.
const FLAGS: usize = 8;
const INSTRUCTION: usize = 8;

impl SeccompProgram {
    /// For [`SeccompProgram::from_bytes`] of the same version of this crate, on the same machine.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FLAGS + INSTRUCTION * self.instructions.len());
        bytes.extend(self.flags.to_ne_bytes());
        for one in &self.instructions {
            bytes.extend(one.code.to_ne_bytes());
            bytes.extend([one.jt, one.jf]);
            bytes.extend(one.k.to_ne_bytes());
        }
        bytes
    }

    /// None for what is none. What a filter does is not looked at: whoever gives the bytes decides what a process may.
    pub fn from_bytes(bytes: &[u8]) -> Option<SeccompProgram> {
        let (flags, rest) = bytes.split_first_chunk::<FLAGS>()?;
        let (instructions, more) = rest.as_chunks::<INSTRUCTION>();
        if instructions.is_empty() || !more.is_empty() {
            return None;
        }
        let instruction = |&[a, b, jt, jf, k @ ..]: &[u8; INSTRUCTION]| sock_filter {
            code: u16::from_ne_bytes([a, b]),
            jt,
            jf,
            k: u32::from_ne_bytes(k),
        };
        Some(SeccompProgram {
            instructions: instructions.iter().map(instruction).collect(),
            flags: u64::from_ne_bytes(*flags),
        })
    }
}
