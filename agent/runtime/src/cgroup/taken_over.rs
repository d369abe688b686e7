//! What a cgroup has that nobody gives it any more: after whoever gave it was killed, or was told otherwise since.

use super::files::{is_gone, read_number, write};
use super::{Cgroup, CgroupError, Controller, IoLimit, Limits, Place};
use std::io;
use std::path::Path;

type Rate = fn(&IoLimit) -> Option<u64>;

/// In a line of v2's file, and v1's files.
const RATES: [(&str, &str, Rate); 4] = [
    ("rbps", "blkio.throttle.read_bps_device", |io| {
        io.read_bytes_per_second
    }),
    ("wbps", "blkio.throttle.write_bps_device", |io| {
        io.write_bytes_per_second
    }),
    ("riops", "blkio.throttle.read_iops_device", |io| {
        io.read_operations_per_second
    }),
    ("wiops", "blkio.throttle.write_iops_device", |io| {
        io.write_operations_per_second
    }),
];

impl Cgroup {
    /// Ends what `named` does not name and [`Cgroup::set_limits`] would leave: rates of disks; and on v2 the pressure under
    /// which memory was being lowered by one that was killed meanwhile.
    ///
    /// # Errors
    /// The first file that cannot be read or written; the others are changed all the same.
    pub fn end_others(&self, named: &Limits) -> Result<(), CgroupError> {
        let is_named = |device: &str, rate: Rate| {
            let mut rates = named.io.iter();
            rates.any(|io| format!("{}:{}", io.major, io.minor) == device && rate(io).is_some())
        };
        let Place::V2(folder) = self.place() else {
            let mut outcome = Ok(());
            let Some(folder) = self.folder(Controller::Blkio) else {
                return outcome;
            };
            for (_, file, rate) in RATES {
                let path = folder.join(file);
                for line in read(&path)?.lines() {
                    let device = line.split_whitespace().next().unwrap_or_default();
                    if !device.is_empty() && !is_named(device, rate) {
                        outcome = outcome.and(write(&path, &format!("{device} 0")));
                    }
                }
            }
            return outcome;
        };
        let high = folder.join("memory.high");
        let mut outcome = match read_number(&high) {
            Ok(Some(_)) => write(&high, "max"),
            other => other.map(drop),
        };
        let path = folder.join("io.max");
        for line in read(&path)?.lines() {
            let mut words = line.split_whitespace();
            let device = words.next().unwrap_or_default();
            let bounded = |word: &str| {
                let (key, value) = word.split_once('=')?;
                let (name, _, rate) = RATES.into_iter().find(|(name, _, _)| *name == key)?;
                (value != "max" && !is_named(device, rate)).then_some(name)
            };
            for name in words.filter_map(bounded) {
                outcome = outcome.and(write(&path, &format!("{device} {name}=max")));
            }
        }
        outcome
    }
}

/// Nothing where there is no such file.
fn read(path: &Path) -> Result<String, CgroupError> {
    match std::fs::read_to_string(path) {
        Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::NotFound => {
            Ok(String::new())
        }
        other => other.map_err(|source| CgroupError::Io {
            path: path.into(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::v1;

    fn named() -> Limits {
        Limits {
            io: vec![IoLimit {
                major: 8,
                minor: 16,
                write_operations_per_second: Some(7),
                ..IoLimit::default()
            }],
            ..Limits::default()
        }
    }

    /// Files as the kernel has them; what is written to one of them here goes over its beginning.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        folder
    }

    #[test]
    fn one_that_was_killed_while_it_lowered_memory_leaves_no_pressure() {
        let left = folder(&[("memory.high", "16777216\n")]);
        let cgroup = Cgroup {
            place: Place::V2(left.path().into()),
        };
        let high = || std::fs::read_to_string(left.path().join("memory.high")).unwrap();
        cgroup.end_others(&Limits::default()).unwrap();
        assert!(high().starts_with("max"), "{}", high());
        // As the kernel shows it by then.
        std::fs::write(left.path().join("memory.high"), "max\n").unwrap();
        cgroup.end_others(&Limits::default()).unwrap();
        assert_eq!(high(), "max\n");
    }

    #[test]
    fn a_rate_that_nobody_names_ends_and_one_that_is_named_stays() {
        let bounded = "8:16 rbps=20 wbps=max riops=max wiops=7\n";
        let left = folder(&[("io.max", bounded)]);
        let cgroup = Cgroup {
            place: Place::V2(left.path().into()),
        };
        let max = || std::fs::read_to_string(left.path().join("io.max")).unwrap();
        cgroup.end_others(&named()).unwrap();
        assert!(max().starts_with("8:16 rbps=max"), "{}", max());
        let good = "8:16 rbps=max wbps=max riops=max wiops=7\n";
        std::fs::write(left.path().join("io.max"), good).unwrap();
        cgroup.end_others(&named()).unwrap();
        assert_eq!(max(), good);
        // The same number of another disk is another one's.
        let other = "8:1 rbps=max wbps=max riops=max wiops=7\n";
        std::fs::write(left.path().join("io.max"), other).unwrap();
        cgroup.end_others(&named()).unwrap();
        assert!(max().starts_with("8:1 wiops=max"), "{}", max());
    }

    #[test]
    fn on_v1_each_file_has_its_own_rates() {
        let left = folder(&[
            ("blkio.throttle.read_bps_device", "8:16 2000000\n"),
            ("blkio.throttle.write_iops_device", "8:16 7\n"),
        ]);
        let cgroup = Cgroup {
            place: Place::V1(vec![v1::Folder {
                path: left.path().into(),
                mount: left.path().into(),
                controllers: vec![Controller::Blkio],
            }]),
        };
        cgroup.end_others(&named()).unwrap();
        let said = |file: &str| std::fs::read_to_string(left.path().join(file)).unwrap();
        assert!(said("blkio.throttle.read_bps_device").starts_with("8:16 0"));
        assert_eq!(said("blkio.throttle.write_iops_device"), "8:16 7\n");
    }
}
