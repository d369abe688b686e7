//! Logistic mixing in integers: adaptive probabilities for contexts, joined by a small trained sum.
//!
//! After lpaq (M. Mahoney, 2007). Probabilities have 16 bits, logits ("stretch") are in 1/256 and stay
//! within ±12. Everything is exact integer arithmetic, so that every machine decodes the same bytes.

use std::io;

use super::range::BitCoder;

/// `65536 / (1 + e^(-x))` for x = -12, -11.5, … 12.
#[rustfmt::skip]
const SIGMOID: [u32; 49] = [
    1, 1, 1, 2, 3, 5, 8, 13, 22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971,
    7812, 11955, 17625, 24743, 32768,
    40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500,
    65514, 65523, 65528, 65531, 65533, 65534, 65535, 65535, 65535,
];

/// Largest logit, in 1/256.
const LOGIT_MAX: i32 = 12 * 256;

/// Probability (16 bits, never 0 or 65536) of a logit.
pub(crate) fn squash(logit: i32) -> u32 {
    let at = (logit.clamp(-LOGIT_MAX, LOGIT_MAX - 1) + LOGIT_MAX) as u32;
    let (step, part) = ((at / 128) as usize, at % 128);
    (SIGMOID[step] * (128 - part) + SIGMOID[step + 1] * part) / 128
}

/// Logits of 12-bit probabilities: the inverse of [`squash`].
pub(crate) struct Stretch(Box<[i16; 4096]>);

impl Stretch {
    pub(crate) fn new() -> Self {
        let mut table = Box::new([0i16; 4096]);
        let mut filled = 0;
        for logit in -LOGIT_MAX..LOGIT_MAX {
            let upto = (squash(logit) >> 4) as usize;
            while filled <= upto {
                table[filled] = logit as i16;
                filled += 1;
            }
        }
        debug_assert_eq!(filled, 4096);
        Self(table)
    }

    fn of(&self, p16: u32) -> i32 {
        i32::from(self.0[(p16 >> 4) as usize])
    }
}

/// What a context has taught: 22 bits of probability, 10 bits of how often it was seen. Stored with the
/// top bit turned, so that fresh zeroed memory means "one half, never seen" and is not touched before use.
#[derive(Clone, Copy, Default)]
struct Counter(u32);

impl Counter {
    const HALF: u32 = 1 << 31;

    fn p16(self) -> u32 {
        (self.0 ^ Self::HALF) >> 16
    }

    fn seen(self) -> u32 {
        self.0 & 1023
    }

    /// Moves towards `bit` by 1/(n + 1.5), n up to `limit`.
    fn learn(&mut self, bit: bool, limit: u32) {
        let raw = self.0 ^ Self::HALF;
        let (p, n) = ((raw >> 10) as i64, raw & 1023);
        let target = if bit { (1 << 22) - 1 } else { 0 };
        let p = p + (target - p) * 2 / i64::from(2 * n + 3);
        let n = if n < limit { n + 1 } else { n };
        self.0 = (((p as u32) << 10) | n) ^ Self::HALF;
    }
}

/// How much each input counts, 16.16.
#[derive(Clone, Copy)]
struct Weights<const INPUTS: usize> {
    /// For the two views of each input.
    inputs: [[i32; 2]; INPUTS],
    bias: i32,
}

impl<const INPUTS: usize> Weights<INPUTS> {
    /// One third each.
    const FRESH: Self = Self {
        inputs: [[(1 << 16) / 3; 2]; INPUTS],
        bias: (1 << 16) / 3,
    };
}

/// Predicts decisions of one kind from `INPUTS` hashed contexts.
pub(crate) struct Predictor<const INPUTS: usize> {
    /// One table a context.
    tables: Vec<Counter>,
    table_bits: u32,
    /// A set for each selector.
    weights: Vec<Weights<INPUTS>>,
    limit: u32,
    rate: i32,
}

impl<const INPUTS: usize> Predictor<INPUTS> {
    /// `table_bits`: log2 of the entries a context's table has; `selectors`: sets of weights; `limit`: up to
    /// how many sightings a counter slows down.
    pub(crate) fn new(table_bits: u32, selectors: usize, limit: u32, rate: i32) -> Self {
        Self {
            tables: vec![Counter::default(); INPUTS << table_bits],
            table_bits,
            weights: vec![Weights::FRESH; selectors],
            limit,
            rate,
        }
    }

    /// Codes one decision. `contexts`: a hash for each input; `selector`: which weights.
    pub(crate) fn code(
        &mut self,
        coder: &mut impl BitCoder,
        stretch: &Stretch,
        bit: bool,
        contexts: &[u32; INPUTS],
        selector: usize,
    ) -> io::Result<bool> {
        let mut slots = [0; INPUTS];
        let mut inputs = [[0i32; 2]; INPUTS];
        let weights = &mut self.weights[selector];
        let mut sum = i64::from(weights.bias) * 256;
        for index in 0..INPUTS {
            let hash = contexts[index].wrapping_mul(0x9E37_79B1) >> (32 - self.table_bits);
            slots[index] = (index << self.table_bits) + hash as usize;
            let counter = self.tables[slots[index]];
            if counter.seen() > 0 {
                let p = counter.p16();
                // Two views of one counter: its logit, and its distance from one half.
                inputs[index] = [stretch.of(p), (p as i32 - 32768) >> 5];
            }
            for (weight, input) in weights.inputs[index].into_iter().zip(inputs[index]) {
                sum += i64::from(weight) * i64::from(input);
            }
        }
        let logit = (sum >> 16).clamp(-i64::from(LOGIT_MAX), i64::from(LOGIT_MAX)) as i32;
        let p = squash(logit);
        let bit = coder.code(bit, p)?;
        let error = (i32::from(bit) << 16) - p as i32;
        let step = |input: i32| {
            ((i64::from(input) * i64::from(error) * i64::from(self.rate)) >> 18) as i32
        };
        for index in 0..INPUTS {
            for (weight, input) in weights.inputs[index].iter_mut().zip(inputs[index]) {
                *weight = weight.saturating_add(step(input));
            }
            self.tables[slots[index]].learn(bit, self.limit);
        }
        weights.bias = weights.bias.saturating_add(step(256));
        Ok(bit)
    }
}
