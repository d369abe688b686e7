//! What a context has taught: a probability, and how often it was seen.
//!
//! Many contexts share a table's entry. A few bits of the context's hash stand in it, so that another context's
//! lesson is not taken for its own; without them a small table teaches mostly noise.
//!
//! All entries of a decision are read and taught at once: what is done to each is the same, without a branch
//! that depends on what it holds, so that processors guess nothing, and compilers may do several at a time.

use super::mix::Stretch;

/// How entries are read, of one table and one version of the format.
#[derive(Clone)]
pub(crate) struct Form {
    /// Bits of the probability that are kept, and what is read for the others.
    kept: u32,
    rest: u32,
    /// Bits of the count, and its limit.
    count: u32,
    most: u32,
    /// Which bits of a hash are compared.
    check: u32,
    /// By count: 65536 times the part of the way that the probability goes.
    rates: Box<[i32; 256]>,
    /// What an entry of symbols becomes, but for its check: by the bit, its probability and its count. Since version 4.
    next: Option<Box<[u16; QUICK_STATES * 2]>>,
    /// Logits by an entry's topmost bits, those that are left when so many are shifted out.
    stretch: Stretch,
    down: u32,
}

impl Form {
    fn new(kept: u32, rest: u32, count: u32, most: u32, check: u32, down: [u32; 2]) -> Self {
        let mut rates = Box::new([0; 256]);
        for (n, rate) in rates.iter_mut().enumerate() {
            *rate = (131_072 / (2 * n as u32 + 3)) as i32;
        }
        let [down, fewer] = down;
        Self {
            kept,
            rest,
            count,
            most,
            check,
            rates,
            next: None,
            stretch: Stretch::new(fewer),
            down,
        }
    }

    /// Entries of 32 bits; `checked`: with six bits of the hash.
    pub(crate) fn fine(checked: bool) -> Self {
        match checked {
            true => Self::new(0x3F_FFF0, 8, 8, 255, 63, [20, 0]),
            false => Self::new(0x3F_FFFF, 0, 8, 255, 0, [20, 0]),
        }
    }

    /// Entries of 16 bits.
    pub(crate) fn quick(checked: bool) -> Self {
        if !checked {
            return Self::new(0xFFF0, 8, 4, 11, 0, [4, 0]);
        }
        let mut form = Self::new(0xFF00, 128, QUICK_COUNT, QUICK_MOST.into(), 63, [8, 4]);
        for (rate, quick) in form.rates.iter_mut().zip(QUICK_RATES) {
            *rate = i32::from(quick);
        }
        let mut table = Box::new([0; QUICK_STATES * 2]);
        for state in 0..QUICK_STATES {
            let word = (state >> QUICK_COUNT << 8 | state & usize::from(QUICK_MOST)) as u32;
            for bit in [false, true] {
                let next = form.taught(word, 0, bit, [16, 0]);
                table[usize::from(bit) * QUICK_STATES + state] = next as u16;
            }
        }
        form.next = Some(table);
        form
    }

    /// The bits of a context's hash that its entry keeps.
    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    pub(crate) fn check(&self, hash: u32) -> u32 {
        hash >> 8 & self.check
    }

    /// An entry after a decision, of `bits` for the probability that begin at `from`.
    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn taught(&self, word: u32, check: u32, bit: bool, [bits, from]: [u32; 2]) -> u32 {
        let n = word & ((1 << self.count) - 1);
        let own = (word >> self.count ^ check) & self.check == 0;
        let fresh = !own || n == 0;
        let (p, seen) = match fresh {
            true => (1 << (bits - 1) | self.rest, 0),
            false => (word >> from & self.kept | self.rest, n),
        };
        let goal = if bit { (1 << bits) - 1 } else { 0 };
        let rate = self.rates[seen as usize & 255];
        let step = (i64::from(goal - p as i32) * i64::from(rate)) >> 16;
        let p = (p as i32 + step as i32) as u32 & self.kept;
        let taught = p << from | check << self.count | (seen + 1).min(self.most);
        // What another context has learned fades first.
        if !own && n > 1 {
            word - 1 - n / 4
        } else {
            taught
        }
    }
}

/// What version 4 has in the entries of symbols: two bits of count, and rates by it.
const QUICK_COUNT: u32 = 2;
const QUICK_MOST: u16 = 3;
const QUICK_RATES: [u16; 4] = [43690, 26214, 18724, 8192];

/// Probabilities of 8 bits with their counts. In a table, since compilers that build for size take one entry at a time.
const QUICK_STATES: usize = 256 << QUICK_COUNT;

/// An entry. Fresh zeroed memory means "one half, never seen" and is not touched before use.
pub(crate) trait Counter: Copy + Default {
    /// As much of a word as fits.
    fn of(word: u32) -> Self;

