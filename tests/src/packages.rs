//! Debian packages, unpacked into a cache; nothing is installed.

use crate::apt::Apt;
use crate::service::run;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that outlives a run: boards are made again each time, packages are not fetched again.
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Makes the folder.
    pub fn in_folder(folder: &Path) -> Result<Cache> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        Ok(Cache {
            folder: folder.to_owned(),
        })
    }

    /// Where packages lie, and what is made of them.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// apt for one of Debian's suites, its lists in here.
    pub fn apt(&self, suite: &str, architecture: &str) -> Result<Apt> {
        let folder = self.folder.join(format!("apt-{suite}-{architecture}"));
        Apt::of_suite(suite, architecture, &folder)
    }

    /// The files of a package as this machine's apt has it, or of a suite of Debian's.
    pub fn unpacked(&self, package: &str, suite: Option<&str>) -> Result<PathBuf> {
        let apt = match suite {
            None => Apt::of_this_machine(),
            Some(suite) => {
                let architecture = package.split_once(':').map_or("amd64", |(_, name)| name);
                self.apt(suite, architecture)?
            }
        };
        let packages = apt.stands_for(package)?;
        let package = &packages[0];
        let version = apt.version(package)?;
        let folder = self
            .folder
            .join(format!("{package}_{version}").replace(':', "_"));
        if folder.exists() {
            return Ok(folder);
        }
        println!("fetching {package} {version}");
        let part = self.folder.join(format!("{}.part", std::process::id()));
        let (deb, files) = (part.join("deb"), part.join("files"));
        std::fs::create_dir_all(&deb)?;
        for package in &packages {
            apt.download(package, &apt.version(package)?, &deb)?;
        }
        for file in std::fs::read_dir(&deb)? {
            run(Command::new("dpkg").arg("-x").arg(file?.path()).arg(&files))?;
        }
        std::fs::rename(&files, &folder)?;
        std::fs::remove_dir_all(&part)?;
        Ok(folder)
    }
}

/// Where a package has `path`: from Debian 13 on below usr, before that at the top.
pub fn usr_or_top(package: &Path, path: &str) -> PathBuf {
    let below_usr = package.join("usr").join(path);
    if below_usr.exists() {
        below_usr
    } else {
        package.join(path)
    }
}
