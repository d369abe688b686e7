//! How much a cgroup waits for what it needs (accounting/psi.rst). Only v2 tells it of cgroups, and not on a kernel where it is
//! left out or switched off.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Cgroup, Place};

/// Two lines, of some 60 bytes each.
const PRESSURE_BYTES: u64 = 512;

/// Time in which somebody waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stall {
    /// Of the last ten seconds, in hundredths of a per cent.
    pub avg10_hundredths: u32,
    /// Since the cgroup was made.
    pub total_micros: u64,
}

/// For one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressure {
    /// At least one process waited.
    pub some: Stall,
    /// All of them waited. Of CPU the kernel tells it since 5.13.
    pub full: Option<Stall>,
}

/// For each; None where the kernel does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressures {
    pub cpu: Option<Pressure>,
    pub memory: Option<Pressure>,
    pub io: Option<Pressure>,
}

impl Cgroup {
    /// What cannot be read is not told: there is nothing that anybody could do about it.
    pub fn pressures(&self) -> Pressures {
        let Place::V2(folder) = self.place() else {
            return Pressures::default();
        };
        let of = |file| read(&folder.join(file));
        Pressures {
            cpu: of("cpu.pressure"),
            memory: of("memory.pressure"),
            io: of("io.pressure"),
        }
    }
}

fn read(path: &Path) -> Option<Pressure> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    // Opening is fine and reading is EOPNOTSUPP where it is switched off (`psi=0`).
    file.take(PRESSURE_BYTES).read_to_string(&mut text).ok()?;
    parse(&text)
}

fn parse(text: &str) -> Option<Pressure> {
    let line = |kind| {
        text.lines()
            .find_map(|line| stall(line.strip_prefix(kind)?))
    };
    Some(Pressure {
        some: line("some ")?,
        full: line("full "),
    })
}

/// `avg10=0.12 avg60=0.00 avg300=0.00 total=345`
fn stall(figures: &str) -> Option<Stall> {
    let of = |key: &str| figures.split(' ').find_map(|pair| pair.strip_prefix(key));
    let (whole, hundredths) = of("avg10=")?.split_once('.')?;
    let whole: u32 = whole.parse().ok()?;
    let hundredths: u32 = hundredths.parse().ok().filter(|part| *part < 100)?;
    Some(Stall {
        avg10_hundredths: whole.checked_mul(100)?.checked_add(hundredths)?,
        total_micros: of("total=")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lines_are_read_and_one_may_be_missing() {
        let some = "some avg10=12.05 avg60=0.10 avg300=0.00 total=345\n";
        let full = "full avg10=0.50 avg60=0.00 avg300=0.00 total=18446744073709551615\n";
        let stall = |avg10_hundredths, total_micros| Stall {
            avg10_hundredths,
            total_micros,
        };
        let with = |full| {
            Some(Pressure {
                some: stall(1205, 345),
                full,
            })
        };
        assert_eq!(
            parse(&format!("{some}{full}")),
            with(Some(stall(50, u64::MAX)))
        );
        assert_eq!(parse(some), with(None));
        for nonsense in [
            "",
            full,
            "some",
            "some avg10=1 total=1",
            "some avg10=1.200 total=1",
            "some avg10=4294967295.00 total=1",
        ] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_file_that_is_missing_or_cannot_be_read_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("cpu.pressure")).unwrap();
        let cgroup = Cgroup {
            place: Place::V2(folder.path().to_owned()),
        };
        assert_eq!(cgroup.pressures(), Pressures::default());
    }
}
