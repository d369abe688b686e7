//! What a context has taught: a probability, and how often it was seen.
//!
//! Many contexts share a table's entry. A few bits of the context's hash stand in it, so that another context's
//! lesson is not taken for its own; without them a small table teaches mostly noise.

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
}

impl Form {
    fn new(kept: u32, rest: u32, count: u32, most: u32, check: u32) -> Self {
        let mut rates = Box::new([0; 256]);
        for (n, rate) in rates.iter_mut().enumerate() {
            *rate = (131_072 / (2 * n as u32 + 3)) as i32;
        }
        Self {
            kept,
            rest,
            count,
            most,
            check,
            rates,
        }
    }

    /// [`Fine`] entries; `checked`: with six bits of the hash.
    pub(crate) fn fine(checked: bool) -> Self {
        match checked {
            true => Self::new(0x3F_FFF0, 8, 8, 255, 63),
            false => Self::new(0x3F_FFFF, 0, 8, 255, 0),
        }
    }

    /// [`Quick`] entries.
    pub(crate) fn quick(checked: bool) -> Self {
        if !checked {
            return Self::new(0xFFF0, 8, 4, 11, 0);
        }
        let mut form = Self::new(0xFF00, 128, 2, 3, 63);
        form.rates[3] = 8192;
        form
    }
}

/// An entry. Fresh zeroed memory means "one half, never seen" and is not touched before use.
pub(crate) trait Counter: Copy + Default {
    /// Bits of a probability, and where they begin.
    const BITS: u32;
    const FROM: u32;

    fn word(self) -> u32;
    fn of(word: u32) -> Self;

    /// 16 bits, if anything was learned for the context with this hash.
    #[inline]
    fn p16(self, form: &Form, hash: u32) -> Option<u32> {
        let word = self.word();
        let seen = word & ((1 << form.count) - 1) > 0;
        let own = (word >> form.count ^ hash) & form.check == 0;
        (seen && own).then_some((word >> Self::FROM & form.kept | form.rest) >> (Self::BITS - 16))
    }

    /// Moves towards `bit` by 1/(n + 1.5), n up to a limit. What another context has learned fades first.
    #[inline]
    fn learn(&mut self, bit: bool, form: &Form, hash: u32) {
        let word = self.word();
        let mut n = word & ((1 << form.count) - 1);
        let own = (word >> form.count ^ hash) & form.check == 0;
        if !own && n > 1 {
            *self = Self::of(word - 1 - n / 4);
            return;
        }
        let mut p = word >> Self::FROM & form.kept | form.rest;
        if !own || n == 0 {
            p = 1 << (Self::BITS - 1) | form.rest;
            n = 0;
        }
        let goal = if bit { (1 << Self::BITS) - 1 } else { 0 };
        let step = (i64::from(goal - p as i32) * i64::from(form.rates[n as usize & 255])) >> 16;
        let p = (p as i32 + step as i32) as u32 & form.kept;
        *self =
            Self::of(p << Self::FROM | (hash & form.check) << form.count | (n + 1).min(form.most));
    }
}

/// For rare events: 22 bits of probability, how often up to 255.
#[derive(Clone, Copy, Default)]
pub(crate) struct Fine(u32);

impl Counter for Fine {
    const BITS: u32 = 22;
    const FROM: u32 = 10;

    fn word(self) -> u32 {
        self.0
    }

    fn of(word: u32) -> Self {
        Self(word)
    }
}

/// For bytes, which are many and change their ways: 16 bits in all.
#[derive(Clone, Copy, Default)]
pub(crate) struct Quick(u16);

impl Counter for Quick {
    const BITS: u32 = 16;
    const FROM: u32 = 0;

    fn word(self) -> u32 {
        self.0.into()
    }

    fn of(word: u32) -> Self {
        Self(word as u16)
    }
}
