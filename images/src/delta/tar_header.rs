//! A tar header made from the one before it.
//!
//! Most headers of a layer differ from their predecessor in name, size and checksum only. A delta keeps the
//! last header as a template and writes the fields that differ; the flavour of tar (magic, padding,
//! user names, how numbers end) comes along with the template.

use std::ops::Range;

/// Bytes of a tar block.
pub(crate) const BLOCK: usize = 512;

/// Bytes of the name field, the first of the header.
pub(crate) const NAME: usize = 100;

pub(crate) const MODE: Range<usize> = 100..108;
pub(crate) const UID: Range<usize> = 108..116;
pub(crate) const GID: Range<usize> = 116..124;
pub(crate) const SIZE: Range<usize> = 124..136;
pub(crate) const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
pub(crate) const TYPE: usize = 156;
pub(crate) const LINK: Range<usize> = 157..257;

/// A value does not fit its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DoesNotFit;

/// The last header.
#[derive(Clone)]
pub(crate) struct Template(pub(crate) [u8; BLOCK]);

impl Template {
    pub(crate) fn new() -> Self {
        Self([0; BLOCK])
    }

    /// The text in the field up to its first NUL.
    pub(crate) fn text(&self, field: Range<usize>) -> &[u8] {
        let bytes = &self.0[field];
        &bytes[..bytes
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(bytes.len())]
    }

    pub(crate) fn name(&self) -> &[u8] {
        self.text(0..NAME)
    }

    /// Writes a text and fills the field with NULs.
    pub(crate) fn set_text(&mut self, field: Range<usize>, text: &[u8]) -> Result<(), DoesNotFit> {
        let field = &mut self.0[field];
        if text.len() > field.len() {
            return Err(DoesNotFit);
        }
        field[..text.len()].copy_from_slice(text);
        field[text.len()..].fill(0);
        Ok(())
    }

    /// The octal number in the field; 0 when there is none.
    pub(crate) fn number(&self, field: Range<usize>) -> u64 {
        let digits = self.0[field]
            .iter()
            .take_while(|byte| matches!(byte, b'0'..=b'7'));
        digits.fold(0, |number, digit| number << 3 | u64::from(digit - b'0'))
    }

    /// Writes an octal number in all of the field but its last byte, which stays.
    pub(crate) fn set_number(
        &mut self,
        field: Range<usize>,
        number: u64,
    ) -> Result<(), DoesNotFit> {
        let end = field.end - 1;
        self.octal(field.start..end, number)
    }

    /// Sets the checksum: six digits; the two bytes behind them stay.
    pub(crate) fn set_checksum(&mut self) -> Result<(), DoesNotFit> {
        let plain = self.0[..CHECKSUM.start]
            .iter()
            .chain(&self.0[CHECKSUM.end..]);
        let sum = plain.map(|&byte| u64::from(byte)).sum::<u64>() + 8 * u64::from(b' ');
        self.octal(CHECKSUM.start..CHECKSUM.end - 2, sum)
    }

    fn octal(&mut self, field: Range<usize>, mut number: u64) -> Result<(), DoesNotFit> {
        for byte in self.0[field].iter_mut().rev() {
            *byte = b'0' + (number & 7) as u8;
            number >>= 3;
        }
        if number == 0 { Ok(()) } else { Err(DoesNotFit) }
    }
}
