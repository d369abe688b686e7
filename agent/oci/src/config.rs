//! config.json: read, kept, and checked for what can't be had at all.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Process, Spec};

use crate::failure::{Failure, OnPath};
use crate::store::Entry;

/// More than any engine writes; a description of a container is no file system.
const LIMIT: u64 = 16 << 20;

pub struct Config {
    pub bundle: PathBuf,
    pub text: Vec<u8>,
    pub spec: Spec,
}

impl Config {
    /// From a bundle; the current folder when none is named.
    pub fn load(bundle: Option<&Path>) -> Result<Config, Failure> {
        let bundle = bundle.unwrap_or(Path::new("."));
        let bundle = std::fs::canonicalize(bundle).on(bundle)?;
        let path = bundle.join("config.json");
        let size = std::fs::metadata(&path).on(&path)?.len();
        if size > LIMIT {
            return Err(Failure::Config(format!("config.json has {size} bytes")));
        }
        let text = std::fs::read(&path).on(&path)?;
        let config = Config::parse(bundle, text, &path)?;
        config.check()?;
        Ok(config)
    }

    /// As it was when the container was made.
    pub fn kept(entry: &Entry, bundle: &Path) -> Result<Config, Failure> {
        let text = entry
            .read_config()?
            .ok_or_else(|| Failure::Missing(entry.id().to_string()))?;
        Config::parse(bundle.into(), text, Path::new("config.json"))
    }

    fn parse(bundle: PathBuf, text: Vec<u8>, path: &Path) -> Result<Config, Failure> {
        let spec = serde_json::from_slice(&text).map_err(|source| Failure::Json {
            path: path.into(),
            source,
        })?;
        Ok(Config { bundle, text, spec })
    }

    /// A container may be created without one, and cannot be started then.
    pub fn process(&self) -> Option<&Process> {
        self.spec.process().as_ref()
    }

    pub fn wants_terminal(&self) -> bool {
        self.process()
            .and_then(|process| process.terminal())
            .unwrap_or(false)
    }

    pub fn linux(&self) -> Result<&Linux, Failure> {
        let missing = || Failure::Config("there is no linux section".into());
        self.spec.linux().as_ref().ok_or_else(missing)
    }

    /// Absolute, and a folder.
    pub fn rootfs(&self) -> Result<PathBuf, Failure> {
        let Some(root) = self.spec.root() else {
            return Err(Failure::Config("there is no root".into()));
        };
        let path = self.bundle.join(root.path());
        let real = std::fs::canonicalize(&path).on(&path)?;
        if !real.is_dir() {
            let reason = format!("root {} is not a folder", path.display());
            return Err(Failure::Config(reason));
        }
        if real == Path::new("/") {
            return Err(Failure::Config("the root is the host's own".into()));
        }
        Ok(real)
    }

    fn check(&self) -> Result<(), Failure> {
        check_version(self.spec.version())?;
        let unsupported = |what: &str| Err(Failure::Unsupported(what.into()));
        if self.spec.vm().is_some() {
            return unsupported("vm: containers are not virtual machines");
        }
        if self.spec.windows().is_some()
            || self.spec.solaris().is_some()
            || self.spec.zos().is_some()
        {
            return unsupported("a container of another operating system");
        }
        let linux = self.linux()?;
        if linux.intel_rdt().is_some() {
            return unsupported("linux.intelRdt: no board has it");
        }
        self.process()
            .map_or(Ok(()), |process| self.check_process(process))
    }

    /// Also for a process that is executed later.
    pub fn check_process(&self, process: &Process) -> Result<(), Failure> {
        if process.args().as_ref().is_none_or(Vec::is_empty) {
            return Err(Failure::Config("process.args is empty".into()));
        }
        if !process.cwd().is_absolute() {
            let cwd = process.cwd().display();
            return Err(Failure::Config(format!(
                "process.cwd {cwd:?} is not absolute"
            )));
        }
        Ok(())
    }
}

/// 1.x, with or without something after it (`1.0.2-dev`).
fn check_version(version: &str) -> Result<(), Failure> {
    let wrong = || Failure::Config(format!("ociVersion {version:?} is not 1.x"));
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = core.split('.').collect();
    let all_numbers = parts.iter().all(|part| part.parse::<u32>().is_ok());
    if parts.len() != 3 || !all_numbers || parts[0] != "1" {
        return Err(wrong());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_one_are_taken() {
        for version in ["1.0.0", "1.0.2-dev", "1.3.0", "1.2.0+x", "1.99.0"] {
            assert!(check_version(version).is_ok(), "{version}");
        }
        for version in ["", "1", "1.0", "2.0.0", "0.9.0", "1.0.x", "v1.0.0"] {
            assert!(check_version(version).is_err(), "{version}");
        }
    }
}
