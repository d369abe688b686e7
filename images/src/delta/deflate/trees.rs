//! Blocks: what they hold, when they are full, and how they are written.

/// Sorts of codes.
const LITERALS: usize = 286;
const DISTANCES: usize = 30;
const LENGTHS: usize = 19;
const END: usize = 256;

/// In which order the lengths of the codes of lengths are written.
const ORDER: [usize; LENGTHS] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// Bits behind a length's code (from 257 on), and behind a distance's.
fn extra_length(code: usize) -> u32 {
    match code {
        0..=7 | 28 => 0,
        _ => (code as u32 - 4) / 4,
    }
}

fn extra_distance(code: usize) -> u32 {
    (code as u32 / 2).saturating_sub(1)
}

/// Code of a length minus 3, and the first one with that code.
fn length_code(length: usize) -> (usize, usize) {
    match length {
        0..=7 => (length, length),
        255 => (28, 255),
        _ => {
            let bits = length.ilog2() as usize - 2;
            let code = 4 * bits + (length >> bits);
            (code, length >> bits << bits)
        }
    }
}

/// The same for a distance minus 1.
fn distance_code(distance: usize) -> (usize, usize) {
    match distance {
        0..=3 => (distance, distance),
        _ => {
            let bits = distance.ilog2() as usize - 1;
            (2 * bits + (distance >> bits), distance >> bits << bits)
        }
    }
}

/// Length of a literal's code in a block with the fixed codes.
fn fixed_length(code: usize) -> u8 {
    match code {
        0..=143 | 280.. => 8,
        144..=255 => 9,
        _ => 7,
    }
}

/// Lengths and codes for one sort of symbols.
struct Tree<const N: usize> {
    counts: [u32; N],
    lengths: [u8; N],
    codes: [u16; N],
    /// The last symbol that is used.
    last: usize,
}

impl<const N: usize> Tree<N> {
    fn new() -> Self {
        Self {
            counts: [0; N],
            lengths: [0; N],
            codes: [0; N],
            last: 0,
        }
    }

    /// Makes lengths of at most `most` bits from the counts.
    fn build(&mut self, most: u8) {
        // Nodes: symbols, then pairs.
        let mut weight = vec![0u32; 2 * N];
        let mut depth = vec![0u8; 2 * N];
        let mut parent = vec![0usize; 2 * N];
        let mut heap = Heap(vec![0]);
        weight[..N].copy_from_slice(&self.counts);
        self.lengths = [0; N];
        let mut last = None;
        for (symbol, &count) in self.counts.iter().enumerate() {
            if count > 0 {
                heap.0.push(symbol);
                last = Some(symbol);
            }
        }
        // Two codes at least.
        while heap.0.len() < 3 {
            let symbol = match last {
                None => 0,
                Some(last) if last < 2 => last + 1,
                Some(_) => 0,
            };
            last = last.max(Some(symbol));
            heap.0.push(symbol);
            weight[symbol] = 1;
        }
        self.last = last.unwrap_or(0);
        let used = heap.0.len() - 1;
        for at in (1..=used / 2).rev() {
            heap.sink(at, &weight, &depth);
        }
        // From the last pair to the first symbol.
        let mut order = Vec::with_capacity(2 * N);
        let mut node = N;
        while heap.0.len() > 2 {
            let one = heap.0[1];
            let end = heap.0.pop().unwrap_or_default();
            heap.0[1] = end;
            heap.sink(1, &weight, &depth);
            let two = heap.0[1];
            order.extend([one, two]);
            weight[node] = weight[one] + weight[two];
            depth[node] = depth[one].max(depth[two]) + 1;
            parent[one] = node;
            parent[two] = node;
            heap.0[1] = node;
            node += 1;
            heap.sink(1, &weight, &depth);
        }
        order.reverse();
        self.measure(&order, &parent, most);
        self.name();
    }

    /// Lengths by how deep a symbol lies; `order`: all nodes but the root, those near it first.
    fn measure(&mut self, order: &[usize], parent: &[usize], most: u8) {
        let mut bits = vec![0u8; 2 * N];
        let mut counts = [0i32; 17];
        let mut over = 0i32;
        for &node in order {
            let mut length = bits[parent[node]] + 1;
            if length > most {
                length = most;
                over += 1;
            }
            bits[node] = length;
            if node < N {
                counts[usize::from(length)] += 1;
                self.lengths[node] = length;
            }
        }
        if over == 0 {
            return;
        }
        while over > 0 {
            let mut length = usize::from(most) - 1;
            while counts[length] == 0 {
                length -= 1;
            }
            counts[length] -= 1;
            counts[length + 1] += 2;
            counts[usize::from(most)] -= 1;
            over -= 2;
        }
        let mut symbols = order.iter().rev().filter(|&&node| node < N);
        for length in (1..=most).rev() {
            for _ in 0..counts[usize::from(length)] {
                if let Some(&symbol) = symbols.next() {
                    self.lengths[symbol] = length;
                }
            }
        }
    }

    /// Codes from lengths; the first bit lowest.
    fn name(&mut self) {
        let mut counts = [0u16; 16];
        for &length in &self.lengths {
            counts[usize::from(length)] += 1;
        }
        counts[0] = 0;
        let mut next = [0u16; 16];
        for length in 1..16 {
            next[length] = (next[length - 1] + counts[length - 1]) << 1;
        }
        for (code, &length) in self.codes.iter_mut().zip(&self.lengths) {
            if length > 0 {
                let next = &mut next[usize::from(length)];
                *code = next.reverse_bits() >> (16 - length);
                *next = next.wrapping_add(1);
            }
        }
    }

    /// Bits that all symbols take, without what stands behind codes.
    fn bits(&self) -> usize {
        let all = self.counts.iter().zip(&self.lengths);
        all.map(|(&count, &length)| count as usize * usize::from(length))
            .sum()
    }
}

/// A heap of nodes, the lightest at 1; 0 is not used.
struct Heap(Vec<usize>);

impl Heap {
    fn sink(&mut self, mut at: usize, weight: &[u32], depth: &[u8]) {
        let lighter =
            |one: usize, other: usize| (weight[one], depth[one]) <= (weight[other], depth[other]);
        let heap = &mut self.0;
        let Some(&moved) = heap.get(at) else { return };
        let mut next = 2 * at;
        while next < heap.len() {
            if next + 1 < heap.len() && lighter(heap[next + 1], heap[next]) {
                next += 1;
            }
            if lighter(moved, heap[next]) {
                break;
            }
            heap[at] = heap[next];
            at = next;
            next *= 2;
        }
        heap[at] = moved;
    }
}

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
