//! Deflate (RFC 1951) as gzip and zlib write it, to the byte: the same matches, the same blocks, the same trees.
//!
//! Their levels 4 to 9, which look one byte ahead for a longer match. After `deflate.c` and `trees.c` of zlib (J. Gailly, M.
//! Adler) and of GNU gzip, which differ in when a block ends. Memory: 0.3 MiB, whatever the input.

mod blocks;
mod trees;

use blocks::Blocks;

const WINDOW: usize = 32 << 10;
const LEAST_MATCH: usize = 3;
const MOST_MATCH: usize = 258;
/// Bytes that must be known behind the present one.
const LEAST_AHEAD: usize = MOST_MATCH + LEAST_MATCH + 1;
const MOST_DISTANCE: usize = WINDOW - LEAST_AHEAD;
/// A match of three bytes that is farther away is none.
const TOO_FAR: usize = 4096;
const HASH_BITS: u32 = 15;
const HASH_SHIFT: u32 = 5;

/// Which program is followed, and its level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Preset {
    /// GNU gzip, or else zlib.
    pub(crate) gzip: bool,
    level: u8,
}

/// Added to the level of zlib.
const ZLIB: u8 = 16;

impl Preset {
    /// As it stands in a delta.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        let preset = Self {
            gzip: byte & ZLIB == 0,
            level: byte & !ZLIB,
        };
        (4..=9).contains(&preset.level).then_some(preset)
    }

    #[cfg(feature = "make")]
    pub(crate) fn byte(self) -> u8 {
        self.level | if self.gzip { 0 } else { ZLIB }
    }

    /// Good enough, not worth waiting for a better one, nothing better is sought, and how many places are looked at.
    fn efforts(self) -> Efforts {
        let [good, lazy, nice, chain] = match self.level {
            4 => [4, 4, 16, 16],
            5 => [8, 16, 32, 32],
            6 => [8, 16, 128, 128],
            7 => [8, 32, 128, 256],
            8 => [32, 128, 258, 1024],
            _ => [32, 258, 258, 4096],
        };
        Efforts {
            good,
            lazy,
            nice,
            chain,
        }
    }
}

#[derive(Clone, Copy)]
struct Efforts {
    good: usize,
    lazy: usize,
    nice: usize,
    chain: usize,
}

/// Takes bytes, gives a deflate stream.
pub(crate) struct Deflate {
    preset: Preset,
    efforts: Efforts,
    /// Two windows.
    window: Vec<u8>,
    /// For each hash and for each place the last place before with that hash; 0 is none.
    head: Vec<u16>,
    prev: Vec<u16>,
    hash: u32,
    /// The present place, bytes known from there on, and where the block began.
    at: usize,
    ahead: usize,
    block: isize,
    /// The last match, whose place is one before; and whether the byte there waits to be written.
    length: usize,
    start: usize,
    waiting: bool,
    blocks: Blocks,
}

impl Deflate {
    pub(crate) fn new(preset: Preset) -> Self {
        Self {
            preset,
            efforts: preset.efforts(),
            window: vec![0; 2 * WINDOW],
            head: vec![0; 1 << HASH_BITS],
            prev: vec![0; WINDOW],
            hash: 0,
            at: 0,
            ahead: 0,
            block: 0,
            length: LEAST_MATCH - 1,
            start: 0,
            waiting: false,
            blocks: Blocks::new(preset.gzip),
        }
    }

