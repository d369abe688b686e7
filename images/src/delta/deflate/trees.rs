//! Codes for the symbols of a block: how long they are, and what they are.

/// Sorts of codes.
pub(super) const LITERALS: usize = 286;
pub(super) const DISTANCES: usize = 30;
pub(super) const LENGTHS: usize = 19;
pub(super) const END: usize = 256;

/// In which order the lengths of the codes of lengths are written.
pub(super) const ORDER: [usize; LENGTHS] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// Bits behind a length's code (from 257 on), and behind a distance's.
pub(super) fn extra_length(code: usize) -> u32 {
    match code {
        0..=7 | 28 => 0,
        _ => (code as u32 - 4) / 4,
    }
}

pub(super) fn extra_distance(code: usize) -> u32 {
    (code as u32 / 2).saturating_sub(1)
}

/// Code of a length minus 3, and the first one with that code.
pub(super) fn length_code(length: usize) -> (usize, usize) {
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
pub(super) fn distance_code(distance: usize) -> (usize, usize) {
    match distance {
        0..=3 => (distance, distance),
        _ => {
            let bits = distance.ilog2() as usize - 1;
            (2 * bits + (distance >> bits), distance >> bits << bits)
        }
    }
}

/// Length of a literal's code in a block with the fixed codes.
pub(super) fn fixed_length(code: usize) -> u8 {
    match code {
        0..=143 | 280.. => 8,
        144..=255 => 9,
        _ => 7,
    }
}

/// Lengths and codes for one sort of symbols.
pub(super) struct Tree<const N: usize> {
    pub(super) counts: [u32; N],
    pub(super) lengths: [u8; N],
    pub(super) codes: [u16; N],
    /// The last symbol that is used.
    pub(super) last: usize,
}

impl<const N: usize> Tree<N> {
    pub(super) fn new() -> Self {
        Self {
            counts: [0; N],
            lengths: [0; N],
            codes: [0; N],
            last: 0,
        }
    }

    /// Makes lengths of at most `most` bits from the counts.
    pub(super) fn build(&mut self, most: u8) {
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
    pub(super) fn name(&mut self) {
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
    pub(super) fn bits(&self) -> usize {
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
