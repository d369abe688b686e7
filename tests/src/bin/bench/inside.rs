//! What a container costs the program in it: sysbench inside and outside, in pairs and side by side.

use crate::launch::{bundle, median};
use anyhow::{Context, Result, ensure};
use coracle_tests::service::run;
use coracle_tests::world::World;
use std::fmt::Write;
use std::process::Command;

const PAIRS: usize = 25;
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
    ensure!(
        std::thread::available_parallelism()?.get() >= 2,
        "inside and outside run side by side, which takes two processors"
    );
    let mut out = format!(
        "sysbench for 1 s with one thread outside and, at the same time on the other processor, with all around it that an app has (overlay, users of \
         its own, seccomp filter, limits of memory, CPU and processes); then the two change processors. What else goes on meets both. The ratio is the \
         geometric mean of such a pair, {PAIRS} pairs. Goal: within 1 %.\n\n| | host | container | of host, median of pairs | half of the pairs are from, to |\n|---|---|---|---|---|\n"
    );
    for (what, unit, args, words) in KINDS {
        let (mut host, mut container, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..PAIRS {
            let mut ratio = 1.0;
            for (here, there) in [("0", "1"), ("1", "0")] {
                let mut outside = pinned(here);
                outside.arg(SYSBENCH).args(args).args(TIME);
                let mut inside = pinned(there);
                inside.arg(&as_app).arg(&root).arg(SYSBENCH);
                inside.args(args).args(TIME);
                let (h, c) = std::thread::scope(|scope| {
                    let outside = scope.spawn(|| figure(&mut outside, words));
                    let inside = figure(&mut inside, words);
                    let outside = outside.join().expect("a thread that only runs sysbench");
                    anyhow::Ok((outside?, inside?))
                })?;
                host.push(h);
                container.push(c);
                ratio *= c / h;
            }
            ratios.push(f64::sqrt(ratio));
        }
        ratios.sort_by(f64::total_cmp);
        let (low, high) = (ratios[PAIRS / 4], ratios[PAIRS - 1 - PAIRS / 4]);
        writeln!(
            out,
            "| {what}, {unit} | {:.0} | {:.0} | {:.3}x | {low:.3}x, {high:.3}x |",
            median(host),
            median(container),
            median(ratios)
        )?;
    }
    Ok(out)
}

const SYSBENCH: &str = "/usr/bin/sysbench";
const TIME: [&str; 3] = ["--time=1", "--threads=1", "run"];

fn pinned(processor: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", processor]);
    command
}

/// The number behind the words.
fn figure(command: &mut Command, words: &str) -> Result<f64> {
    let text = run(command).context("sysbench (package sysbench)")?;
    let at = text.find(words).map(|at| at + words.len());
    let number = at.and_then(|at| text[at..].split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("sysbench said `{text}`"))
}
