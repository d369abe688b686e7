//! What is worth a second version of its code, for processors that can do more than the least of their kind.
//!
//! A program is built for every processor of its architecture. On x86-64 that is one of 2003, without vectors of 32
//! bytes and without shifts by any register (AVX2, BMI2), which all have had since 2013 but the smallest ones.
//! Boards do without: built for size they gain a thirtieth by it, and it takes 33 KB.

#![allow(unsafe_code)]

/// Something to do, whose method is `inline(always)`, as is all beneath it that gains by it: what is called stays as it is.
pub(crate) trait Task {
    type Done;

    fn carry_out(self) -> Self::Done;
}

/// Does it, by the version for this processor.
#[inline]
pub(crate) fn carry_out<T: Task>(task: T) -> T::Done {
    #[cfg(all(test, feature = "make"))]
    if tests::PLAIN.get() {
        return task.carry_out();
    }
    #[cfg(all(target_arch = "x86_64", feature = "make"))]
    if is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
    {
        // SAFETY: the processor has all that the function was compiled for, as was just asked.
        return unsafe { with_more(task) };
    }
    task.carry_out()
}

#[cfg(all(target_arch = "x86_64", feature = "make"))]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn with_more<T: Task>(task: T) -> T::Done {
    task.carry_out()
}

#[cfg(all(test, feature = "make"))]
mod tests {
    use std::cell::Cell;
    use std::fs::File;
    use std::io::{self, Read, Seek, Write};
    use std::path::Path;

    use crate::Limits;
    use crate::delta::{DeltaReader, make};

    thread_local! {
        /// Nothing more than every processor can do.
        pub(super) static PLAIN: Cell<bool> = const { Cell::new(false) };
    }

    fn both<T>(mut work: impl FnMut() -> T) -> [T; 2] {
        [true, false].map(|plain| {
            PLAIN.set(plain);
            work()
        })
    }

    /// Code that was made again, with a part of it new: addresses, differences and literals.
    fn tar(other: u32) -> io::Result<Vec<u8>> {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let mut content = Vec::new();
        for at in 0..20_000u32 {
            let mut word = (random() % 4096) | ((at % 7) << 12);
            if at % 61 == 0 {
                word = word.wrapping_add(other * (at % 5));
            }
            content.extend(word.to_le_bytes());
            if other > 0 && at % 4001 == 0 {
                let text = (0..300).map(|_| ((random() >> 12) as u8 & 31) | 64);
                content.extend(text);
            }
        }
        let mut header = tar::Header::new_gnu();
        header.set_path("program")?;
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, &content[..])?;
        builder.into_inner()
    }

    fn made_of(delta: &[u8], base: &Path) -> io::Result<Vec<u8>> {
        let mut blob = tempfile::tempfile()?;
        blob.write_all(delta)?;
        blob.rewind()?;
        let base = File::open(base)?.into();
        let reader = DeltaReader::open(blob, base, &Limits::default());
        let mut made = Vec::new();
        reader.map_err(io::Error::other)?.read_to_end(&mut made)?;
        Ok(made)
    }

    #[test]
    fn every_processor_makes_the_same_delta_and_the_same_of_it() {
        let (old, new) = (tar(0).unwrap(), tar(8).unwrap());
        let base = tempfile::tempdir().unwrap();
        tar::Archive::new(&old[..]).unpack(base.path()).unwrap();
        let [plain, more] = both(|| {
            let mut delta = Vec::new();
            make(&old[..], &new[..], &mut delta).unwrap();
            delta
        });
        assert!(plain == more, "{} and {} bytes", plain.len(), more.len());
        assert!(plain.len() < new.len() / 2, "{} bytes", plain.len());
        for made in both(|| made_of(&plain, base.path()).unwrap()) {
            assert!(made == new);
        }
    }
}
