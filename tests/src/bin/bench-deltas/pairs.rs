//! Two versions of real packages, from the registries that this machine is set up for.

use anyhow::{Context, Result};
use coracle_tests::service::run;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a package comes from.
#[derive(Clone, Copy)]
pub enum From {
    /// `npm pack`.
    Npm(&'static str),
    /// `pip download` of a wheel: name, platform.
    Pypi(&'static str, &'static str),
    /// `apt-get download` of packages: the versions that apt knows, oldest and newest.
    Debian(&'static [&'static str]),
}

/// A pair of versions.
pub struct Pair {
    pub name: &'static str,
    pub from: From,
    /// Empty for Debian, whose archive keeps two versions at a time.
    pub versions: [&'static str; 2],
    /// Whether it was measured while the models were made.
    pub tuned: bool,
}

const fn pair(name: &'static str, from: From, versions: [&'static str; 2], tuned: bool) -> Pair {
    Pair {
        name,
        from,
        versions,
        tuned,
    }
}

#[rustfmt::skip]
pub const PAIRS: [Pair; 15] = [
    pair("esbuild", From::Npm("@esbuild/linux-x64"), ["0.21.4", "0.21.5"], true),
    pair("libnode108", From::Debian(&["libnode108"]), ["", ""], true),
    pair("biome arm64", From::Npm("@biomejs/cli-linux-arm64"), ["1.9.3", "1.9.4"], true),
    pair("python3.11 + openssl", From::Debian(&[
        "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11", "openssl", "libssl3",
    ]), ["", ""], true),
    pair("numpy", From::Pypi("numpy", "manylinux2014_x86_64"), ["1.26.3", "1.26.4"], true),
    pair("typescript", From::Npm("typescript"), ["5.4.4", "5.4.5"], true),
    pair("biome x64", From::Npm("@biomejs/cli-linux-x64"), ["1.9.3", "1.9.4"], true),
    pair("esbuild arm64", From::Npm("@esbuild/linux-arm64"), ["0.21.4", "0.21.5"], false),
    pair("swc", From::Npm("@swc/core-linux-x64-gnu"), ["1.7.26", "1.7.28"], false),
    pair("pillow arm64", From::Pypi("pillow", "manylinux_2_28_aarch64"), ["10.2.0", "10.3.0"], false),
    pair("git", From::Debian(&["git"]), ["", ""], true),
    pair("imagemagick", From::Debian(&["libmagickcore-6.q16-6"]), ["", ""], true),
    pair("libc6", From::Debian(&["libc6"]), ["", ""], false),
    pair("systemd", From::Debian(&["systemd"]), ["", ""], false),
    pair("postgresql-15", From::Debian(&["postgresql-15"]), ["", ""], false),
];

impl Pair {
    /// Both trees below `cache`, fetched once, and what their versions are called.
    pub fn trees(&self, cache: &Path) -> Result<[(String, PathBuf); 2]> {
        let versions = match self.from {
            From::Debian(packages) => debian_versions(packages)?,
            _ => self.versions.map(|version| vec![version.to_owned()]),
        };
        let [old, new] = versions;
        Ok([self.tree(cache, &old)?, self.tree(cache, &new)?])
    }

    fn tree(&self, cache: &Path, versions: &[String]) -> Result<(String, PathBuf)> {
        let shown = versions.first().context("no version")?.clone();
        let folder = format!("{}-{shown}", self.name).replace(['/', ' ', ':'], "_");
        let tree = cache.join(&folder);
        if tree.exists() {
            return Ok((shown, tree));
        }
        let making = cache.join(format!("{folder}.part"));
        let _ = std::fs::remove_dir_all(&making);
        let (fetched, unpacked) = (making.join("fetched"), making.join("tree"));
        for folder in [&fetched, &unpacked] {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        match self.from {
            From::Npm(name) => run(Command::new("npm")
                .args(["pack", "--silent", &format!("{name}@{shown}")])
                .current_dir(&fetched))?,
            From::Pypi(name, platform) => run(Command::new("pip")
                .args(["download", "-q", "--no-deps", "--only-binary=:all:"])
                .args(["--python-version", "3.11", "--platform", platform])
                .arg(format!("{name}=={shown}"))
                .current_dir(&fetched))?,
            From::Debian(packages) => run(Command::new("apt-get")
                .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
                .args(
                    packages
                        .iter()
                        .zip(versions)
                        .map(|(p, v)| format!("{p}={v}")),
                )
                .current_dir(&fetched))?,
        };
        for file in std::fs::read_dir(&fetched)? {
            let file = file?.path();
            let mut unpack = match self.from {
                From::Npm(_) => Command::new("tar"),
                From::Pypi(..) => Command::new("python3"),
                From::Debian(_) => Command::new("dpkg"),
            };
            match self.from {
                From::Npm(_) => unpack.arg("-xzf").arg(&file).arg("-C").arg(&unpacked),
                From::Pypi(..) => unpack
                    .args(["-m", "zipfile", "-e"])
                    .arg(&file)
                    .arg(&unpacked),
                From::Debian(_) => unpack.arg("-x").arg(&file).arg(&unpacked),
            };
            run(&mut unpack)?;
        }
        std::fs::rename(&unpacked, &tree)?;
        std::fs::remove_dir_all(&making)?;
        Ok((shown, tree))
    }
}

/// Of each package the oldest and the newest version that apt offers.
fn debian_versions(packages: &[&str]) -> Result<[Vec<String>; 2]> {
    let mut both = [Vec::new(), Vec::new()];
    for package in packages {
        let table = run(Command::new("apt-cache").args(["madison", package]))?;
        let versions: Vec<&str> = table
            .lines()
            .filter_map(|line| Some(line.split('|').nth(1)?.trim()))
            .collect();
        let missing = || format!("apt knows no {package}: run apt-get update");
        both[0].push((*versions.last().with_context(missing)?).to_owned());
        both[1].push((*versions.first().with_context(missing)?).to_owned());
    }
    Ok(both)
}
