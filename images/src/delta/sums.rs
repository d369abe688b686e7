//! Numbers of seven bits a byte (LEB128), of which one is the sum of two before it.
//!
//! A compiler's table of call sites (`.gcc_except_table`) is such numbers, four a record: start, length, landing
//! pad, action. A record mostly starts where the one before it ends, so its start is known before it comes: it is
//! the sum of the third and fourth last numbers. Which of four numbers is a start nobody tells; that such guesses
//! were right four numbers ago does.

/// Bits of a number from which on its bytes are not taken together any more.
const MOST_BITS: u32 = 28;

/// Numbers read so far, wherever they are numbers or not.
#[derive(Default)]
pub(crate) struct Sums {
    /// The last four, the latest first.
    last: [u32; 4],
    /// What has come of the next one.
    begun: u32,
    bits: u32,
    /// Bit n: whether the number n + 1 back was the sum.
    right: u32,
}

/// What is expected of the next byte.
#[derive(Default, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) byte: u8,
    /// 0: refuted by the number's earlier bytes; 1: its first byte comes; 2: another one.
    pub(crate) standing: u32,
    /// Which of the last eight numbers were sums.
    pub(crate) right: u32,
    /// The fourth last number, and what has come of the next one.
    pub(crate) before: u32,
    pub(crate) begun: u32,
    pub(crate) bits: u32,
}

impl Sums {
    fn sum(&self) -> u32 {
        self.last[2].wrapping_add(self.last[3])
    }

    pub(crate) fn expected(&self) -> Expected {
        let sum = self.sum();
        let stands = (sum ^ self.begun) & ((1 << self.bits) - 1) == 0;
        let rest = sum >> self.bits;
        Expected {
            byte: (rest & 127) as u8 | if rest > 127 { 128 } else { 0 },
            standing: match (stands, self.bits) {
                (false, _) => 0,
                (true, 0) => 1,
                (true, _) => 2,
            },
            right: self.right & 255,
            before: self.last[3],
            begun: self.begun,
            bits: self.bits,
        }
    }

    /// Takes in a byte.
    pub(crate) fn push(&mut self, byte: u8) {
        self.begun |= u32::from(byte & 127) << self.bits;
        self.bits += 7;
        if byte < 128 || self.bits == MOST_BITS {
            self.right = self.right << 1 | u32::from(self.begun == self.sum());
            self.last.rotate_right(1);
            self.last[0] = self.begun;
            (self.begun, self.bits) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of numbers.
    fn bytes(numbers: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &number in numbers {
            let mut rest = number;
            while rest > 127 {
                bytes.push(rest as u8 | 128);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
        bytes
    }

    #[test]
    fn where_a_record_ends_the_next_one_is_expected_to_start() {
        let mut sums = Sums::default();
        for byte in bytes(&[1000, 24, 70_000, 1]) {
            sums.push(byte);
        }
        for byte in bytes(&[1024]) {
            assert_eq!(sums.expected().byte, byte);
            assert_ne!(sums.expected().standing, 0);
            sums.push(byte);
        }
        assert_eq!(sums.expected().right & 1, 1);
        // Another number than the sum: its second byte is expected no more.
        for byte in bytes(&[24, 70_000, 1]) {
            sums.push(byte);
        }
        let other = bytes(&[1049]);
        sums.push(other[0]);
        assert_eq!(sums.expected().standing, 0);
        sums.push(other[1]);
        assert_eq!(sums.expected().right & 31, 0b1_0000);
    }

    #[test]
    fn bytes_that_are_no_numbers_do_no_harm() {
        let mut sums = Sums::default();
        for byte in (0..10_000u32).map(|index| (index.wrapping_mul(0x9E37_79B1) >> 24) as u8 | 128)
        {
            sums.push(byte);
            assert!(sums.expected().bits < MOST_BITS);
        }
    }
}
