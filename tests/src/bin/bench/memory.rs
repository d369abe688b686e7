//! PSS of both processes with TLS up and one release running.

use anyhow::{Result, ensure};
use coracle_tests::board::{Board, BoardOptions};
use coracle_tests::console::Console;
use coracle_tests::engineer::Engineer;
use coracle_tests::measure::{Pss, get};
use coracle_tests::service::run;
use coracle_tests::world::World;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Before both looks.
const REST: Duration = Duration::from_secs(30);
/// Apps of the second release, and of the third.
const FEW: usize = 2;
const MANY: usize = 12;

/// PSS of supervisor, daemon, and of the supervisor's children that run its own program, by what they call themselves.
fn ours(supervisor: u32, daemon: u32) -> Result<Vec<(String, Pss)>> {
    let program = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let own = program(supervisor);
    let path = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = std::fs::read_to_string(path)?;
    let children = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .filter(|pid| program(*pid) == own);
    let mut all = Vec::new();
    for pid in [supervisor, daemon].into_iter().chain(children) {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"))?;
        all.push((name.trim().to_owned(), Pss::of(pid)?));
    }
    Ok(all)
}

fn kib(all: &[(String, Pss)]) -> u64 {
    all.iter().map(|(_, pss)| pss.in_all()).sum()
}

/// What a process holds goes up and down by more than a few apps take, so that the difference may be none or below nothing.
fn for_each_app_more(of_few: u64, of_many: u64) -> String {
    match of_many.checked_sub(of_few) {
        None | Some(0) => "what an app more takes is below what can be told".to_owned(),
        Some(more) => format!(
            "{} KiB for each app more",
            more.div_ceil((MANY - FEW) as u64)
        ),
    }
}

/// Budget: 5 MiB together.
pub fn table(world: &World, engineer: &Engineer, console: &Console) -> Result<String> {
    let options = BoardOptions {
        number: 1,
        connected: true,
        clock_in_1970: false,
        profile: "qemux86-64",
    };
    let mut board = Board::start(world, "bench.board-1", engineer.root(), options)?;
    board.enrol(console)?;
    let release = engineer.create_release("1.0", 1, "shop/web:1", true)?;
    engineer.push(console, &release)?;
    let start = Instant::now();
    let mut deploy = console.release("deploy");
    deploy
        .arg("--board")
        .arg(board.id().as_str())
        .arg("--wait")
        .arg(&release);
    let waiting = std::thread::spawn(move || run(&mut deploy));
    let url = format!("http://{}:8080/", board.ip());
    let answered = coracle_tests::service::wait_for("HTTP 200", Duration::from_secs(120), || {
        Ok(get(&url)
            .is_ok_and(|(status, _)| status == 200)
            .then(|| start.elapsed()))
    })?;
    ensure!(
        waiting.join().is_ok_and(|r| r.is_ok()),
        "the release was not committed"
    );
    // What a board holds while it waits, probes and telemetry going on; not what it holds the moment after it gave back.
    std::thread::sleep(REST);
    let (supervisor, daemon) = board.pids()?;
    let rows: Vec<(&str, Pss)> = vec![
        ("coracle-supervisor", Pss::of(supervisor)?),
        ("coracled", Pss::of(daemon)?),
    ];
    // Both looks after a deployment of the same small app, so that they differ in nothing but how many there are.
    let mut looks = Vec::new();
    for (number, apps) in [(2, FEW), (3, MANY)] {
        let version = format!("{number}.0");
        let release = engineer.create_release_of_many(&version, number, apps)?;
        engineer.push(console, &release)?;
        let mut deploy = console.release("deploy");
        run(deploy
            .arg("--board")
            .arg(board.id().as_str())
            .arg("--wait")
            .arg(&release))?;
        std::thread::sleep(REST);
        looks.push(ours(supervisor, daemon)?);
    }
    board.stop()?;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let mut table = String::from(
        "TLS link up, one release of two apps running for half a minute. Budget: 5 MiB together. PSS in MiB: of the program's file (shared by all \
         that run it), of what relocation and variables changed in it, of the C library, and of the process's own (heap, stacks).\n\n\
         | process | in all | program | changed | libraries | own |\n|---|---|---|---|---|---|\n",
    );
    for (name, pss) in &rows {
        writeln!(
            table,
            "| {name} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            mib(pss.in_all()),
            mib(pss.program),
            mib(pss.written),
            mib(pss.libraries),
            mib(pss.own)
        )?;
    }
    let together: u64 = rows.iter().map(|(_, pss)| pss.in_all()).sum();
    writeln!(
        table,
        "| **together** | **{:.2}** | | | | |\n\nFrom assignment to the app's first HTTP 200, full layers fetched: {:.1} s.",
        mib(together),
        answered.as_secs_f32()
    )?;
    let (of_few, of_many) = (kib(&looks[0]), kib(&looks[1]));
    writeln!(
        table,
        "\nAll processes of ours, those that write logs and answer for names too, half a minute after a deployment of the same small app: {of_few} KiB \
         with {FEW} of it, {of_many} KiB with {MANY}: **{}**. Goal: 100.",
        for_each_app_more(of_few, of_many)
    )?;
    for (few, many) in looks[0].iter().zip(&looks[1]) {
        let own = |(_, pss): &(String, Pss)| pss.own + pss.written;
        writeln!(
            table,
            "- `{}`: memory of its own {} and {} KiB, pages of programs and libraries {} and {}",
            many.0,
            own(few),
            own(many),
            few.1.in_all() - own(few),
            many.1.in_all() - own(many)
        )?;
    }
    Ok(table)
}
