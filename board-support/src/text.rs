//! Text from files and from the kernel, of a fixed largest size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A name, a pattern or a line from sysfs: at most 96 bytes. The longest compatible string in
/// Linux 6.18's device trees has 51; DMI strings that are longer are cut.
pub type Text = heapless::String<96>;

/// Cuts `text` to what fits, at a character's border.
pub(crate) fn cut(text: &str) -> Text {
    cut_to(text)
}

/// [`cut`] for another largest size.
pub(crate) fn cut_to<const N: usize>(text: &str) -> heapless::String<N> {
    let mut kept = heapless::String::new();
    for c in text.chars() {
        if kept.push(c).is_err() {
            break;
        }
    }
    kept
}

/// The first `limit` bytes of a file of sysfs or procfs, or nothing when it cannot be read: a fact
/// that the kernel does not show is no error here.
pub(crate) fn read_bytes(path: &Path, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // A file that fails half-way gives what was read: the same as one that is short.
        let _ = file.take(limit).read_to_end(&mut bytes);
    }
    bytes
}

/// [`read_bytes`] as text, with what is not UTF-8 replaced.
pub(crate) fn read_text(path: &Path, limit: u64) -> String {
    String::from_utf8_lossy(&read_bytes(path, limit)).into_owned()
}

/// Whether `text` matches `pattern`, in which `*` stands for any run of characters and `?` for one.
/// Linear in memory and at worst quadratic in time; both texts are bounded.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    t = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        assert!(matches("/dev/mmcblk?", "/dev/mmcblk0"));
        assert!(matches("*", ""));
        assert!(matches("a*b*c", "aXXbYbc"));
        assert!(!matches("/dev/mmcblk?", "/dev/mmcblk0p1"));
        assert!(!matches("", "x"));
        assert!(!matches("a*", "b"));
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_a_star(text in "[a-z/0-9]{0,40}", cut_at in 0usize..40) {
            prop_assert!(matches(&text, &text));
            let head = &text[..cut_at.min(text.len())];
            let starred = format!("{head}*");
            prop_assert!(matches(&starred, &text));
        }

        #[test]
        fn cutting_keeps_a_prefix(text in any::<String>()) {
            let kept = cut(&text);
            prop_assert!(text.starts_with(kept.as_str()));
            prop_assert!(kept.len() <= 96);
        }
    }
}
