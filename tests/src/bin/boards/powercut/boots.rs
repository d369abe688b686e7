//! The sample: the board itself is cut while it is updated, and boots from what its disk kept.

use super::chance::Chance;
use super::disk::{Disk, Loss, Medium, last_flush, sparse_copy};
use super::history::Promise;
use super::mounted::Mounted;
use super::nbd::{Server, locked};
use super::record::{BOOT, Recorded, UPDATE, is_good, tag};
use super::{Effort, Tally, inspect};
use crate::shipped::agent::Successor;
use crate::shipped::disk::Shipped;
use crate::shipped::fleet::{APPS, Fleet, committed, version_at, was_interrupted};
use crate::shipped::machine::{self, Disk as Drive, Forward, Machine, Setup};
use anyhow::{Context, Result, ensure};
use coracle_digest::Sha256Digest;
use coracle_tests::service::wait_for;
use serde_json::Value;
use std::path::{Path, PathBuf};
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
/// One in so many brings the board's own program, which proves itself for 30 seconds and asks the disk for little meanwhile.
const OF_AGENTS: usize = 3;
const AGENT_ASKED: usize = 400;
const AGENT_SECONDS: usize = 50;

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
    let mut layers = recorded.layers(fleet);
    let mut heard = recorded.history.promise(usize::MAX).counter;
    // The board's own program, and the one that is under way; `None` is the root file system's.
    let mut told_before = Value::Null;
    let (mut agent, mut agent_under_way) = (recorded.programs(usize::MAX)[0], None);
    for number in 0..effort.boots {
        std::fs::rename(&left, &working)?;
        let before = folder.join("medium.img");
        sparse_copy(&working, &before)?;
        let promise = Promise {
            versions: std::iter::once(runs).chain(under_way).collect(),
            counter: heard,
            under_way,
        };
        as_left(fleet, &working, &promise, &layers)
            .with_context(|| format!("what was left before boot {number}, {promise:?}"))?;
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
        let mut board = setup.power_on()?;
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
            // Not what was said of the one before it.
            let interrupted = was_interrupted(&seen) && seen["feedback"]["activity"] != told_before;
            let ended = under_way.is_none_or(|number| version == number) || interrupted;
            Ok((agreed && ended).then_some(version))
        });
        let settled = settled.with_context(told)?;
        tally.count(match came == runs {
            true => "booted: the old set ran, and the console agreed",
            false => "booted: the new set ran, and the console agreed",
        });
        runs = settled;
        heard = heard.max(under_way.unwrap_or_default()).max(runs);
        // It goes with its set.
        if agent_under_way.is_some() {
            let stays = Some(runs) == under_way;
            if stays {
                agent = agent_under_way;
            }
            tally.count(match stays {
                true => "booted: its own program was being replaced, and the new one runs",
                false => "booted: its own program was being replaced, and the old one runs",
            });
        }
        whole(&mut board, agent).with_context(told)?;
        board
            .run("coracle store check", UPDATE)
            .with_context(told)?;

        // Only such that can stay: whether one is under way or was refused is told apart by its version.
        while !is_good(next) {
            next += 1;
        }
        let version = format!("of-{next}");
        let brought = number
            .is_multiple_of(OF_AGENTS)
            .then(|| Successor::of(fleet, &shipped.agent, &version, (&version, next)))
            .transpose()?;
        let table = brought.as_ref().map(Successor::table).unwrap_or_default();
        let release = fleet.release_with(next, tag(next), true, &table)?;
        told_before = fleet.seen()?["feedback"]["activity"].clone();
        fleet.assign(&release)?;
        under_way = Some(next);
        agent_under_way = brought.as_ref().map(|brought| brought.digest);
        let (asked, within) = match brought {
            None => (ASKED, WITHIN),
            Some(brought) => {
                layers.push(brought.layer);
                let seconds = chance.below(AGENT_SECONDS) as u64;
                (AGENT_ASKED, Duration::from_secs(seconds))
            }
        };
        next += 1;
        {
            let mut disk = locked(&server.disk);
            disk.dies_at = Some(disk.asked.len() + 1 + chance.below(asked));
        }
        let end = Instant::now() + within;
        while !locked(&server.disk).is_dead() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        board.cut()?;
        if committed(&fleet.seen()?) == under_way {
            runs = under_way.take().unwrap_or(runs);
            heard = heard.max(runs);
            if let Some(brought) = agent_under_way.take() {
                agent = Some(brought);
            }
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

/// The file system, counters, store and layers as a cut left them, before the board itself meets them.
fn as_left(fleet: &Fleet, left: &Path, promise: &Promise, layers: &[PathBuf]) -> Result<()> {
    let folder = fleet.world.dir().join("left");
    let (image, state) = (folder.join("cut.img"), folder.join("state"));
    std::fs::create_dir_all(&state)?;
    sparse_copy(left, &image)?;
    let mounted = Mounted::checked(&image, &state, "true", &fleet.world.logs())?;
    inspect::as_left(&mounted.inside, promise, layers)?;
    mounted.end()
}

/// Supervisor and daemon come to be this program, and each app of the one set runs.
fn whole(board: &mut Machine, program: Option<Sha256Digest>) -> Result<()> {
    let wanted = program.map(|digest| digest.to_string());
    wait_for("one set, and one program", UPDATE, || {
        let text = board.run("coracle status --json", BOOT)?;
        let status: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        for of in ["program", "daemon_program"] {
            let brought = status[of]["brought"].as_str();
            ensure!(
                brought == wanted.as_deref() && status[of].is_object(),
                "{of} is {}; it must be {wanted:?}",
                status[of]
            );
        }
        let apps = status["current"]["apps"].as_array().context("no apps")?;
        ensure!(
            apps.len() == APPS.len() && apps.iter().all(|app| app["state"] == "running"),
            "not one whole set: {apps:?}"
        );
        Ok(Some(()))
    })
}

/// The version that both apps tell.
fn answers() -> Result<u64> {
    version_at(&FORWARDS.map(|forward| format!("http://127.0.0.1:{}/", forward.here)))
}
