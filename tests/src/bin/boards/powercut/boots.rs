//! The sample: the board itself is cut while it is updated, and boots from what its disk kept.

use super::chance::Chance;
use super::disk::{Disk, Loss, Medium, last_flush, sparse_copy};
use super::nbd::{Server, locked};
use super::record::{BOOT, Recorded, UPDATE, is_good, tag};
use super::{Effort, Tally};
use crate::shipped::disk::Shipped;
use crate::shipped::fleet::{APPS, Fleet, committed, version_at, was_interrupted};
use crate::shipped::machine::{self, Disk as Drive, Forward, Setup};
use anyhow::{Context, Result, ensure};
use coracle_tests::service::wait_for;
use std::time::{Duration, Instant};

const FORWARDS: [Forward; 2] = [
    Forward {
        here: 18288,
        there: APPS[0].1,
    },
    Forward {
        here: 18290,
        there: APPS[1].1,
    },
];

/// An update asks the disk for some hundred and fifty things; the power goes when it was asked for less than this.
const ASKED: usize = 180;
/// And at the latest after this.
const WITHIN: Duration = Duration::from_secs(8);

pub fn all(fleet: &Fleet, shipped: &Shipped, recorded: Recorded, effort: &Effort) -> Result<Tally> {
    let mut tally = Tally::default();
    if effort.boots == 0 {
        return Ok(tally);
    }
    let folder = fleet.world.dir();
    let (working, left) = (folder.join("working.img"), folder.join("left.img"));
    let mut chance = Chance::of(effort.seed);
    // Begins where the recording ended: with a cut.
    sparse_copy(&recorded.before, &working)?;
    let loss = Loss::of(&mut chance);
    Medium::open(&working)?.cut(
        &recorded.asked,
        recorded.asked.len(),
        loss,
        &mut chance,
        &left,
    )?;
    let (mut runs, mut under_way) = (recorded.history.newest(), None);
    let mut next = recorded.next;
    for number in 0..effort.boots {
        std::fs::rename(&left, &working)?;
        let before = folder.join("medium.img");
        sparse_copy(&working, &before)?;
        let server = Server::start(Disk::open(&working)?, &folder.join("disk.nbd"))?;
        let what = format!("boot {number}: version {runs} was committed, {under_way:?} under way");
        let setup = Setup {
            name: "cut",
            shipped,
            disk: Drive::Nbd(&server.socket),
            stick: None,
            forwards: &FORWARDS,
            folder,
            memory_mib: machine::MEMORY_MIB,
            cpus: 1,
        };
        let board = setup.power_on()?;
        let told = || format!("{what}\n{}", machine::console(folder, "cut"));
        let came = wait_for("both apps", BOOT, || answers().map(Some)).with_context(told)?;
        ensure!(
            came == runs || Some(came) == under_way,
            "version {came} runs; {}",
            told()
        );
        let said = machine::console(folder, "cut");
        ensure!(
            !said.contains("does not mount") && !said.contains("EXT4-fs error"),
            "{}",
            told()
        );
        let settled = wait_for("board and console to agree", UPDATE, || {
            let (version, seen) = (answers()?, fleet.seen()?);
            let agreed = seen["presence"]["online"] == true && committed(&seen) == Some(version);
            let ended = under_way.is_none_or(|number| version == number) || was_interrupted(&seen);
            Ok((agreed && ended).then_some(version))
        });
        let settled = settled.with_context(told)?;
        tally.count(match came == runs {
            true => "booted: the old set ran, and the console agreed",
            false => "booted: the new set ran, and the console agreed",
        });
        runs = settled;

        // Only such that can stay: whether one is under way or was refused is told apart by its version.
        while !is_good(next) {
            next += 1;
        }
        let release = fleet.release(next, tag(next), true)?;
        fleet.assign(&release)?;
        under_way = Some(next);
        next += 1;
        {
            let mut disk = locked(&server.disk);
            disk.dies_at = Some(disk.asked.len() + 1 + chance.below(ASKED));
        }
        let end = Instant::now() + WITHIN;
        while !locked(&server.disk).is_dead() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        board.cut()?;
        if committed(&fleet.seen()?) == under_way {
            runs = under_way.take().unwrap_or(runs);
        }
        let asked = std::mem::take(&mut locked(&server.disk).asked);
        let loss = Loss::of(&mut chance);
        tally.count(format!("booted after: {}", loss.name()));
        let unflushed = asked.len() - last_flush(&asked);
        println!(
            "  boot {number} held; cut with {unflushed} unflushed writes ({})",
            loss.name()
        );
        Medium::open(&before)?.cut(&asked, asked.len(), loss, &mut chance, &left)?;
    }
    Ok(tally)
}

/// The version that both apps tell.
fn answers() -> Result<u64> {
    version_at(&FORWARDS.map(|forward| format!("http://127.0.0.1:{}/", forward.here)))
}
