//! Blocks: what they hold, when they are full, and how they are written.

use super::trees::{
    DISTANCES, END, LENGTHS, LITERALS, ORDER, Tree, distance_code, extra_distance, extra_length,
    fixed_length, length_code,
};

/// A literal (no distance) or a match: its length minus 3, its distance.
#[derive(Clone, Copy)]
struct Symbol {
    value: u8,
    distance: u16,
}

/// The block at hand, and bits that do not fill a byte yet.
pub(super) struct Blocks {
    gzip: bool,
    symbols: Vec<Symbol>,
    matches: usize,
    literals: Tree<LITERALS>,
    distances: Tree<DISTANCES>,
    held: u64,
    bits: u32,
}

impl Blocks {
    pub(super) fn new(gzip: bool) -> Self {
        let mut blocks = Self {
            gzip,
            symbols: Vec::with_capacity(Self::most(gzip)),
            matches: 0,
            literals: Tree::new(),
            distances: Tree::new(),
            held: 0,
            bits: 0,
        };
        blocks.begin();
        blocks
    }

    fn most(gzip: bool) -> usize {
        if gzip { 0x7FFF } else { 0x3FFF }
    }

    fn begin(&mut self) {
        self.symbols.clear();
        self.matches = 0;
        self.literals.counts = [0; LITERALS];
        self.literals.counts[END] = 1;
        self.distances.counts = [0; DISTANCES];
    }

    /// Takes a literal; true when the block is full. `made`: bytes of the block so far.
    pub(super) fn literal(&mut self, byte: u8, made: isize) -> bool {
        self.literals.counts[usize::from(byte)] += 1;
        self.push(byte, 0, made)
    }

    /// Takes a match.
    pub(super) fn matched(&mut self, distance: usize, length: usize, made: isize) -> bool {
        self.matches += 1;
        self.literals.counts[END + 1 + length_code(length - 3).0] += 1;
        self.distances.counts[distance_code(distance - 1).0] += 1;
        self.push((length - 3) as u8, distance as u16, made)
    }

    fn push(&mut self, value: u8, distance: u16, made: isize) -> bool {
        self.symbols.push(Symbol { value, distance });
        let count = self.symbols.len();
        // gzip ends a block that seems to be going well.
        if self.gzip && count.is_multiple_of(0x1000) {
            let counts = self.distances.counts.iter().enumerate();
            let bits: usize = counts
                .map(|(code, &count)| count as usize * (5 + extra_distance(code) as usize))
                .sum();
            let size = (count * 8 + bits) / 8;
            if self.matches < count / 2 && (size as isize) < made / 2 {
                return true;
            }
        }
        count == Self::most(self.gzip)
    }

    /// Writes the block. `raw`: its bytes, if they are still there; `length`: how many they are.
    pub(super) fn end(&mut self, raw: Option<&[u8]>, length: usize, last: bool, out: &mut Vec<u8>) {
        self.literals.build(15);
        self.distances.build(15);
        let mut lengths = Tree::<LENGTHS>::new();
        self.each_length(|symbol, _, _| lengths.counts[symbol] += 1);
        lengths.build(7);
        let count = (4..=LENGTHS)
            .rev()
            .find(|&count| lengths.lengths[ORDER[count - 1]] != 0)
            .unwrap_or(4);
        let counts = self.literals.counts.iter();
        let behind: usize = counts
            .skip(END + 1)
            .enumerate()
            .map(|(code, &count)| count as usize * extra_length(code) as usize)
            .chain(
                self.distances
                    .counts
                    .iter()
                    .enumerate()
                    .map(|(code, &count)| count as usize * extra_distance(code) as usize),
            )
            .sum();
        let repeated: usize = [(16, 2), (17, 3), (18, 7)]
            .iter()
            .map(|&(symbol, bits)| lengths.counts[symbol] as usize * bits)
            .sum();
        let own = self.literals.bits()
            + self.distances.bits()
            + behind
            + lengths.bits()
            + repeated
            + 3 * count
            + 14;
        let fixed = behind
            + (self.literals.counts.iter().enumerate())
                .map(|(code, &count)| count as usize * usize::from(fixed_length(code)))
                .sum::<usize>()
            + 5 * self.matches;
        let (own, fixed) = ((own + 10) / 8, (fixed + 10) / 8);
        let best = own.min(fixed);
        match raw {
            Some(raw) if length + 4 <= best => self.store(raw, last, out),
            _ if fixed == best => {
                self.put(2 | u32::from(last), 3, out);
                for (code, length) in self.literals.lengths.iter_mut().enumerate() {
                    *length = fixed_length(code);
                }
                self.literals.name();
                // Two more codes, which nobody uses, stand behind these.
                self.distances.lengths = [5; DISTANCES];
                self.distances.name();
                self.data(out);
            }
            _ => {
                self.put(4 | u32::from(last), 3, out);
                self.put((self.literals.last - 256) as u32, 5, out);
                self.put(self.distances.last as u32, 5, out);
                self.put(count as u32 - 4, 4, out);
                for symbol in &ORDER[..count] {
                    self.put(lengths.lengths[*symbol].into(), 3, out);
                }
                let mut all = Vec::new();
                self.each_length(|symbol, more, bits| all.push((symbol, more, bits)));
                for (symbol, more, bits) in all {
                    let (code, length) = (lengths.codes[symbol], lengths.lengths[symbol]);
                    self.put(code.into(), length.into(), out);
                    self.put(more, bits, out);
                }
                self.data(out);
            }
        }
        if last {
            self.windup(out);
        }
        self.begin();
    }

