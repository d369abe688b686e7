//! `make demo`: the whole loop on one machine with real parts, told step by step. Each step
//! asserts what it shows; the demo ends with exit code 1 when one does not hold.

mod attacks;
mod faults;
mod narrator;
mod shown;
mod updates;
mod usb;

use anyhow::Result;
use coracle_tests::board::{Board, BoardOptions};
use coracle_tests::console::Console;
use coracle_tests::engineer::Engineer;
use coracle_tests::leftovers;
use coracle_tests::world::World;
use narrator::Narrator;
use std::process::ExitCode;

/// What the steps share.
pub struct Demo {
    world: World,
    engineer: Engineer,
    console: Console,
    board: Board,
    say: Narrator,
}

fn main() -> ExitCode {
    let keep = std::env::args().skip(1).any(|a| a == "--keep");
    match demo(keep) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(keep: bool) -> Result<()> {
    const PREFIX: &str = "cordemo";
    let say = Narrator::start();
    let world = World::create(PREFIX, keep)?;
    let before = leftovers::find(PREFIX)
        .into_iter()
        .filter(|l| !l.starts_with("link cordemo0"))
        .collect::<Vec<_>>();
    anyhow::ensure!(
        before.is_empty(),
        "left from an earlier run and not to be removed: {before:?}"
    );

    say.step(1, "Keys, and a console");
    let engineer = Engineer::make_keys(&world, &|text| say.line(text))?;
    let console = Console::start(&world, engineer.root(), &engineer.key("deploy"))?;
    say.line(&format!(
        "console on {} with its own Mosquitto (TLS, client certificates, one ACL pattern)",
        console.url()
    ));

    say.step(2, "Two versions of a real image");
    engineer.build_images(&world, &|text| say.line(text))?;

    say.step(3, "A virtual board, enrolled with a one-time token");
    let board = start_board(&world, &engineer, "demo.board-a", 1, true)?;
    board.enrol(&console)?;
    say.line(&format!(
        "{} has its certificate and is online; the token is used up",
        board.id()
    ));

    let mut demo = Demo {
        world,
        engineer,
        console,
        board,
        say,
    };
    updates::first(&mut demo)?;
    updates::second_by_delta(&mut demo)?;
    updates::third_goes_back(&mut demo)?;
    attacks::all_refused(&mut demo)?;
    faults::daemon_killed(&mut demo)?;
    faults::network_cut(&mut demo)?;
    usb::offline_board(&mut demo)?;
    usb::sealed_to_a_board(&mut demo)?;
    finish(demo, keep, PREFIX)
}

fn start_board(
    world: &World,
    engineer: &Engineer,
    id: &str,
    number: u8,
    connected: bool,
) -> Result<Board> {
    let options = BoardOptions {
        number,
        connected,
        clock_in_1970: !connected,
        profile: "qemux86-64",
    };
    Board::start(world, id, engineer.root(), options)
}

fn finish(demo: Demo, keep: bool, prefix: &str) -> Result<()> {
    let Demo {
        world,
        console,
        mut board,
        say,
        ..
    } = demo;
    say.step(11, "What was shown and measured");
    say.table();
    if keep {
        say.line(&format!(
            "kept: web page {} (token in {})",
            console.url(),
            console.token_file().display()
        ));
        say.line(&format!(
            "      docker -H unix://{} ps",
            board.docker_socket().display()
        ));
        say.line(&format!(
            "      app http://{}:8080/   logs in {}",
            board.ip(),
            world.logs().display()
        ));
        say.line("      the next `make demo` removes it all");
        std::mem::forget((console, board, world));
        return Ok(());
    }
    board.stop()?;
    drop((board, console));
    drop(world);
    let left = leftovers::find(prefix);
    anyhow::ensure!(left.is_empty(), "left behind: {left:#?}");
    say.line("everything that was made is removed: no link, namespace, mount, cgroup, nft table or process is left");
    Ok(())
}
