//! The floor: what the kernel alone takes for a container, by a program that does nothing else (floor.c).

use anyhow::{Context, Result};
use coracle_tests::service::run;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Built anew for each run.
pub struct Floor {
    program: PathBuf,
    root: PathBuf,
    scratch: PathBuf,
}

impl Floor {
    /// On the root file system of a bundle, which has `/stamp`.
    pub fn build(bundle: &Path) -> Result<Floor> {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin/bench/floor.c");
        let program = bundle.join("floor");
        run(Command::new("cc")
            .args(["-O2", "-static", "-o"])
            .arg(&program)
            .arg(source))
        .context("a C compiler (package build-essential)")?;
        let (root, scratch) = (bundle.join("rootfs"), bundle.join("floor-scratch"));
        let proc = root.join("proc");
        let parts = ["upper", "work", "merged"].map(|part| scratch.join(part));
        for folder in parts.iter().chain([&proc]) {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(Floor {
            program,
            root,
            scratch,
        })
    }

    /// One run after `idle_ms` of idleness, in ms: to the program's main, and to the end; `layered`: with an overlay and a
    /// seccomp filter.
    pub fn once(&self, idle_ms: u128, layered: bool) -> Result<(f64, f64)> {
        let text = run(Command::new(&self.program)
            .arg(&self.root)
            .arg(&self.scratch)
            .args(["1".to_owned(), idle_ms.to_string()])
            .arg(if layered { "layered" } else { "plain" }))?;
        let both = text.trim().split_once(' ');
        let both = both.and_then(|(main, end)| Some((main.parse().ok()?, end.parse().ok()?)));
        both.with_context(|| format!("floor printed `{text}`"))
    }
}
