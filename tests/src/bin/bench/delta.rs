//! Bytes on the wire for the Python layer of the demo's update, and memory for applying it.

use anyhow::{Context, Result};
use coracle_tests::engineer::Engineer;
use coracle_tests::measure::human;
use coracle_tests::rootfs;
use coracle_tests::service::run;
use coracle_tests::world::World;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Our delta beside zstd and xdelta3 on the same two tars.
pub fn table(world: &World, engineer: &Engineer) -> Result<String> {
    let dir = world.dir().join("delta");
    std::fs::create_dir_all(&dir)?;
    let cache = std::env::temp_dir().join("coracle-demo-cache");
    let versions = rootfs::python_versions()?;
    let (newer, older) = (&versions[0], versions.last().context("no version")?);
    let tree = |version: &str| rootfs::python(&cache, version);
    let (old, new) = (dir.join("old.tar"), dir.join("new.tar"));
    for (version, tar) in [(older, &old), (newer, &new)] {
        run(Command::new("tar")
            .args([
                "--sort=name",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "--mtime=@0",
                "-C",
            ])
            .arg(tree(version)?)
            .arg("-cf")
            .arg(tar)
            .arg("."))?;
    }
    let mut out = format!(
        "python3.11 {older} → {newer}, one layer of {} as tar. Peak memory is the whole process's.\n\n\
         | tool | bytes | of zstd -19 | apply: peak RSS | apply: time |\n|---|---|---|---|---|\n",
        human(std::fs::metadata(&new)?.len())
    );
    let path = |name: &str| dir.join(name);
    run(Command::new("zstd")
        .args(["-q", "-19", "-f"])
        .arg(&new)
        .arg("-o")
        .arg(path("full.zst")))?;
    run(Command::new("zstd")
        .args(["-q", "-19", "--long=27", "-f"])
        .arg(format!("--patch-from={}", old.display()))
        .arg(&new)
        .arg("-o")
        .arg(path("patch.zst")))?;
    run(Command::new("xdelta3")
        .args(["-q", "-9", "-f", "-e", "-s"])
        .arg(&old)
        .arg(&new)
        .arg(path("patch.vcdiff")))?;
    run(engineer
        .release("delta")
        .arg("make")
        .arg("--base")
        .arg(&old)
        .arg("--target")
        .arg(&new)
        .arg("--output")
        .arg(path("patch.coracle")))?;
    let full = std::fs::metadata(path("full.zst"))?.len();
    let mut ours = engineer.release("delta");
    // From the unpacked folder, as on a board.
    ours.arg("apply")
        .arg("--base")
        .arg(tree(older)?)
        .arg("--delta")
        .arg(path("patch.coracle"))
        .arg("--output")
        .arg(path("ours.tar"));
    let mut zstd = Command::new("zstd");
    zstd.args(["-q", "-d", "--long=27", "-f"])
        .arg(format!("--patch-from={}", old.display()))
        .arg(path("patch.zst"))
        .arg("-o")
        .arg(path("zstd.tar"));
    let mut xdelta = Command::new("xdelta3");
    xdelta
        .args(["-q", "-f", "-d", "-s"])
        .arg(&old)
        .arg(path("patch.vcdiff"))
        .arg(path("xdelta.tar"));
    writeln!(out, "| full layer, zstd -19 | {full} | 1.00x | | |")?;
    for (name, file, command) in [
        ("zstd -19 --patch-from", "patch.zst", zstd),
        ("xdelta3 -9", "patch.vcdiff", xdelta),
        ("coracle delta", "patch.coracle", ours),
    ] {
        let size = std::fs::metadata(path(file))?.len();
        let start = Instant::now();
        let rss = peak_rss(&command, &path("time"))?;
        let seconds = start.elapsed().as_secs_f32();
        writeln!(
            out,
            "| {name} | {size} | {:.2}x | {} | {seconds:.1} s |",
            size as f64 / full as f64,
            human(rss * 1024)
        )?;
    }
    anyhow::ensure!(
        std::fs::read(path("ours.tar"))? == std::fs::read(&new)?,
        "our delta made other bytes"
    );
    Ok(out)
}

/// Peak resident set of a command in KiB, as GNU time reports it.
fn peak_rss(command: &Command, report: &Path) -> Result<u64> {
    run(Command::new("/usr/bin/time")
        .args(["-f", "%M", "-o"])
        .arg(report)
        .arg(command.get_program())
        .args(command.get_args()))?;
    let text = std::fs::read_to_string(report)?;
    text.trim()
        .parse()
        .with_context(|| format!("time printed `{text}`"))
}
