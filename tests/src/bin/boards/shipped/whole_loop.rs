//! The whole loop with a board that boots its disk: what `make demo` shows, on another kernel and init.

use super::addresses::Addresses;
use super::agent;
use super::disk::{DATA_MIB, Order, Shipped, busybox};
use super::fleet::Fleet;
use super::greedy::{self, Bears, Greedy};
use super::kind::{Extent, Kind};
use super::machine::{Disk, Machine, Setup, console};
use super::rest;
use super::table::Row;
use super::usb::{self, Desk};
use crate::arch::Arch;
use crate::board::Board;
use anyhow::{Context, Result, ensure};
use coracle_tests::measure::human;
use coracle_tests::packages::Cache;
use coracle_tests::service::{self, wait_for};
use std::path::Path;
use std::time::{Duration, Instant};

pub const SHORT: Duration = Duration::from_secs(60);
/// An update in emulation, with other work on the machine.
pub const LONG: Duration = Duration::from_secs(180);

/// An app that is left alone is asked for its health as often as this, in milliseconds.
const PROBE_MS: u32 = 30_000;

/// What ships needs nothing of the root file system but to be read.
const READ_ONLY_ROOT: &str = "(echo > /etc/written) 2>&1 | grep 'Read-only file system'";

/// What stays the same over all its boots.
struct Trial<'a> {
    fleet: &'a Fleet,
    shipped: &'a Shipped,
    kind: &'a Kind<'a>,
    folder: &'a Path,
    hardware: &'a str,
    memory_mib: u32,
    cpus: u32,
    greedy: &'a Greedy,
    addresses: Addresses,
    /// The board's architecture's.
    busybox: &'a Path,
    extent: Extent,
}

/// `number`: of those that run side by side, for its ports. What the whole loop measured is its row.
pub fn run(
    kind: &Kind<'_>,
    number: u16,
    board: &Board,
    cache: &Cache,
    extent: Extent,
) -> Result<Option<Row>> {
    let (name, memory_mib) = (kind.name, kind.memory_mib);
    let (prefix, hardware) = match board.arch {
        Arch::X86_64 => ("corshx", "qemux86-64"),
        Arch::Arm64 => ("corsha", "qemuarm64"),
        Arch::Armhf => ("corshr", "qemuarm"),
    };
    let addresses = Addresses::of(number);
    let mut fleet = Fleet::create(prefix, addresses.console, "shipped.board", hardware)?;
    let folder = fleet.world.dir().to_owned();
    let order = Order {
        init: kind.init,
        trust: fleet.engineer.root(),
        site: Some(&greedy::site(kind.site)),
        quotas: true,
        usb: kind.usb,
    };
    let turn = crate::turn(cache)?;
    let shipped = Shipped::build(board, cache, &order, &folder)?;
    drop(turn);
    println!(
        "{name} as shipped: Linux {}, {memory_mib} MiB of memory, {DATA_MIB} MiB for data",
        shipped.release
    );
    let greedy = Greedy::create(Bears {
        layout: board.layout,
        io: board.bears_io_rates(),
        cpus: kind.cpus,
    })?;
    fleet.beside = greedy.app();
    fleet.probe_ms = PROBE_MS;
    let busybox = busybox(board.arch, cache)?;
    greedy::image(&fleet, &busybox)?;
    let trial = Trial {
        fleet: &fleet,
        shipped: &shipped,
        kind,
        folder: &folder,
        hardware,
        memory_mib,
        cpus: kind.cpus,
        greedy: &greedy,
        addresses,
        busybox: &busybox,
        extent,
    };
    let outcome = steps(&trial);
    if outcome.is_err() {
        println!(
            "--- serial console ---\n{}\n--- end ---",
            console(&folder, "board")
        );
    }
    let row = outcome.with_context(|| format!("board {name}"))?;
    fleet.remove()?;
    println!("{name} as shipped: the {} loop held", extent.name());
    Ok(row.map(|row| Row {
        name: name.to_owned(),
        made_of: kind.made_of(&shipped),
        ..row
    }))
}

