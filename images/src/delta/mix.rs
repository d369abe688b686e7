//! Logistic mixing in integers: adaptive probabilities for contexts, joined by a small trained sum.
//!
//! After lpaq (M. Mahoney, 2007). Probabilities have 16 bits, logits ("stretch") are in 1/256 and stay
//! within ±12. Everything is exact integer arithmetic, so that every machine decodes the same bytes.

use std::io;

use super::counter::{Counter, Form};
use super::range::BitCoder;
use super::weights::{Weights, learn, learn_soon, sum};

/// `65536 / (1 + e^(-x))` for x = -12, -11.5, … 12.
#[rustfmt::skip]
const SIGMOID: [u32; 49] = [
    1, 1, 1, 2, 3, 5, 8, 13, 22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971,
    7812, 11955, 17625, 24743, 32768,
    40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500,
    65514, 65523, 65528, 65531, 65533, 65534, 65535, 65535, 65535,
];

/// Largest logit, in 1/256.
pub(super) const LOGIT_MAX: i32 = 12 * 256;

/// Probability (16 bits, never 0 or 65536) of a logit.
#[cfg_attr(feature = "make", inline(always))]
#[cfg_attr(not(feature = "make"), inline)]
pub(crate) fn squash(logit: i32) -> u32 {
    let at = (logit.clamp(-LOGIT_MAX, LOGIT_MAX - 1) + LOGIT_MAX) as u32;
    let (step, part) = ((at / 128) as usize, at % 128);
    (SIGMOID[step] * (128 - part) + SIGMOID[step + 1] * part) / 128
}

/// Logits of probabilities: the inverse of [`squash`].
#[derive(Clone)]
pub(crate) struct Stretch(Box<[i16; 4096]>);

impl Stretch {
    /// Of probabilities that have so many bits less than twelve, which are read as their middle.
    pub(crate) fn new(fewer: u32) -> Self {
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
        for index in 0..4096 >> fewer {
            table[index] = table[(index << fewer) + ((1 << fewer) >> 1)];
        }
        Self(table)
    }

    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    pub(crate) fn at(&self, p: u32) -> i32 {
        i32::from(self.0[p as usize & 4095])
    }
}

/// Decisions after which coarse weights learn no faster than at last.
const TAUGHT: u32 = 1793;

/// A kind of decisions.
pub(crate) trait Kind {
    type Entry: Counter;
    const SHAPE: Shape;
}

/// Predicts decisions of one kind from `INPUTS` hashed contexts.
#[derive(Clone)]
pub(crate) struct Predictor<K: Kind, const INPUTS: usize> {
    /// One table a context. The entry that counts as the first one begins a line of the processor's cache.
    tables: Vec<K::Entry>,
    first: usize,
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
    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    const fn slot(&self, index: usize, hash: u32) -> u32 {
        let [large, small] = self.bits;
        match index.checked_sub(self.large) {
            None => ((index as u32) << large) + (hash >> (32 - large)),
            Some(index) => {
                ((self.large as u32) << large) + ((index as u32) << small) + (hash >> (32 - small))
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
}

/// What picks entries: a context's hash is multiplied by it.
pub(crate) const PICK: u32 = 0x9E37_79B1;

/// Where the entries of a decision's contexts are, and what they must have kept of the hashes.
pub(crate) struct Keys<C, const INPUTS: usize> {
    pub(crate) slots: [u32; INPUTS],
    pub(crate) checks: [C; INPUTS],
}

impl<C: Counter, const INPUTS: usize> Keys<C, INPUTS> {
    pub(crate) fn new() -> Self {
        Self {
            slots: [0; INPUTS],
            checks: [C::default(); INPUTS],
        }
    }
}

/// Steps of a logit in the second step's table.
const STEPS: usize = 33;

/// Bytes of a line of the processor's cache.
const LINE: usize = 64;

impl<K: Kind, const INPUTS: usize> Predictor<K, INPUTS> {
    /// `coarse`: what the inputs count for at first, for each coarse set.
    pub(crate) fn new(form: Form, coarse: impl Iterator<Item = [i32; INPUTS]>) -> Self {
        let shape = K::SHAPE;
        let fresh: Vec<u16> = (0..STEPS)
            .map(|step| (squash((step as i32 - 16) * 192)).min(65535) as u16)
            .collect();
        let [large, small] = shape.bits;
        let entries = (shape.large << large) + ((INPUTS - shape.large) << small);
        let tables = vec![K::Entry::default(); entries + LINE / size_of::<K::Entry>()];
        let first = tables.as_ptr().addr().wrapping_neg() % LINE / size_of::<K::Entry>();
        Self {
            tables,
            first,
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

    /// The key of one context, by its hash that was multiplied by [`PICK`].
    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    pub(crate) fn key(&self, keys: &mut Keys<K::Entry, INPUTS>, index: usize, picked: u32) {
        keys.slots[index] = K::SHAPE.slot(index, picked);
        keys.checks[index] = K::Entry::of(self.form.check(picked));
    }

    /// Codes one decision. `contexts`: a hash for each input.
    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    pub(crate) fn code(
        &mut self,
        coder: &mut impl BitCoder,
        bit: bool,
        contexts: &[u32; INPUTS],
        select: Select,
    ) -> io::Result<bool> {
        let mut keys = Keys::new();
        for (index, context) in contexts.iter().enumerate() {
            self.key(&mut keys, index, context.wrapping_mul(PICK));
        }
        self.decide(coder, bit, &keys, select)
    }

    /// Codes one decision, whose entries have been found.
    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    pub(crate) fn decide(
        &mut self,
        coder: &mut impl BitCoder,
        bit: bool,
        keys: &Keys<K::Entry, INPUTS>,
        select: Select,
    ) -> io::Result<bool> {
        let tables = &mut self.tables[self.first..];
        let mut entries = [K::Entry::default(); INPUTS];
        for (entry, slot) in entries.iter_mut().zip(keys.slots) {
            *entry = tables[slot as usize];
        }
        let mut inputs = K::Entry::say(&entries, &keys.checks, &self.form);
        if self.absent != 0 {
            for (index, input) in inputs.iter_mut().enumerate() {
                if self.absent >> index & 1 == 1 {
                    *input = 0;
                }
            }
        }
        let coarse = &mut self.coarse[select.coarse];
        let fine = &mut self.fine[select.fine];
        let sum = i64::from(coarse.bias + fine.bias) * 256 + sum(coarse, fine, &inputs);
        let logit = (sum >> 16).clamp(i64::from(-LOGIT_MAX), i64::from(LOGIT_MAX - 1)) as i32;
        let p = squash(logit);
        // Second step: what did come when the sum said so, in this context?
        let at = (logit + LOGIT_MAX) as u32;
        let (step, part) = ((at / 192) as usize, at % 192);
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

        K::Entry::learn(&mut entries, &keys.checks, &self.form, bit);
        for (slot, entry) in keys.slots.iter().zip(entries) {
            tables[*slot as usize] = entry;
        }
        let error = ((i32::from(bit) << 16) - p as i32) * K::SHAPE.rate;
        if coarse.taught < TAUGHT {
            let hurry = 1 + 2048 / (coarse.taught + 256);
            coarse.taught += 1;
            learn_soon(coarse, fine, &inputs, error, hurry);
        } else {
            learn(coarse, fine, &inputs, error);
        }
        Ok(bit)
    }
}

/// A hash of small numbers, the first of which tells the context's kind.
#[cfg_attr(feature = "make", inline(always))]
#[cfg_attr(not(feature = "make"), inline)]
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
