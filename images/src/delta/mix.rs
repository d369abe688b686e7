//! Logistic mixing in integers: adaptive probabilities for contexts, joined by a small trained sum.
//!
//! After lpaq (M. Mahoney, 2007). Probabilities have 16 bits, logits ("stretch") are in 1/256 and stay
//! within ±12. Everything is exact integer arithmetic, so that every machine decodes the same bytes.

use std::io;

use super::counter::{Counter, Form};
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

/// Bound of a mixing weight, 16.16: keeps sums in range.
const WEIGHT_MAX: i32 = 1 << 22;

/// Probability (16 bits, never 0 or 65536) of a logit.
pub(crate) fn squash(logit: i32) -> u32 {
    let at = (logit.clamp(-LOGIT_MAX, LOGIT_MAX - 1) + LOGIT_MAX) as u32;
    let (step, part) = ((at / 128) as usize, at % 128);
    (SIGMOID[step] * (128 - part) + SIGMOID[step + 1] * part) / 128
}

/// Logits of 12-bit probabilities: the inverse of [`squash`].
#[derive(Clone)]
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
        i32::from(self.0[(p16 >> 4) as usize & 4095])
    }
}

/// How much each input counts, 16.16.
#[derive(Clone)]
struct Weights<const INPUTS: usize> {
    inputs: [i32; INPUTS],
    bias: i32,
    /// Decisions that taught it, up to [`TAUGHT`].
    taught: u32,
}

impl<const INPUTS: usize> Weights<INPUTS> {
    fn new(inputs: [i32; INPUTS]) -> Self {
        Self {
            inputs,
            bias: 0,
            taught: 0,
        }
    }
}

/// Decisions after which coarse weights learn no faster than at last.
const TAUGHT: u32 = 1793;

/// Predicts decisions of one kind from `INPUTS` hashed contexts.
#[derive(Clone)]
pub(crate) struct Predictor<C, const INPUTS: usize> {
    /// One table a context.
    tables: Vec<C>,
    shape: Shape,
    form: Form,
    /// Inputs that say nothing, a bit each.
    absent: u32,
    /// Two sets count together: one that many decisions share, and that learns soon; and a finer one.
    coarse: Vec<Weights<INPUTS>>,
    fine: Vec<Weights<INPUTS>>,
    /// What the second step has learned: by a small context, the probability for each logit.
    refined: Vec<u16>,
}

/// How large a predictor is, and how fast its weights learn.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Log2 of the entries that a context's table has: of the first `large` contexts, and of the others.
    pub(crate) bits: [u32; 2],
    pub(crate) large: usize,
    /// Sets of weights.
    pub(crate) fine: usize,
    pub(crate) rate: i32,
    /// Contexts of the second step.
    pub(crate) refiners: usize,
}

impl Shape {
    /// Where the entry is of a context with this hash.
    #[inline]
    fn slot(&self, index: usize, hash: u32, within: usize) -> usize {
        let [large, small] = self.bits;
        match index.checked_sub(self.large) {
            None => (index << large) + ((hash >> (32 - large)) as usize ^ within),
            Some(index) => {
                (self.large << large) + (index << small) + (hash >> (32 - small)) as usize
            }
        }
    }
}

/// Which sets of weights, and which context of the second step.
#[derive(Clone, Copy)]
pub(crate) struct Select {
    pub(crate) coarse: usize,
    pub(crate) fine: usize,
    pub(crate) refiner: usize,
    /// Turns the lowest bits of the first `large` contexts' entries, so that a byte's decisions find theirs side by side.
    pub(crate) within: usize,
}

/// Steps of a logit in the second step's table.
const STEPS: usize = 33;

impl<C: Counter, const INPUTS: usize> Predictor<C, INPUTS> {
    /// `coarse`: what the inputs count for at first, for each coarse set.
    pub(crate) fn new(
        shape: Shape,
        form: Form,
        coarse: impl Iterator<Item = [i32; INPUTS]>,
    ) -> Self {
        let fresh: Vec<u16> = (0..STEPS)
            .map(|step| (squash((step as i32 - 16) * 192)).min(65535) as u16)
            .collect();
        let [large, small] = shape.bits;
        let entries = (shape.large << large) + ((INPUTS - shape.large) << small);
        Self {
            tables: vec![C::default(); entries],
            shape,
            form,
            absent: 0,
            coarse: coarse.map(Weights::new).collect(),
            fine: vec![Weights::new([0; INPUTS]); shape.fine],
            refined: fresh
                .iter()
                .copied()
                .cycle()
                .take(STEPS * shape.refiners)
                .collect(),
        }
    }

