//! The working folder of one test or demo, the programs under test, and the way out: everything
//! that was made is removed when the world is dropped, unless it is kept.

use crate::lan::Lan;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One console's and its boards' world.
pub struct World {
    prefix: String,
    dir: PathBuf,
    built: PathBuf,
    programs: PathBuf,
    lan: Lan,
    keep: bool,
}

impl World {
    /// Makes the folder and the bridge. `prefix` (at most 8 letters) begins every name that is
    /// made; whatever a killed run left under it is removed first.
    pub fn create(prefix: &str, keep: bool) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!(
                "this needs root: it makes network namespaces, cgroups and containers (try with sudo)"
            );
        }
        let dir = std::env::temp_dir().join(format!("coracle-{prefix}"));
        crate::leftovers::remove(prefix);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        std::fs::create_dir_all(dir.join("logs"))?;
        // The boards' unprivileged users pass through.
        set_mode(&dir, 0o755)?;
        let built = program_folder()?;
        let programs = dir.join("programs");
        lay_out_programs(&built, &programs)?;
        let lan = Lan::create(prefix)?;
        Ok(Self {
            prefix: prefix.to_owned(),
            dir,
            built,
            programs,
            lan,
            keep,
        })
    }

    /// What every name begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
    /// The working folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    /// Where services write their output.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }
    /// The network.
    pub fn lan(&self) -> &Lan {
        &self.lan
    }
    /// A program under test.
    pub fn program(&self, name: &str) -> Command {
        Command::new(self.program_path(name))
    }
    /// Its path, by the name that it is called by.
    pub fn program_path(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
    /// What was built beside this program and is not shipped: an example.
    pub fn built_path(&self, name: &str) -> PathBuf {
        self.built.join(name)
    }
    /// The example app, one static file (`make` builds it beside the workspace).
    pub fn static_example(&self) -> PathBuf {
        self.built.join("../static/release/coracle-example-hello")
    }
    /// Whether things stay when this is dropped.
    pub fn keep(&self) -> bool {
        self.keep
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        self.lan.remove();
        crate::leftovers::remove(&self.prefix);
        if std::thread::panicking() {
            eprintln!("logs are kept in {}", self.logs().display());
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// chmod.
pub fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| path.display().to_string())
}

/// Name, and the file that answers to it: as on a board, where three programs are one file.
const SHIPPED: [(&str, &str); 5] = [
    ("coracle-supervisor", "coracle-agent"),
    ("coracled", "coracle-agent"),
    ("coracle", "coracle-agent"),
    ("coracle-console", "coracle-console"),
    ("coracle-release", "coracle-release"),
];

fn lay_out_programs(built: &Path, programs: &Path) -> Result<()> {
    std::fs::create_dir(programs)?;
    set_mode(programs, 0o755)?;
    for (name, file) in SHIPPED {
        std::os::unix::fs::symlink(built.join(file), programs.join(name))?;
    }
    Ok(())
}

/// The folder of the binaries built beside this one: a test runs from its `deps` subfolder.
fn program_folder() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let mut dir = me.parent().context("no folder")?;
    if dir.ends_with("deps") {
        dir = dir.parent().context("no folder")?;
    }
    for (_, name) in SHIPPED {
        if !dir.join(name).exists() {
            bail!(
                "{} is missing; build it first: cargo build --workspace --bins",
                dir.join(name).display()
            );
        }
    }
    Ok(dir.to_owned())
}
