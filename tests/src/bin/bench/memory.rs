//! PSS of both processes with TLS up and one release running.

use anyhow::{Result, ensure};
use coracle_tests::board::{Board, BoardOptions};
use coracle_tests::console::Console;
use coracle_tests::engineer::Engineer;
use coracle_tests::measure::{get, pss_kib};
use coracle_tests::service::run;
use coracle_tests::world::World;
use std::time::{Duration, Instant};

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
    std::thread::sleep(Duration::from_secs(2));
    let (supervisor, daemon) = board.pids()?;
    let (s, d) = (
        pss_kib(supervisor)? as f64 / 1024.0,
        pss_kib(daemon)? as f64 / 1024.0,
    );
    board.stop()?;
    Ok(format!(
        "TLS link up, one release of two apps running. Budget: 5 MiB together.\n\n| process | PSS |\n|---|---|\n\
         | coracle-supervisor | {s:.2} MiB |\n| coracled | {d:.2} MiB |\n| **together** | **{:.2} MiB** |\n\n\
         From assignment to the app's first HTTP 200, full layers fetched: {:.1} s.\n",
        s + d,
        answered.as_secs_f32()
    ))
}
