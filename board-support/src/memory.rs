//! Memory of this process itself: a board's agent waits most of its life, and holds little while it does.

use crate::kernel;

/// Larger blocks are mapped by themselves and go back to the kernel the moment they are freed, in bytes.
#[cfg(target_env = "gnu")]
const OWN_MAPPING: i32 = 32 * 1024;

/// So much free heap at its end goes back by itself, in bytes.
#[cfg(target_env = "gnu")]
const TRIM: i32 = 32 * 1024;

/// Called once at the start of a process, before it has threads: one heap for all of them, and little of it kept for later.
pub fn begin_small() {
    #[cfg(target_env = "gnu")]
    for (option, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, OWN_MAPPING),
        (libc::M_TRIM_THRESHOLD, TRIM),
    ] {
        // One that is not taken costs memory, and nothing else.
        kernel::heap_option(option, value);
    }
}

/// Called when a process has done its work and waits for more. What it needs again comes back by itself, from the page cache.
pub fn rest() {
    #[cfg(target_env = "gnu")]
    kernel::trim_heap();
    if let Some(page) = kernel::page_size() {
        // Libraries are shared with everybody, and needed again at each wake-up.
        kernel::drop_clean_pages(page, false);
    }
}

/// Called before work whose memory is bounded: of what the process read of its own files until then, only what the work
/// needs stays.
pub fn make_room() {
    #[cfg(target_env = "gnu")]
    kernel::trim_heap();
    if let Some(page) = kernel::page_size() {
        kernel::drop_clean_pages(page, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// KiB of this program's file that this process has on its page tables, where it writes nothing. Not those that are
    /// called clean: of a file that was just linked none is, until the kernel has written it out.
    fn program_kib() -> u64 {
        let own = fs::read_link("/proc/self/exe").unwrap();
        kib_of(own.to_str().unwrap())
    }

    /// The same of files whose paths contain this.
    fn kib_of(file: &str) -> u64 {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut inside, mut kib) = (false, 0);
        for line in smaps.lines() {
            match line.split_once(char::is_whitespace) {
                Some((key, _)) if !key.ends_with(':') => {
                    let rights = line.split_whitespace().nth(1).unwrap();
                    inside = line.contains(file) && !rights.contains('w');
                }
                Some(("Rss:", value)) if inside => {
                    kib += value.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
                }
                _ => {}
            }
        }
        kib
    }

    #[test]
    fn a_process_that_rests_holds_less_and_goes_on_as_before() {
        // Read all of it, so that it is there to be dropped.
        let own = fs::read("/proc/self/exe").unwrap();
        assert!(own.len() > 1 << 20);
        static WORDS: [u64; 1 << 16] = [7; 1 << 16];
        let sum = || {
            WORDS
                .iter()
                .step_by(512)
                .map(|w| std::hint::black_box(*w))
                .sum::<u64>()
        };
        let before = (sum(), format!("{:?}", "text from the program's file"));
        let held = program_kib();
        rest();
        let after = program_kib();
        assert!(after < held, "{after} KiB of {held}");
        assert_eq!(
            (sum(), format!("{:?}", "text from the program's file")),
            before
        );
        rest();
        rest();
        assert_eq!(sum(), 7 * 128);
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn room_is_made_of_what_was_read_of_libraries_too() {
        let held = kib_of("/libc.so");
        // What a short call needs comes back; some of what was read to get here does not.
        make_room();
        let after = kib_of("/libc.so");
        assert!(after < held, "{after} KiB of {held}");
        let number = format!("{:.3}", 0.5f64.sin());
        assert_eq!(number, "0.479");
    }
}
