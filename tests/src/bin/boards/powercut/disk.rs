//! A disk with a volatile write cache, as flash and its controllers have it: what was written before a flush that was
//! answered is there after a cut; of what came later any part may be, down to single sectors, in any order.

use super::chance::Chance;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a disk writes whole.
const SECTOR: usize = 512;

/// What the board asked for, in its order.
#[derive(Debug, Clone)]
pub enum Asked {
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    /// All before it is durable.
    Flush,
}

/// What becomes of the writes since the last flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// None of them reached the medium.
    All,
    /// All did.
    Nothing,
    /// The first ones did, the last of them in part.
    Tail,
    /// Some did, in no order, and some of those in part.
    Scattered,
}

impl Loss {
    pub fn of(chance: &mut Chance) -> Loss {
        match chance.below(6) {
            0 => Loss::All,
            1 => Loss::Nothing,
            2 => Loss::Tail,
            _ => Loss::Scattered,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Loss::All => "all unflushed writes lost",
            Loss::Nothing => "nothing lost",
            Loss::Tail => "the last unflushed writes lost, one torn",
            Loss::Scattered => "unflushed writes lost at random, some torn",
        }
    }
}

/// The disk while the board is on: what it reads, and what it asked for so far.
pub struct Disk {
    /// As the board sees it: the cache is served too.
    seen: File,
    pub size: u64,
    pub asked: Vec<Asked>,
    /// When it was asked for so many things, the power is gone: it takes nothing more and answers nothing.
    pub dies_at: Option<usize>,
}

impl Disk {
    pub fn open(path: &Path) -> Result<Disk> {
        let seen = File::options()
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| path.display().to_string())?;
        let size = seen.metadata()?.len();
        Ok(Disk {
            seen,
            size,
            asked: Vec::new(),
            dies_at: None,
        })
    }

    pub fn is_dead(&self) -> bool {
        self.dies_at.is_some_and(|at| self.asked.len() >= at)
    }

    pub fn read(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.seen.read_exact_at(into, offset)
    }

    pub fn write(&mut self, offset: u64, bytes: Vec<u8>) -> std::io::Result<()> {
        self.seen.write_all_at(&bytes, offset)?;
        self.asked.push(Asked::Write { offset, bytes });
        Ok(())
    }

    pub fn flush(&mut self) {
        self.asked.push(Asked::Flush);
    }
}

/// A disk's medium, brought forward through a log from flush to flush.
pub struct Medium {
    path: PathBuf,
    file: File,
    /// Of the log, what is durable on it.
    applied: usize,
}

impl Medium {
    /// `path` holds the disk as it was before the log.
    pub fn open(path: &Path) -> Result<Medium> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| path.display().to_string())?;
        Ok(Medium {
            path: path.to_owned(),
            file,
            applied: 0,
        })
    }

    /// The medium as a cut leaves it after the first `at` of what was asked, in `to`. Cuts must come in order.
    pub fn cut(
        &mut self,
        asked: &[Asked],
        at: usize,
        loss: Loss,
        chance: &mut Chance,
        to: &Path,
    ) -> Result<()> {
        let durable = last_flush(&asked[..at]);
        ensure!(durable >= self.applied, "cuts of a log come in its order");
        for one in &asked[self.applied..durable] {
            if let Asked::Write { offset, bytes } = one {
                self.file.write_all_at(bytes, *offset)?;
            }
        }
        self.applied = durable;
        sparse_copy(&self.path, to)?;
        let left = File::options()
            .write(true)
            .open(to)
            .with_context(|| to.display().to_string())?;
        for (offset, bytes) in survivors(&asked[durable..at], loss, chance) {
            left.write_all_at(bytes, offset)?;
        }
        Ok(())
    }
}

/// How many of `asked` are durable.
pub fn last_flush(asked: &[Asked]) -> usize {
    let flush = asked.iter().rposition(|one| matches!(one, Asked::Flush));
    flush.map_or(0, |at| at + 1)
}

/// The pieces of unflushed writes that reached the medium, to be written in this order: a later write to a sector is
/// never undone by an earlier one.
fn survivors<'a>(unflushed: &'a [Asked], loss: Loss, chance: &mut Chance) -> Vec<(u64, &'a [u8])> {
    let writes: Vec<(u64, &[u8])> = unflushed
        .iter()
        .filter_map(|one| match one {
            Asked::Write { offset, bytes } => Some((*offset, bytes.as_slice())),
            Asked::Flush => None,
        })
        .collect();
    match loss {
        Loss::All => Vec::new(),
        Loss::Nothing => writes,
        Loss::Tail => {
            let whole = chance.below(writes.len());
            let mut left = writes[..whole].to_vec();
            if let Some((offset, bytes)) = writes.get(whole) {
                let sectors = chance.below(bytes.len() / SECTOR + 1);
                left.push((*offset, &bytes[..sectors * SECTOR]));
            }
            left
        }
        Loss::Scattered => {
            let rate = chance.below(101);
            let mut left = Vec::new();
            for (offset, bytes) in writes {
                if !chance.percent(rate) {
                    continue;
                }
                if !chance.percent(25) {
                    left.push((offset, bytes));
                    continue;
                }
                for (at, sector) in bytes.chunks(SECTOR).enumerate() {
                    if chance.percent(50) {
                        left.push((offset + (at * SECTOR) as u64, sector));
                    }
                }
            }
            left
        }
    }
}

/// Holes stay holes, and are not read.
pub fn sparse_copy(from: &Path, to: &Path) -> Result<()> {
    coracle_tests::service::run(Command::new("cp").arg("--sparse=auto").arg(from).arg(to)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, byte: u8) -> Asked {
        Asked::Write {
            offset,
            bytes: vec![byte; 2 * SECTOR],
        }
    }

    #[test]
    fn what_was_flushed_stays_and_the_rest_is_lost_in_part() {
        let folder = std::env::temp_dir().join(format!("coracle-cut-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (base, to) = (folder.join("base"), folder.join("to"));
        let asked = [write(0, 1), Asked::Flush, write(1024, 2), write(2048, 3)];
        let mut partial = 0;
        for seed in 0..200 {
            std::fs::write(&base, [0; 4096]).unwrap();
            let mut chance = Chance::of(seed);
            let loss = Loss::of(&mut chance);
            let mut medium = Medium::open(&base).unwrap();
            medium.cut(&asked, 4, loss, &mut chance, &to).unwrap();
            let left = std::fs::read(&to).unwrap();
            assert!(
                left[..1024].iter().all(|b| *b == 1),
                "seed {seed}: a flushed write is gone"
            );
            assert!(left[3072..].iter().all(|b| *b == 0));
            let there = [2, 3].map(|byte| left.iter().filter(|b| **b == byte).count());
            match loss {
                Loss::All => assert_eq!(there, [0, 0]),
                Loss::Nothing => assert_eq!(there, [1024, 1024]),
                Loss::Tail => assert!(there[1] == 0 || there[0] == 1024, "seed {seed}"),
                Loss::Scattered => assert!(there.iter().all(|count| count % SECTOR == 0)),
            }
            partial += usize::from(there != [0, 0] && there != [1024, 1024]);
        }
        assert!(partial > 50, "only {partial} of 200 cuts tore anything");
        std::fs::write(&base, [0; 4096]).unwrap();
        let mut medium = Medium::open(&base).unwrap();
        medium
            .cut(&asked, 1, Loss::All, &mut Chance::of(1), &to)
            .unwrap();
        assert!(
            std::fs::read(&to).unwrap().iter().all(|b| *b == 0),
            "an unflushed write is there"
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
