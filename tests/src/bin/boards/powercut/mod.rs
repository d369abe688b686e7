//! `make powercut`: a board boots its disk as shipped and is updated again and again, over a disk that forgets at a cut
//! what was not flushed. After each cut: one whole set, counters that did not go back, a console that agrees.
//!
//! | file | what it holds |
//! |---|---|
//! | `disk` | a disk with a volatile cache: every write, every flush, and what a cut leaves |
//! | `nbd` | serves it to QEMU |
//! | `chance` | numbers from a seed |
//! | `history` | what was assigned and heard, and when in the disk's log |
//! | `record` | the board that is updated while the disk takes notes |
//! | `replay` | the many: cuts of that log, the real programs started on what is left, on this machine |
//! | `mounted` | what a cut left, mounted on this machine |
//! | `inspect` | what must hold of the files themselves |
//! | `table` | the runs, in docs/power-cuts.md |
//! | `boots` | the sample: the board itself is cut and booted again |

mod boots;
mod chance;
mod disk;
mod history;
mod inspect;
mod mounted;
mod nbd;
mod record;
mod replay;
mod table;

use crate::board::Board;
use crate::shipped::disk::{Init, Order, Shipped};
use crate::shipped::fleet::Fleet;
use anyhow::{Context, Result, bail};
use coracle_tests::console::Ports;
use coracle_tests::packages::Cache;
use std::path::PathBuf;
use std::time::Instant;
use table::Row;

const PORTS: Ports = Ports {
    operator: 18280,
    board: 18643,
    mqtt: 19083,
};

/// How much is tried.
struct Effort {
    /// Cuts of the recorded log.
    cuts: usize,
    /// Cuts of the running board.
    boots: usize,
    /// Updates that are recorded.
    updates: u64,
    seed: u64,
    /// The document whose table gets a row.
    table: Option<PathBuf>,
}

/// `coracle-boards powercut [--cuts N] [--boots N] [--seed N] [--table FILE]`
pub fn run(cache: &Cache, arguments: impl Iterator<Item = String>) -> Result<()> {
    let effort = effort(arguments)?;
    let started = Instant::now();
    let fleet = Fleet::create("corcut", PORTS, "cut.board", "qemux86-64")?;
    let folder = fleet.world.dir().to_owned();
    let order = Order {
        init: Init::Sysvinit,
        trust: fleet.engineer.root(),
        site: None,
        // Its disk is mounted here too, by whatever kernel this machine has.
        quotas: false,
        usb: false,
    };
    let shipped = Shipped::build(Board::named("x86-64")?, cache, &order, &folder)?;
    println!(
        "power cuts, seed {}: Linux {}, {} updates recorded, {} cuts replayed, {} boards cut and booted",
        effort.seed, shipped.release, effort.updates, effort.cuts, effort.boots
    );
    for tag in [1, 2] {
        fleet.image(&shipped.app, tag)?;
    }
    let recorded = record::record(&fleet, &shipped, effort.updates)?;
    println!("{}", recorded.told());
    let told = recorded.counted();
    let mut tally = replay::all(&fleet, &recorded, &effort)?;
    tally.merge(boots::all(&fleet, &shipped, recorded, &effort)?);
    fleet.remove()?;
    if let Some(file) = &effort.table {
        let row = Row {
            seed: effort.seed,
            recorded: told,
            replayed: effort.cuts,
            unflushed: tally.of(UNFLUSHED),
            of_agents: tally.of(OF_AGENTS),
            booted: effort.boots,
            kernel: shipped.release.clone(),
            seconds: started.elapsed().as_secs(),
        };
        row.write(file)?;
    }
    println!(
        "{}\npower cuts: all held, in {:.0} s",
        tally.table(),
        started.elapsed().as_secs_f32()
    );
    Ok(())
}

fn effort(mut arguments: impl Iterator<Item = String>) -> Result<Effort> {
    let mut effort = Effort {
        cuts: 200,
        boots: 10,
        updates: 16,
        seed: 1,
        table: None,
    };
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        if name == "--table" {
            effort.table = Some(value.into());
            continue;
        }
        let number: u64 = value.parse().with_context(|| format!("{name} {value}"))?;
        match name.as_str() {
            "--cuts" => effort.cuts = usize::try_from(number)?,
            "--boots" => effort.boots = usize::try_from(number)?,
            "--updates" => effort.updates = number.max(2),
            "--seed" => effort.seed = number,
            other => bail!("`{other}` is not one of --cuts, --boots, --updates, --seed, --table"),
        }
    }
    Ok(effort)
}

/// Words of rows that the table of runs counts.
const UNFLUSHED: &str = "there were unflushed writes";
const OF_AGENTS: &str = "cut while its own program was replaced";

/// What came of the cuts, for people.
#[derive(Default)]
struct Tally {
    rows: std::collections::BTreeMap<String, usize>,
}

impl Tally {
    fn count(&mut self, what: impl Into<String>) {
        *self.rows.entry(what.into()).or_default() += 1;
    }

    /// How many that say so.
    fn of(&self, words: &str) -> usize {
        let rows = self.rows.iter().filter(|(what, _)| what.contains(words));
        rows.map(|(_, count)| count).sum()
    }

    fn merge(&mut self, other: Tally) {
        for (what, count) in other.rows {
            *self.rows.entry(what).or_default() += count;
        }
    }

    fn table(&self) -> String {
        let rows: Vec<String> = self
            .rows
            .iter()
            .map(|(what, count)| format!("  {count:5}  {what}"))
            .collect();
        rows.join("\n")
    }
}