fn steps(trial: &Trial<'_>) -> Result<Option<Row>> {
    let Trial {
        fleet,
        shipped,
        kind,
        folder,
        hardware,
        memory_mib,
        cpus,
        greedy,
        addresses,
        busybox,
        extent,
    } = *trial;
    let whole = extent == Extent::Whole;
    let answers = |version| addresses.answer(version);
    for tag in [1, 2] {
        fleet.image(&shipped.app, tag)?;
    }
    let on = |stick| Setup {
        name: "board",
        shipped,
        disk: Disk::File(&shipped.disk),
        stick,
        forwards: &addresses.apps,
        folder,
        memory_mib,
        cpus,
    };
    let mut machine = on(None).power_on()?;
    told("power on to the shell", machine.powered_at);

    // It ends with 0 where writing fails for that reason alone.
    machine.run(READ_ONLY_ROOT, SHORT)?;
    let check = machine.run("coracle board check", SHORT)?;
    println!("{}", indented(&check));
    agent_up(&mut machine)?;
    machine.write_file("/tmp/enrolment.json", &fleet.enrolment()?)?;
    machine.run("coracle enrol /tmp/enrolment.json", SHORT)?;
    fleet.wait_online(LONG)?;

    let first = fleet.release(1, 1, true)?;
    let start = Instant::now();
    fleet.assign(&first)?;
    fleet.wait_for_phase(1, "committed", LONG)?;
    let release_seconds = told("assignment of release 1 to committed", start);
    answers("1")?;
    let start = Instant::now();
    if whole {
        greedy.is_held(fleet, &mut machine)?;
        told("each limit tried", start);
        answers("1")?;
    }
    let limits_seconds = start.elapsed().as_secs_f32();

    let second = fleet.release(2, 2, true)?;
    let start = Instant::now();
    fleet.assign(&second)?;
    let seen = fleet.wait_for_phase(2, "committed", LONG)?;
    told("assignment of release 2 to committed", start);
    let fetched = |field: &str| seen["feedback"]["fetched"][field].as_u64();
    let (wire, delta, full) = (
        fetched("wire_bytes"),
        fetched("delta_bytes"),
        fetched("full_bytes"),
    );
    let (wire, delta, full) = (
        wire.context("no wire_bytes")?,
        delta.context("no delta_bytes")?,
        full.context("no full_bytes")?,
    );
    ensure!(
        delta > 0 && wire < full,
        "no delta: {wire} bytes over the wire, {delta} of them deltas, full {full}"
    );
    println!(
        "  release 2 by delta: {} instead of {}",
        human(wire),
        human(full)
    );
    answers("2")?;

    let third = fleet.release(3, 1, false)?;
    fleet.assign(&third)?;
    let seen = fleet.wait_for_phase(2, "rolled-back", LONG)?;
    println!("  release 3: {}", seen["feedback"]["reason"]);
    answers("2")?;

    let rest = match extent {
        Extent::Whole => {
            let rest = rest::of(&mut machine)?;
            rest.within(shipped.arch)?;
            Some(rest)
        }
        Extent::Quick => None,
    };
    println!("{}", indented(&machine.run("coracle ps", SHORT)?));
    machine.power_off()?;

    let stick = match whole && !kind.usb {
        true => Some(stick(fleet, folder, hardware)?),
        false => None,
    };
    // From power on, without a word from the console, to the app's answer.
    let mut machine = on(stick.as_deref()).power_on()?;
    told("power on to the shell, second boot", machine.powered_at);
    wait_for("the apps after a boot", LONG, || Ok(answers("2").ok()))?;
    let boot_seconds = told("power on to both apps answering", machine.powered_at);
    fleet.wait_online(LONG)?;
    let Some(rest) = rest else {
        machine.power_off()?;
        return Ok(None);
    };

    agent_up(&mut machine)?;
    let runs = if kind.usb {
        let desk = Desk {
            fleet,
            folder,
            hardware,
            init: kind.init,
            app: &shipped.app,
            addresses,
        };
        usb::sticks(&desk, &mut machine)?
    } else {
        let said = machine.run("coracle usb apply /dev/vdb", LONG)?;
        println!("{}", indented(&said));
        wait_for("release 4 from the stick", LONG, || Ok(answers("4").ok()))?;
        println!("  release 4 from a stick's image: applied");
        4
    };

    let files = (folder, shipped.agent.as_path(), busybox);
    let (runs, program) = agent::is_replaced(fleet, &mut machine, files, (addresses, runs))?;
    machine.power_off()?;
    let mut machine = on(None).power_on()?;
    let runs = runs.to_string();
    wait_for("the apps after a boot", LONG, || Ok(answers(&runs).ok()))?;
    agent::is_run(fleet, &mut machine, &program)?;
    machine.power_off()?;
    Ok(Some(Row {
        name: String::new(),
        made_of: String::new(),
        boot_seconds,
        release_seconds,
        limits_seconds,
        update: (wire, full),
        rest,
    }))
}

/// The shell is there before daemon and supervisor are, and have found each other.
fn agent_up(machine: &mut Machine) -> Result<()> {
    wait_for("daemon and supervisor", LONG, || {
        let (code, _) = machine.try_run("coracle ps", SHORT)?;
        Ok((code == 0).then_some(()))
    })
}

/// A stick with release 4, as an image for a second drive.
fn stick(fleet: &Fleet, folder: &Path, hardware: &str) -> Result<std::path::PathBuf> {
    let release = fleet.release(4, 1, true)?;
    let image = folder.join("stick.img");
    service::run(
        fleet
            .engineer
            .release("usb")
            .arg("--release")
            .arg(release)
            .arg("--images")
            .arg(fleet.engineer.images())
            .arg("--base-images")
            .arg(fleet.engineer.images())
            .arg("--key")
            .arg(fleet.engineer.key("offline-deploy"))
            .args(["--hardware", hardware, "--seq", "1", "--image"])
            .arg(&image),
    )?;
    Ok(image)
}

pub fn told(what: &str, since: Instant) -> f32 {
    let seconds = since.elapsed().as_secs_f32();
    println!("  {what}: {seconds:.1} s");
    seconds
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  | {line}")).collect();
    lines.join("\n")
}