    /// What the entries say to a decision, as logits: 0 where nothing was learned for the context with this check.
    fn say<const N: usize>(entries: &[Self; N], checks: &[Self; N], form: &Form) -> [i32; N];

    /// Moves the probabilities towards `bit` by 1/(n + 1.5), n up to a limit.
    fn learn<const N: usize>(entries: &mut [Self; N], checks: &[Self; N], form: &Form, bit: bool);
}

/// For rare events: 22 bits of probability, six of a hash, how often up to 255.
pub(crate) type Fine = u32;

impl Counter for Fine {
    fn of(word: u32) -> Self {
        word
    }

    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn say<const N: usize>(entries: &[u32; N], checks: &[u32; N], form: &Form) -> [i32; N] {
        let mut says = [0; N];
        for ((says, word), check) in says.iter_mut().zip(entries).zip(checks) {
            let seen = *word & 255 != 0;
            let own = (*word >> 8 ^ *check) & form.check == 0;
            let logit = form.stretch.at(*word >> 20);
            *says = if seen & own { logit } else { 0 };
        }
        says
    }

    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn learn<const N: usize>(entries: &mut [u32; N], checks: &[u32; N], form: &Form, bit: bool) {
        for (word, check) in entries.iter_mut().zip(checks) {
            *word = form.taught(*word, *check, bit, [22, 10]);
        }
    }
}

/// For bytes, which are many and change their ways: 16 bits in all.
pub(crate) type Quick = u16;

impl Counter for Quick {
    fn of(word: u32) -> Self {
        word as u16
    }

    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn say<const N: usize>(entries: &[u16; N], checks: &[u16; N], form: &Form) -> [i32; N] {
        let (check, most) = (form.check as u16, (1u16 << form.count) - 1);
        let count = form.count & 15;
        let mut known = [0i16; N];
        for ((known, word), own) in known.iter_mut().zip(entries).zip(checks) {
            let seen = *word & most != 0;
            let own = (*word >> count ^ *own) & check == 0;
            *known = if seen & own { -1 } else { 0 };
        }
        let mut says = [0; N];
        for ((says, word), known) in says.iter_mut().zip(entries).zip(known) {
            *says = form.stretch.at(u32::from(*word) >> (form.down & 15)) & i32::from(known);
        }
        says
    }

    #[cfg_attr(feature = "make", inline(always))]
    #[cfg_attr(not(feature = "make"), inline)]
    fn learn<const N: usize>(entries: &mut [u16; N], checks: &[u16; N], form: &Form, bit: bool) {
        let Some(next) = &form.next else {
            for (word, check) in entries.iter_mut().zip(checks) {
                *word = form.taught((*word).into(), (*check).into(), bit, [16, 0]) as u16;
            }
            return;
        };
        let taught_by = if bit { QUICK_STATES } else { 0 };
        for (word, check) in entries.iter_mut().zip(checks) {
            let n = *word & QUICK_MOST;
            let own = (*word >> QUICK_COUNT ^ *check) & 63 == 0;
            // Of another context's entry nothing is kept: as if it were never seen.
            let state = if own {
                *word >> 8 << QUICK_COUNT | n
            } else {
                0
            };
            let state = taught_by + usize::from(state);
            let taught = next[state & (2 * QUICK_STATES - 1)] | *check << QUICK_COUNT;
            *word = if !own & (n > 1) { *word - 1 } else { taught };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_that_are_taught_together_learn_what_each_learns_alone(
            mut words: [u16; 20], hashes: [u32; 20], own in 0..20usize, bit: bool, checked: bool
        ) {
            let form = Form::quick(checked);
            let checks = hashes.map(|hash| form.check(hash) as u16);
            for (word, check) in words.iter_mut().zip(checks).take(own) {
                *word = *word & !(form.check << form.count) as u16 | check << form.count;
            }
            let alone: Vec<u16> = words.iter().zip(checks)
                .map(|(&word, check)| form.taught(word.into(), check.into(), bit, [16, 0]) as u16)
                .collect();
            u16::learn(&mut words, &checks, &form, bit);
            prop_assert_eq!(&words[..], &alone[..]);
        }
    }

    #[test]
    fn every_entry_of_symbols_is_taught_alike() {
        let form = Form::quick(true);
        for word in 0..=u16::MAX {
            for (check, bit) in [(0u16, false), (0, true), (21, false), (21, true)] {
                let mut words = [word; 4];
                u16::learn(&mut words, &[check; 4], &form, bit);
                let alone = form.taught(word.into(), check.into(), bit, [16, 0]);
                assert_eq!(words, [alone as u16; 4], "{word:#x} {check} {bit}");
            }
        }
    }
}
