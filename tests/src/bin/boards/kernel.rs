//! A kernel with its modules, out of an unpacked package: Debian's, or somebody's own.

use crate::board::Board;
use anyhow::{Context, Result, ensure};
use coracle_tests::packages::{Cache, usr_or_top};
use std::path::{Path, PathBuf};

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
        Kernel::unpacked(&package)
    }

    /// Of a folder with `boot/vmlinuz-<release>` and `lib/modules/<release>`, as packages have them and the kernel's own
    /// `make tar-pkg` writes them.
    pub fn unpacked(package: &Path) -> Result<Kernel> {
        let all = usr_or_top(package, "lib/modules");
        let entry = std::fs::read_dir(&all)
            .with_context(|| all.display().to_string())?
            .next()
            .with_context(|| format!("{}: no kernel's modules", all.display()))??;
        let release = entry.file_name().to_string_lossy().into_owned();
        let modules = entry.path();
        // From Debian 14 on it lies beside its modules.
        let (beside, boot) = (
            modules.join("vmlinuz"),
            package.join("boot").join(format!("vmlinuz-{release}")),
        );
        let image = if beside.exists() { beside } else { boot };
        ensure!(image.exists(), "{}: no such kernel", image.display());
        Ok(Kernel {
            release,
            image,
            modules,
        })
    }
}
