//! Repetitions among literals.

/// Bytes of history in which they are found.
const HISTORY: usize = 1 << 18;

/// Entries of the index, log2.
const INDEX_BITS: u32 = 14;

/// Bytes that must be alike to count as a repetition.
const LEAST: u32 = 6;

/// The last literals, and the repetition that is followed.
pub(crate) struct Repeats {
    history: Vec<u8>,
    at: usize,
    index: Vec<u32>,
    /// Where it goes on, and for how many bytes it was right; 0 is no repetition.
    place: usize,
    right: u32,
}

impl Repeats {
    pub(crate) fn new() -> Self {
        Self {
            history: vec![0; HISTORY],
            at: 0,
            index: vec![0; 1 << INDEX_BITS],
            place: 0,
            right: 0,
        }
    }

    /// The byte that would come, and for how many bytes such guesses were right.
    pub(crate) fn guess(&self) -> (u8, u32) {
        (self.history[self.place], self.right)
    }

    /// Takes a literal; `last`: it and those before, the latest lowest.
    pub(crate) fn push(&mut self, new: u8, last: u64) {
        if self.right > 0 {
            if self.history[self.place] == new {
                self.right += 1;
                self.place = (self.place + 1) % HISTORY;
            } else {
                self.right = 0;
            }
        }
        self.history[self.at % HISTORY] = new;
        self.at += 1;
        let found = std::mem::replace(&mut self.index[slot(last)], self.at as u32);
        if self.right == 0 {
            self.find(found as usize);
        }
    }

    /// Follows a repetition, if the bytes before `found` are those before here.
    fn find(&mut self, found: usize) {
        if found == 0 || self.at - found >= HISTORY - 32 {
            return;
        }
        let alike = (1..=32usize.min(found)).take_while(|&back| {
            self.history[(found - back) % HISTORY] == self.history[(self.at - back) % HISTORY]
        });
        let alike = alike.count() as u32;
        if alike >= LEAST {
            self.right = alike;
            self.place = found % HISTORY;
        }
    }
}

fn slot(last: u64) -> usize {
    let tail = last & ((1 << (8 * LEAST)) - 1);
    (tail.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - INDEX_BITS)) as usize
}
