//! The whole loop with a board that boots its disk: what `make demo` shows, on another kernel and init.

use super::disk::{DATA_MIB, Init, Order, Shipped, busybox};
use super::fleet::{APPS, Fleet};
use super::greedy;
use super::machine::{Disk, Forward, Machine, Setup, console};
use super::usb::{self, Desk};
use crate::arch::Arch;
use crate::board::Board;
use anyhow::{Context, Result, ensure};
use coracle_tests::console::Ports;
use coracle_tests::measure::{get, human};
use coracle_tests::packages::Cache;
use coracle_tests::service::{self, wait_for};
use std::path::Path;
use std::time::{Duration, Instant};

const PORTS: Ports = Ports {
    operator: 18180,
    board: 18543,
    mqtt: 18983,
};
/// Where the two apps answer on this machine.
const FORWARDS: [Forward; 2] = [
    Forward {
        here: 18188,
        there: APPS[0].1,
    },
    Forward {
        here: 18190,
        there: APPS[1].1,
    },
];
pub const SHORT: Duration = Duration::from_secs(60);
/// An update in emulation, with other work on the machine.
pub const LONG: Duration = Duration::from_secs(180);

/// PSS of each process of ours (proc_pid_smaps_rollup(5)).
const PSS: &str = r#"for p in coracle-supervisor coracled; do for pid in $(pidof $p); do awk -v p=$p '/^Pss:/ {print p, $2, "KiB PSS"}' /proc/$pid/smaps_rollup; done; done"#;

/// What ships needs nothing of the root file system but to be read.
const READ_ONLY_ROOT: &str = "(echo > /etc/written) 2>&1 | grep 'Read-only file system'";

/// A board that boots its disk.
#[derive(Debug, Clone, Copy)]
pub struct Kind<'a> {
    pub name: &'a str,
    /// Whose kernel and cgroups it has.
    pub board: &'a str,
    pub init: Init,
    pub memory_mib: u32,
    /// What its site changes of the profile.
    pub site: Option<&'a str>,
    /// Whether its kernel knows USB: sticks are plugged in while it runs. Elsewhere one is a second disk.
    pub usb: bool,
}

/// What stays the same over all its boots.
struct Trial<'a> {
    fleet: &'a Fleet,
    shipped: &'a Shipped,
    kind: &'a Kind<'a>,
    folder: &'a Path,
    hardware: &'a str,
    memory_mib: u32,
    /// Whether its kernel bears rates of reading and writing.
    io: bool,
}

pub fn run(kind: &Kind<'_>, board: &Board, cache: &Cache) -> Result<()> {
    let (name, memory_mib) = (kind.name, kind.memory_mib);
    let (prefix, hardware) = match board.arch {
        Arch::X86_64 => ("corshx", "qemux86-64"),
        Arch::Arm64 => ("corsha", "qemuarm64"),
        Arch::Armhf => ("corshr", "qemuarm"),
    };
    let mut fleet = Fleet::create(prefix, PORTS, "shipped.board", hardware)?;
    let folder = fleet.world.dir().to_owned();
    let order = Order {
        init: kind.init,
        trust: fleet.engineer.root(),
        site: kind.site,
        quotas: true,
        usb: kind.usb,
    };
    let shipped = Shipped::build(board, cache, &order, &folder)?;
    println!(
        "{name} as shipped: Linux {}, {memory_mib} MiB of memory, {DATA_MIB} MiB for data",
        shipped.release
    );
    let io = board.bears_io_rates();
    fleet.beside = greedy::app(io);
    greedy::image(&fleet, &busybox(board.arch, cache)?)?;
    let trial = Trial {
        fleet: &fleet,
        shipped: &shipped,
        kind,
        folder: &folder,
        hardware,
        memory_mib,
        io,
    };
    let outcome = steps(&trial);
    if outcome.is_err() {
        println!(
            "--- serial console ---\n{}\n--- end ---",
            console(&folder, "board")
        );
    }
    outcome.with_context(|| format!("board {name}"))?;
    fleet.remove()?;
    println!("{name} as shipped: the whole loop held");
    Ok(())
}

fn steps(trial: &Trial<'_>) -> Result<()> {
    let Trial {
        fleet,
        shipped,
        kind,
        folder,
        hardware,
        memory_mib,
        io,
    } = *trial;
    for tag in [1, 2] {
        fleet.image(&shipped.app, tag)?;
    }
    let on = |stick| Setup {
        name: "board",
        shipped,
        disk: Disk::File(&shipped.disk),
        stick,
        forwards: &FORWARDS,
        folder,
        memory_mib,
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
    fleet.wait_online(SHORT)?;

    let first = fleet.release(1, 1, true)?;
    let start = Instant::now();
    fleet.assign(&first)?;
    fleet.wait_for_phase(1, "committed", LONG)?;
    told("assignment of release 1 to committed", start);
    answers("1")?;
    let start = Instant::now();
    greedy::is_held(fleet, &mut machine, shipped.layout, io)?;
    told("each limit tried", start);
    answers("1")?;

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

    println!("{}", indented(&machine.run(PSS, SHORT)?));
    println!(
        "{}",
        indented(&machine.run("df -k / /var/lib/coracle", SHORT)?)
    );
    println!(
        "{}",
        indented(&machine.run(
            "grep -E '^Mem(Total|Available)' /proc/meminfo; coracle ps",
            SHORT
        )?)
    );
    machine.power_off()?;

    let stick = match kind.usb {
        true => None,
        false => Some(stick(fleet, folder, hardware)?),
    };
    // From power on, without a word from the console, to the app's answer.
    let mut machine = on(stick.as_deref()).power_on()?;
    told("power on to the shell, second boot", machine.powered_at);
    wait_for("the apps after a boot", LONG, || Ok(answers("2").ok()))?;
    told("power on to both apps answering", machine.powered_at);
    fleet.wait_online(LONG)?;

    agent_up(&mut machine)?;
    if kind.usb {
        let desk = Desk {
            fleet,
            folder,
            hardware,
            init: kind.init,
            app: &shipped.app,
        };
        usb::sticks(&desk, &mut machine)?;
    } else {
        let said = machine.run("coracle usb apply /dev/vdb", LONG)?;
        println!("{}", indented(&said));
        wait_for("release 4 from the stick", LONG, || Ok(answers("4").ok()))?;
        println!("  release 4 from a stick's image: applied");
    }
    machine.power_off()
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

/// Both apps answer as `version`.
pub fn answers(version: &str) -> Result<()> {
    for forward in FORWARDS {
        let (status, body) = get(&format!("http://127.0.0.1:{}/", forward.here))?;
        let wanted = format!("hello from version {version}");
        ensure!(
            status == 200 && body.trim() == wanted,
            "port {} answers {status} `{}`, not `{wanted}`",
            forward.there,
            body.trim()
        );
    }
    Ok(())
}

pub fn told(what: &str, since: Instant) {
    println!("  {what}: {:.1} s", since.elapsed().as_secs_f32());
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  | {line}")).collect();
    lines.join("\n")
}
