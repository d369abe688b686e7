//! crun of Debian 14 as the peer, where Debian 12 has one of three years ago: unpacked with its own C library, not installed.

use anyhow::{Context, Result, bail};
use coracle_tests::packages::{Cache, usr_or_top};
use coracle_tests::service::run;
use std::path::{Path, PathBuf};
use std::process::Command;

const SUITE: &str = "forky";

/// The newest that can be had: `CORACLE_CRUN`, else of [`SUITE`], else this machine's own, and then it is told why.
pub fn crun() -> PathBuf {
    if let Some(named) = std::env::var_os("CORACLE_CRUN") {
        return named.into();
    }
    newest().unwrap_or_else(|error| {
        println!("  crun of this machine, not of Debian's {SUITE}: {error:#}");
        "crun".into()
    })
}

/// `crun version 1.28`
pub fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    text.lines().next().unwrap_or("not installed").to_owned()
}

fn newest() -> Result<PathBuf> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("packages are looked for on x86-64 only");
    }
    let me = std::env::current_exe()?;
    let target = me.ancestors().nth(2).context("no target folder")?;
    let cache = Cache::in_folder(&target.join("peers"))?;
    let package = cache.unpacked("crun", Some(SUITE))?;
    let mut folders = Vec::new();
    for library in cache.apt(SUITE, "amd64")?.depends("crun")? {
        if library.starts_with("lib") {
            let files = cache.unpacked(&library, Some(SUITE))?;
            folders.push(usr_or_top(&files, "lib/x86_64-linux-gnu"));
        }
    }
    let loader = folders
        .iter()
        .map(|folder| folder.join("ld-linux-x86-64.so.2"))
        .find(|loader| loader.exists())
        .context("none of crun's libraries is libc6")?;
    // In the program itself: it executes itself anew, and by way of the loader would execute that.
    let program = cache.folder().join("crun");
    std::fs::copy(usr_or_top(&package, "bin/crun"), &program)?;
    let paths: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
    run(Command::new("patchelf")
        .arg("--set-interpreter")
        .arg(&loader)
        .args(["--set-rpath", &paths.join(":")])
        .arg(&program))
    .context("patchelf")?;
    run(Command::new(&program).arg("--version"))?;
    Ok(program)
}