    /// The same with inputs that never say anything: those of a later version of the format.
    pub(crate) fn without(self, absent: u32) -> Self {
        Self { absent, ..self }
    }

    /// Codes one decision. `contexts`: a hash for each input.
    #[inline]
    pub(crate) fn code(
        &mut self,
        coder: &mut impl BitCoder,
        stretch: &Stretch,
        bit: bool,
        contexts: &[u32; INPUTS],
        select: Select,
    ) -> io::Result<bool> {
        let hashes = contexts.map(|context| context.wrapping_mul(0x9E37_79B1));
        let mut slots = [0; INPUTS];
        let mut inputs = [0i32; INPUTS];
        let coarse = &mut self.coarse[select.coarse];
        let fine = &mut self.fine[select.fine];
        let mut sum = i64::from(coarse.bias + fine.bias) * 256;
        for index in 0..INPUTS {
            slots[index] = self.shape.slot(index, hashes[index], select.within);
            if let Some(p) = self.tables[slots[index]].p16(&self.form, hashes[index] >> 8)
                && self.absent >> index & 1 == 0
            {
                inputs[index] = stretch.of(p);
            }
            let weight = coarse.inputs[index] + fine.inputs[index];
            sum += i64::from(weight) * i64::from(inputs[index]);
        }
        let logit = (sum >> 16).clamp(i64::from(-LOGIT_MAX), i64::from(LOGIT_MAX - 1)) as i32;
        let p = squash(logit);
        // Second step: what did come when the sum said so, in this context?
        let at = (logit + LOGIT_MAX) as usize;
        let (step, part) = (at / 192, (at % 192) as u32);
        let cell = select.refiner * STEPS + step;
        let refined = (u32::from(self.refined[cell]) * (192 - part)
            + u32::from(self.refined[cell + 1]) * part)
            / 192;
        let mixed = ((p + refined) / 2).clamp(1, 65535);
        let bit = coder.code(bit, mixed)?;
        let near = if part < 96 { cell } else { cell + 1 };
        let goal = if bit { 65535 } else { 0 };
        let old = i32::from(self.refined[near]);
        self.refined[near] = (old + (goal - old) / 64) as u16;

        let error = i64::from(((i32::from(bit) << 16) - p as i32) * self.shape.rate);
        let hurry = error * i64::from(1 + 2048 / (coarse.taught + 256));
        coarse.taught = (coarse.taught + 1).min(TAUGHT);
        for index in 0..INPUTS {
            let input = i64::from(inputs[index]);
            learn(&mut fine.inputs[index], input * error, 20);
            learn(&mut coarse.inputs[index], input * hurry, 21);
            self.tables[slots[index]].learn(bit, &self.form, hashes[index] >> 8);
        }
        learn(&mut fine.bias, 256 * error, 20);
        learn(&mut coarse.bias, 256 * hurry, 21);
        Ok(bit)
    }
}

/// Moves a weight by a step that has so many bits too many; rounded, as a mean step of less than one counts too.
#[inline]
fn learn(weight: &mut i32, step: i64, bits: u32) {
    let step = (step + (1 << (bits - 1))) >> bits;
    *weight = (*weight + step as i32).clamp(-WEIGHT_MAX, WEIGHT_MAX);
}

/// A hash of small numbers, the first of which tells the context's kind.
#[inline]
pub(crate) fn hash<const N: usize>(values: [u32; N]) -> u32 {
    let mut hash = 0x811C_9DC5u32;
    for value in values {
        hash = (hash ^ value)
            .wrapping_mul(0x0100_0193)
            .rotate_left(13)
            .wrapping_mul(0x85EB_CA6B);
    }
    hash
}
