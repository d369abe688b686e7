//! The first of many, in order, while no more than those are held: a folder has as many entries as whoever fills it wants.

use heapless::Vec;

/// The `N` smallest of what comes, sorted.
pub(crate) fn smallest<T: Ord, const N: usize>(all: impl Iterator<Item = T>) -> Vec<T, N> {
    let mut kept = Vec::new();
    for one in all {
        let at = kept.partition_point(|other| *other <= one);
        if at == N {
            continue;
        }
        if kept.is_full() {
            kept.pop();
        }
        // There is room by now, and `at` lies within.
        let _ = kept.insert(at, one);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_what_sorting_all_would_give(all in proptest::collection::vec(any::<u8>(), 0..40)) {
            let kept: Vec<u8, 8> = smallest(all.iter().copied());
            let mut sorted = all;
            sorted.sort_unstable();
            sorted.truncate(8);
            prop_assert_eq!(kept.as_slice(), sorted.as_slice());
        }
    }
}
