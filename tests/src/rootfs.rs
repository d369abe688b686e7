//! Root file systems of example images, from Debian's packages.

use crate::service::run;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a Python HTTP service needs beside Python: libc and the libraries of its standard modules.
const LIBRARIES: [&str; 8] = [
    "libc6",
    "libgcc-s1",
    "zlib1g",
    "libexpat1",
    "libssl3",
    "libffi8",
    "libbz2-1.0",
    "liblzma5",
];
/// Python itself, in four packages that share a version.
const PYTHON: [&str; 4] = [
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "python3.11",
];

/// The versions of Python that Debian offers now, newest first: the release's and the security update's.
pub fn python_versions() -> Result<Vec<String>> {
    let table = run(Command::new("apt-cache").args(["madison", PYTHON[0]]))?;
    let mut versions: Vec<String> = Vec::new();
    for version in table
        .lines()
        .filter_map(|line| Some(line.split('|').nth(1)?.trim().to_owned()))
    {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    if versions.is_empty() {
        bail!("apt knows no {}: run apt-get update", PYTHON[0]);
    }
    Ok(versions)
}

/// The libraries, unpacked below `cache` once.
pub fn libraries(cache: &Path) -> Result<PathBuf> {
    let packages: Vec<String> = LIBRARIES.iter().map(|&p| p.to_owned()).collect();
    unpack(cache, "libraries", &packages, |root| {
        for dir in ["tmp", "proc", "sys", "dev", "run", "root", "srv"] {
            std::fs::create_dir_all(root.join(dir))?;
        }
        std::fs::create_dir_all(root.join("etc"))?;
        std::fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/srv:/bin/false\n",
        )?;
        std::fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\n")?;
        Ok(())
    })
}

/// One version of Python, unpacked below `cache` once.
pub fn python(cache: &Path, version: &str) -> Result<PathBuf> {
    let packages: Vec<String> = PYTHON.iter().map(|p| format!("{p}={version}")).collect();
    unpack(cache, &format!("python-{version}"), &packages, |_| Ok(()))
}

fn unpack(
    cache: &Path,
    name: &str,
    packages: &[String],
    finish: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let root = cache.join(name);
    if root.exists() {
        return Ok(root);
    }
    let (debs, making) = (
        cache.join(format!("{name}.debs")),
        cache.join(format!("{name}.part")),
    );
    for dir in [&debs, &making] {
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    run(Command::new("apt-get")
        .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
        .args(packages)
        .current_dir(&debs))?;
    for entry in std::fs::read_dir(&debs)? {
        run(Command::new("dpkg")
            .arg("-x")
            .arg(entry?.path())
            .arg(&making))?;
    }
    // A board needs no manual pages.
    for dir in [
        "usr/share/doc",
        "usr/share/man",
        "usr/share/lintian",
        "usr/share/bug",
    ] {
        let _ = std::fs::remove_dir_all(making.join(dir));
    }
    finish(&making)?;
    std::fs::remove_dir_all(&debs)?;
    std::fs::rename(&making, &root)?;
    Ok(root)
}