    /// The lengths of both trees, with their repetitions: symbol, what stands behind it, in so many bits.
    fn each_length(&self, mut take: impl FnMut(usize, u32, u32)) {
        for lengths in [
            &self.literals.lengths[..=self.literals.last],
            &self.distances.lengths[..=self.distances.last],
        ] {
            let mut before = None;
            let (mut count, mut most, mut least) = (0u32, 7, 4);
            if lengths[0] == 0 {
                (most, least) = (138, 3);
            }
            for (index, &length) in lengths.iter().enumerate() {
                let next = lengths.get(index + 1);
                count += 1;
                if count < most && next == Some(&length) {
                    continue;
                }
                if count < least {
                    for _ in 0..count {
                        take(length.into(), 0, 0);
                    }
                } else if length != 0 {
                    if before != Some(length) {
                        take(length.into(), 0, 0);
                        count -= 1;
                    }
                    take(16, count - 3, 2);
                } else if count <= 10 {
                    take(17, count - 3, 3);
                } else {
                    take(18, count - 11, 7);
                }
                count = 0;
                before = Some(length);
                (most, least) = match next {
                    Some(0) => (138, 3),
                    Some(next) if *next == length => (6, 3),
                    _ => (7, 4),
                };
            }
        }
    }

    fn data(&mut self, out: &mut Vec<u8>) {
        for index in 0..self.symbols.len() {
            let Symbol { value, distance } = self.symbols[index];
            let value = usize::from(value);
            if distance == 0 {
                self.code(value, out);
                continue;
            }
            let (code, first) = length_code(value);
            self.code(END + 1 + code, out);
            self.put((value - first) as u32, extra_length(code), out);
            let distance = usize::from(distance) - 1;
            let (code, first) = distance_code(distance);
            let length = self.distances.lengths[code];
            self.put(self.distances.codes[code].into(), length.into(), out);
            self.put((distance - first) as u32, extra_distance(code), out);
        }
        self.code(END, out);
    }

    fn code(&mut self, symbol: usize, out: &mut Vec<u8>) {
        let (code, length) = (self.literals.codes[symbol], self.literals.lengths[symbol]);
        self.put(code.into(), length.into(), out);
    }

    fn store(&mut self, raw: &[u8], last: bool, out: &mut Vec<u8>) {
        self.put(u32::from(last), 3, out);
        self.windup(out);
        let length = raw.len() as u16;
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(raw);
    }

    fn put(&mut self, value: u32, bits: u32, out: &mut Vec<u8>) {
        self.held |= u64::from(value) << self.bits;
        self.bits += bits;
        while self.bits >= 8 {
            out.push(self.held as u8);
            self.held >>= 8;
            self.bits -= 8;
        }
    }

    fn windup(&mut self, out: &mut Vec<u8>) {
        if self.bits > 0 {
            out.push(self.held as u8);
            (self.held, self.bits) = (0, 0);
        }
    }
}