    /// Takes bytes; what is finished goes to `out`.
    pub(crate) fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.at >= WINDOW + MOST_DISTANCE && self.ahead < LEAST_AHEAD {
                self.slide();
            }
            let end = self.at + self.ahead;
            let room = (self.window.len() - end).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.window[end..end + room].copy_from_slice(now);
            if end < 2 {
                // The first two bytes begin the hash.
                for &byte in &now[..room.min(2 - end)] {
                    self.hash = step(self.hash, byte);
                }
            }
            self.ahead += room;
            bytes = later;
            self.run(LEAST_AHEAD, out);
        }
    }

    /// The end of the stream.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.at >= WINDOW + MOST_DISTANCE {
            self.slide();
        }
        if self.preset.gzip {
            // What is looked at behind the end: two zeros, then what an older text left.
            let end = self.at + self.ahead;
            let behind = self.window.len().min(end + LEAST_MATCH - 1);
            self.window[end..behind].fill(0);
        }
        self.run(1, out);
        if self.waiting {
            self.blocks
                .literal(self.window[self.at - 1], self.at as isize - self.block);
            self.waiting = false;
        }
        self.end_block(true, out);
    }

    /// The upper window becomes the lower one.
    fn slide(&mut self) {
        self.window.copy_within(WINDOW.., 0);
        self.start = self.start.saturating_sub(WINDOW);
        self.at -= WINDOW;
        self.block -= WINDOW as isize;
        for place in self.head.iter_mut().chain(&mut self.prev) {
            *place = place.saturating_sub(WINDOW as u16);
        }
    }

    /// Goes on while so many bytes are known.
    fn run(&mut self, least: usize, out: &mut Vec<u8>) {
        while self.ahead >= least {
            let found = match self.ahead >= LEAST_MATCH {
                true => self.insert(self.at),
                false => 0,
            };
            let (last_length, last_start) = (self.length, self.start);
            self.length = LEAST_MATCH - 1;
            let near = found != 0 && self.at - found <= MOST_DISTANCE;
            if near && last_length < self.efforts.lazy {
                self.length = self.longest(found, last_length).min(self.ahead);
                if self.length == LEAST_MATCH && self.at - self.start > TOO_FAR {
                    self.length = LEAST_MATCH - 1;
                }
            }
            let full;
            if last_length >= LEAST_MATCH && self.length <= last_length {
                let distance = self.at - 1 - last_start;
                full = self
                    .blocks
                    .matched(distance, last_length, self.at as isize - self.block);
                let last_insert = (self.at + self.ahead).saturating_sub(LEAST_MATCH);
                self.ahead -= last_length - 1;
                for _ in 0..last_length - 2 {
                    self.at += 1;
                    if self.at <= last_insert {
                        self.insert(self.at);
                    }
                }
                self.waiting = false;
                self.length = LEAST_MATCH - 1;
                self.at += 1;
                if full {
                    self.end_block(false, out);
                }
                continue;
            }
            if self.waiting {
                let byte = self.window[self.at - 1];
                full = self.blocks.literal(byte, self.at as isize - self.block);
                if full {
                    self.end_block(false, out);
                }
            }
            self.waiting = true;
            self.at += 1;
            self.ahead -= 1;
        }
    }

    /// Remembers a place, whose next three bytes are known; returns the last one with the same hash.
    fn insert(&mut self, at: usize) -> usize {
        self.hash = step(self.hash, self.window[at + LEAST_MATCH - 1]);
        let head = &mut self.head[self.hash as usize];
        let found = *head;
        self.prev[at % WINDOW] = found;
        *head = at as u16;
        found.into()
    }

    /// Length of the longest match from `found` on that is longer than `best`.
    fn longest(&mut self, found: usize, mut best: usize) -> usize {
        let mut chain = match best >= self.efforts.good {
            true => self.efforts.chain / 4,
            false => self.efforts.chain,
        };
        let limit = self.at.saturating_sub(MOST_DISTANCE);
        let nice = match self.preset.gzip {
            true => self.efforts.nice,
            false => self.efforts.nice.min(self.ahead),
        };
        let most = MOST_MATCH.min(self.window.len() - self.at);
        let scan = &self.window[self.at..self.at + most];
        let mut place = found;
        loop {
            let other = &self.window[place..place + most];
            if best < most && other[best] == scan[best] && other[best - 1] == scan[best - 1] {
                let alike = scan.iter().zip(other);
                let length = alike.take_while(|(one, other)| one == other).count();
                if length > best {
                    self.start = place;
                    best = length;
                    if length >= nice {
                        break;
                    }
                }
            }
            place = self.prev[place % WINDOW].into();
            chain -= 1;
            if place <= limit || chain == 0 {
                break;
            }
        }
        best
    }

    fn end_block(&mut self, last: bool, out: &mut Vec<u8>) {
        let length = (self.at as isize - self.block) as usize;
        let raw = usize::try_from(self.block).ok();
        let raw = raw.map(|start| &self.window[start..self.at]);
        self.blocks.end(raw, length, last, out);
        self.block = self.at as isize;
    }
}

fn step(hash: u32, byte: u8) -> u32 {
    (hash << HASH_SHIFT ^ u32::from(byte)) & ((1 << HASH_BITS) - 1)
}
