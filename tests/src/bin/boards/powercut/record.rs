//! The board that is updated back and forth while its disk takes notes.

use super::disk::{Asked, Disk, sparse_copy};
use super::history::{History, What};
use super::nbd::{Server, locked};
use crate::shipped::agent::Successor;
use crate::shipped::disk::Shipped;
use crate::shipped::fleet::Fleet;
use crate::shipped::machine::{self, Disk as Drive, Setup};
use anyhow::{Context, Result, ensure};
use coracle_digest::Sha256Digest;
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
    /// The board's own programs that releases brought, in their order.
    pub agents: Vec<Brought>,
}

/// A program that a release brought, and where in the log that was.
pub struct Brought {
    pub program: Successor,
    /// Where it was assigned, and where the console had heard that it stays.
    pub span: (usize, usize),
}

impl Recorded {
    pub fn told(&self) -> String {
        format!(
            "  recorded: {}; version {} runs",
            self.counted(),
            self.history.newest()
        )
    }

    pub fn counted(&self) -> String {
        let writes = self.asked.iter().filter_map(|one| match one {
            Asked::Write { bytes, .. } => Some(bytes.len()),
            Asked::Flush => None,
        });
        let (count, bytes) = writes.fold((0, 0), |(count, bytes), more| (count + 1, bytes + more));
        format!(
            "{} updates, {} of them of the board's program too: {count} writes with {:.1} MiB, {} flushes",
            self.next - 1,
            self.agents.len(),
            bytes as f64 / f64::from(1 << 20),
            self.asked.len() - count,
        )
    }

    /// The programs that a board may be after a cut at `at`; `None` is the root file system's.
    pub fn programs(&self, at: usize) -> Vec<Option<Sha256Digest>> {
        let mut may = vec![None];
        for brought in &self.agents {
            let digest = Some(brought.program.digest);
            match brought.span {
                (_, stays) if stays <= at => may = vec![digest],
                (from, _) if from <= at => may.push(digest),
                _ => {}
            }
        }
        may
    }

    /// The folders that layers were made of.
    pub fn layers(&self, fleet: &Fleet) -> Vec<PathBuf> {
        let of_agents = self
            .agents
            .iter()
            .map(|brought| brought.program.layer.clone());
        [1, 2]
            .map(|tag| fleet.layer(tag))
            .into_iter()
            .chain(of_agents)
            .collect()
    }
}

/// Every fourth release does not prove healthy, so that going back is cut as well.
pub fn is_good(number: u64) -> bool {
    number % 4 != 3
}

/// Some that prove healthy bring the board's own program too.
pub fn brings_agent(number: u64) -> bool {
    number % 8 == 2
}

/// The program that this release brings.
pub fn agent(fleet: &Fleet, shipped: &Shipped, number: u64) -> Result<Option<Successor>> {
    if !brings_agent(number) {
        return Ok(None);
    }
    let version = format!("of-{number}");
    Successor::of(fleet, &shipped.agent, &version, (&version, number)).map(Some)
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
    let (mut runs, mut agents) = (0, Vec::new());
    for number in 1..=last {
        let good = is_good(number);
        let agent = agent(fleet, shipped, number)?;
        let before = agent.as_ref().map(Successor::table).unwrap_or_default();
        let release = fleet.release_with(number, tag(number), good, &before)?;
        let now = || locked(&server.disk).asked.len();
        let from = now();
        history.note(from, What::Assigned { number, good });
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
        let heard = now();
        history.note(heard, What::Ended { number, good });
        agents.extend(agent.map(|program| Brought {
            program,
            span: (from, heard),
        }));
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
        agents,
    })
}
