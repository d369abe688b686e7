//! A kernel with its modules, out of an unpacked package.

use crate::board::Board;
use anyhow::{Context, Result};
use coracle_tests::packages::{Cache, usr_or_top};
use std::path::PathBuf;

pub struct Kernel {
    /// As `uname -r` says it.
    pub release: String,
    pub image: PathBuf,
    /// `lib/modules/<release>`
    pub modules: PathBuf,
}

impl Kernel {
    pub fn of(board: &Board, cache: &Cache) -> Result<Kernel> {
        let package = cache.unpacked(
            board.kernel.unwrap_or(board.arch.kernel_package()),
            board.suite,
        )?;
        let all = usr_or_top(&package, "lib/modules");
        let entry = std::fs::read_dir(&all)
            .with_context(|| all.display().to_string())?
            .next()
            .context("the package has no modules")??;
        let release = entry.file_name().to_string_lossy().into_owned();
        let modules = entry.path();
        // From Debian 14 on it lies beside its modules.
        let (beside, boot) = (
            modules.join("vmlinuz"),
            package.join("boot").join(format!("vmlinuz-{release}")),
        );
        Ok(Kernel {
            release,
            image: if beside.exists() { beside } else { boot },
            modules,
        })
    }
}
