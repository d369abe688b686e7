//! What a container costs the program in it: sysbench inside and outside, in pairs.

use crate::launch::{bundle, median};
use anyhow::{Context, Result, ensure};
use coracle_tests::service::run;
use coracle_tests::world::World;
use std::fmt::Write;
use std::process::Command;

const PAIRS: usize = 9;
/// What sysbench is asked, and the words before its figure.
const KINDS: [(&str, &str, &[&str], &str); 2] = [
    ("cpu", "events per second", &["cpu"], "events per second:"),
    (
        "memory, written in blocks of 1 MiB",
        "MiB per second",
        &["memory", "--memory-block-size=1M", "--memory-total-size=1T"],
        "MiB transferred (",
    ),
];

pub fn table(world: &World) -> Result<String> {
    let bundle = bundle(world, "inside")?;
    let as_app = world.built_path("examples/as_app");
    ensure!(
        as_app.exists(),
        "{} is missing: make bench",
        as_app.display()
    );
    let root = bundle.join("rootfs");
    for (link, to) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        if root.join(link).symlink_metadata().is_err() {
            std::os::unix::fs::symlink(to, root.join(link))?;
        }
    }
    let mut out = format!(
        "sysbench for 2 s with one thread, {PAIRS} pairs of one outside and one with all around it that an app has (overlay, users of its own, \
         seccomp filter, limits of memory, CPU and processes), the order turned round from pair to pair. Goal: within 1 %.\n\n| | host | container | of host, median of pairs | lowest and highest pair |\n|---|---|---|---|---|\n"
    );
    for (what, unit, args, words) in KINDS {
        let (mut host, mut container, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            let outside = || figure(&mut sysbench(args), words);
            let inside = || {
                let mut command = Command::new(&as_app);
                command.arg(&root).arg(SYSBENCH).args(args).args(TIME);
                figure(&mut command, words)
            };
            let (h, c) = if pair.is_multiple_of(2) {
                let h = outside()?;
                (h, inside()?)
            } else {
                let c = inside()?;
                (outside()?, c)
            };
            host.push(h);
            container.push(c);
            ratios.push(c / h);
        }
        let of = |pick: fn(f64, f64) -> f64| ratios.iter().copied().fold(ratios[0], pick);
        let (lowest, highest) = (of(f64::min), of(f64::max));
        writeln!(
            out,
            "| {what}, {unit} | {:.0} | {:.0} | {:.3}x | {lowest:.3}x, {highest:.3}x |",
            median(host),
            median(container),
            median(ratios)
        )?;
    }
    Ok(out)
}

const SYSBENCH: &str = "/usr/bin/sysbench";
const TIME: [&str; 3] = ["--time=2", "--threads=1", "run"];

fn sysbench(args: &[&str]) -> Command {
    let mut command = Command::new(SYSBENCH);
    command.args(args).args(TIME);
    command
}

/// The number behind the words.
fn figure(command: &mut Command, words: &str) -> Result<f64> {
    let text = run(command).context("sysbench (package sysbench)")?;
    let at = text.find(words).map(|at| at + words.len());
    let number = at.and_then(|at| text[at..].split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("sysbench said `{text}`"))
}
