//! Binary arithmetic coding: one yes-or-no at a time, with a 16-bit probability of "yes".
//!
//! The carry-less coder of lpaq (M. Mahoney, 2007): both ends of a 32-bit interval; bytes on which the
//! ends agree are shifted out.

use std::io::{self, Read};

/// Turns decisions into bytes or back, so that one model serves both sides.
pub(crate) trait BitCoder {
    /// Codes one decision whose probability of being true is `p / 65536`; `p` is in 1..=65535. An encoder
    /// returns `bit`, a decoder ignores it and returns what the stream says.
    fn code(&mut self, bit: bool, p: u32) -> io::Result<bool>;
}

/// The interval; both sides keep it alike.
#[derive(Clone)]
struct Interval {
    low: u32,
    high: u32,
}

impl Interval {
    const FULL: Self = Self {
        low: 0,
        high: u32::MAX,
    };

    /// Where the interval is cut: "yes" is what lies at or below.
    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn cut(&self, p: u32) -> u32 {
        let range = u64::from(self.high - self.low);
        self.low + ((range * u64::from(p)) >> 16) as u32
    }

    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn choose(&mut self, bit: bool, cut: u32) {
        if bit {
            self.high = cut;
        } else {
            self.low = cut + 1;
        }
    }

    /// The next byte on which both ends agree.
    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn shift(&mut self) -> Option<u8> {
        if (self.low ^ self.high) >> 24 != 0 {
            return None;
        }
        let byte = (self.high >> 24) as u8;
        self.low <<= 8;
        self.high = (self.high << 8) | 255;
        Some(byte)
    }
}

/// Reads decisions. Beyond the stream's end it reads zeros: the encoder leaves trailing ones out.
pub(crate) struct Decoder<R> {
    source: R,
    interval: Interval,
    value: u32,
}

impl<R: Read> Decoder<R> {
    pub(crate) fn new(source: R) -> io::Result<Self> {
        let mut decoder = Self {
            source,
            interval: Interval::FULL,
            value: 0,
        };
        for _ in 0..4 {
            decoder.next_byte()?;
        }
        Ok(decoder)
    }

    fn next_byte(&mut self) -> io::Result<()> {
        let mut byte = [0];
        if self.source.read(&mut byte)? == 0 {
            byte = [0];
        }
        self.value = (self.value << 8) | u32::from(byte[0]);
        Ok(())
    }
}

impl<R> Decoder<R> {
    /// The same stream at the same place, to look ahead; `again` makes a reader that goes on where this one is.
    pub(crate) fn ahead(&self, again: impl FnOnce(&R) -> R) -> Self {
        Self {
            source: again(&self.source),
            interval: self.interval.clone(),
            value: self.value,
        }
    }
}

impl<R: Read> BitCoder for Decoder<R> {
    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn code(&mut self, _bit: bool, p: u32) -> io::Result<bool> {
        let cut = self.interval.cut(p);
        let bit = self.value <= cut;
        self.interval.choose(bit, cut);
        while self.interval.shift().is_some() {
            self.next_byte()?;
        }
        Ok(bit)
    }
}

/// Writes decisions.
#[cfg(feature = "make")]
pub(crate) struct Encoder {
    interval: Interval,
    bytes: Vec<u8>,
}

#[cfg(feature = "make")]
impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            interval: Interval::FULL,
            bytes: Vec::new(),
        }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        // Any value inside the interval will do; this one ends in zeros, which the decoder adds itself.
        let value = match self.interval.low {
            0 => 0,
            _ => self.interval.high & 0xFF00_0000,
        };
        debug_assert!((self.interval.low..=self.interval.high).contains(&value));
        self.bytes.push((value >> 24) as u8);
        while self.bytes.last() == Some(&0) {
            self.bytes.pop();
        }
        self.bytes
    }
}

#[cfg(feature = "make")]
impl BitCoder for Encoder {
    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn code(&mut self, bit: bool, p: u32) -> io::Result<bool> {
        let cut = self.interval.cut(p);
        self.interval.choose(bit, cut);
        while let Some(byte) = self.interval.shift() {
            self.bytes.push(byte);
        }
        Ok(bit)
    }
}
