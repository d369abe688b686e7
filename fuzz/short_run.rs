//! What the tests of the packages do with a fuzz target's body: see README.md.

/// Runs every seed and `copies` changed copies of each.
pub fn short_run(seeds: &[Vec<u8>], copies: u32, mut run: impl FnMut(&[u8])) {
    let mut state = 1u32;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below.max(1)
    };
    for seed in seeds {
        run(seed);
        for _ in 0..copies {
            let mut copy = seed.clone();
            for _ in 0..1 + random(4) {
                let at = random(copy.len());
                match random(5) {
                    0 if !copy.is_empty() => copy[at] = random(256) as u8,
                    1 if !copy.is_empty() => copy[at] ^= 1 << random(8),
                    2 => copy.truncate(at),
                    3 => copy.insert(at, [0, 0x7F, 0x80, 0xFF][random(4)]),
                    _ => {
                        let from = random(copy.len());
                        let part = copy[from..copy.len().min(from + random(20))].to_vec();
                        copy.splice(at..at, part);
                    }
                }
            }
            run(&copy);
        }
    }
}
