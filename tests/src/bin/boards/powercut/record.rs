//! The board that is updated back and forth while its disk takes notes.

use super::disk::{Asked, Disk, sparse_copy};
use super::history::{History, What};
use super::nbd::{Server, locked};
use crate::shipped::disk::Shipped;
use crate::shipped::fleet::Fleet;
use crate::shipped::machine::{self, Disk as Drive, Setup};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::time::Duration;

pub const BOOT: Duration = Duration::from_secs(60);
/// An update in emulation, with other work on the machine.
pub const UPDATE: Duration = Duration::from_secs(180);

/// A run, and the disk as it was before it.
pub struct Recorded {
    pub before: PathBuf,
    pub asked: Vec<Asked>,
    pub history: History,
    /// Of the next release.
    pub next: u64,
}

impl Recorded {
    pub fn told(&self) -> String {
        let writes = self.asked.iter().filter_map(|one| match one {
            Asked::Write { bytes, .. } => Some(bytes.len()),
            Asked::Flush => None,
        });
        let (count, bytes) = writes.fold((0, 0), |(count, bytes), more| (count + 1, bytes + more));
        format!(
            "  recorded: {count} writes with {:.1} MiB, {} flushes; version {} runs",
            bytes as f64 / f64::from(1 << 20),
            self.asked.len() - count,
            self.history.newest()
        )
    }
}

/// Every fourth release does not prove healthy, so that going back is cut as well.
pub fn is_good(number: u64) -> bool {
    number % 4 != 3
}

/// Two images in turn, so that each update is a delta.
pub fn tag(number: u64) -> u8 {
    if number.is_multiple_of(2) { 2 } else { 1 }
}

pub fn record(fleet: &Fleet, shipped: &Shipped, updates: u64) -> Result<Recorded> {
    let folder = fleet.world.dir();
    let working = folder.join("working.img");
    sparse_copy(&shipped.disk, &working)?;
    let server = Server::start(Disk::open(&working)?, &folder.join("disk.nbd"))?;
    let mut history = History::default();
    let setup = Setup {
        name: "record",
        shipped,
        disk: Drive::Nbd(&server.socket),
        stick: None,
        forwards: &[],
        folder,
        memory_mib: machine::MEMORY_MIB,
        cpus: 1,
    };
    let mut board = setup.power_on()?;
    board.write_file("/tmp/enrolment.json", &fleet.enrolment()?)?;
    board.run("coracle enrol /tmp/enrolment.json", BOOT)?;
    fleet.wait_online(BOOT)?;
    // The last one proves healthy: it is what every board must come to.
    let last = (updates..)
        .find(|number| is_good(*number))
        .context("no last release")?;
    let mut runs = 0;
    for number in 1..=last {
        let good = is_good(number);
        let release = fleet.release(number, tag(number), good)?;
        let now = || locked(&server.disk).asked.len();
        history.note(now(), What::Assigned { number, good });
        fleet.assign(&release)?;
        if good {
            runs = number;
        }
        let phase = if good { "committed" } else { "rolled-back" };
        let ended = fleet.wait_for_phase(runs, phase, UPDATE);
        ended.with_context(|| {
            format!(
                "the console of the board:\n{}",
                machine::console(folder, "record")
            )
        })?;
        history.note(now(), What::Ended { number, good });
    }
    board.cut()?;
    let asked = std::mem::take(&mut locked(&server.disk).asked);
    let root_end = crate::shipped::disk::DATA_AT;
    let outside = asked
        .iter()
        .filter(|one| matches!(one, Asked::Write { offset, .. } if *offset < root_end));
    ensure!(
        outside.count() == 0,
        "something writes to the read-only root or the partition table"
    );
    Ok(Recorded {
        before: shipped.disk.clone(),
        asked,
        history,
        next: last + 1,
    })
}
