//! Debian packages, unpacked into a cache; nothing is installed.

use anyhow::{Context, Result, bail};
use coracle_tests::service::run;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that outlives a run: boards are made again each time, packages are not fetched again.
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub fn in_folder(folder: &Path) -> Result<Cache> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        Ok(Cache {
            folder: folder.to_owned(),
        })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files of a package, or of the one it stands for when it is empty but for a dependency (`linux-image-…`).
    pub fn unpacked(&self, package: &str) -> Result<PathBuf> {
        let package = stands_for(package)?;
        let version = candidate(&package)?;
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
        run(Command::new("apt-get")
            .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
            .arg(format!("{package}={version}"))
            .current_dir(&deb))?;
        for file in std::fs::read_dir(&deb)? {
            run(Command::new("dpkg").arg("-x").arg(file?.path()).arg(&files))?;
        }
        std::fs::rename(&files, &folder)?;
        std::fs::remove_dir_all(&part)?;
        Ok(folder)
    }
}

/// `linux-image-cloud-amd64` holds nothing and depends on the newest `linux-image-<release>-cloud-amd64`.
fn stands_for(package: &str) -> Result<String> {
    let Some(kernel) = package.strip_prefix("linux-image-") else {
        return Ok(package.to_owned());
    };
    let text = run(Command::new("apt-cache").args(["show", "--no-all-versions", package]))
        .context("apt knows no such kernel: run apt-get update")?;
    // Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)
    let variant = kernel.split(':').next().unwrap_or(kernel);
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "))
        .and_then(|line| {
            line.split([' ', ','])
                .find(|name| name.starts_with("linux-image-") && name.ends_with(variant))
        })
        .with_context(|| format!("{package} depends on no kernel"))?;
    let architecture = package
        .split_once(':')
        .map(|(_, a)| format!(":{a}"))
        .unwrap_or_default();
    Ok(format!("{name}{architecture}"))
}

fn candidate(package: &str) -> Result<String> {
    let text = run(Command::new("apt-cache").args(["policy", package]))?;
    let version = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "));
    match version {
        None | Some("(none)") => bail!("apt knows no {package}: run apt-get update"),
        Some(version) => Ok(version.to_owned()),
    }
}

/// The release of the one kernel in an unpacked package.
pub fn kernel_release(kernel: &Path) -> Result<String> {
    let folder = usr_or_top(kernel, "lib/modules");
    let entry = std::fs::read_dir(&folder)
        .with_context(|| folder.display().to_string())?
        .next()
        .context("the package has no modules")??;
    Ok(entry.file_name().to_string_lossy().into_owned())
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
