//! Asking apt: as this machine is set up, or for one of Debian's suites, with lists of its own.

use crate::service::run;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt, as it is set up for one suite.
pub struct Apt {
    /// `-o NAME=VALUE` of each.
    options: Vec<String>,
}

impl Apt {
    /// As `apt-get` is.
    pub fn of_this_machine() -> Apt {
        Apt {
            options: Vec::new(),
        }
    }

    /// Its lists lie below `folder` and are fetched once: a released suite changes little. `architecture` is Debian's name.
    pub fn of_suite(suite: &str, architecture: &str, folder: &Path) -> Result<Apt> {
        let (lists, cache) = (folder.join("lists"), folder.join("cache"));
        for made in [&lists, &cache] {
            std::fs::create_dir_all(made).with_context(|| made.display().to_string())?;
        }
        let sources = folder.join("sources.list");
        let mirror = Apt::of_this_machine().mirror()?;
        let line = format!("deb [arch={architecture} signed-by={KEYRING}] {mirror} {suite} main\n");
        std::fs::write(&sources, line)?;
        let apt = Apt {
            options: vec![
                format!("Dir::Etc::SourceList={}", sources.display()),
                "Dir::Etc::SourceParts=/dev/null".into(),
                format!("Dir::State::Lists={}", lists.display()),
                format!("Dir::Cache={}", cache.display()),
                "Acquire::Languages=none".into(),
                format!("APT::Architecture={architecture}"),
                format!("APT::Architectures={architecture}"),
            ],
        };
        if !folder.join("fetched").exists() {
            println!("fetching the list of Debian's suite {suite}");
            run(apt.command("apt-get").args(["-qq", "update"]))?;
            std::fs::write(folder.join("fetched"), "")?;
        }
        Ok(apt)
    }

    /// Where this machine has Debian from.
    fn mirror(&self) -> Result<String> {
        let mut targets = self.command("apt-get");
        targets.args(["indextargets", "--format", "$(REPO_URI)"]);
        let text = run(targets.arg("Created-By: Packages"))?;
        text.lines()
            .find(|uri| uri.trim_end_matches('/').ends_with("/debian"))
            .map(str::to_owned)
            .context("apt has no mirror of Debian: see sources.list(5)")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-o", "APT::Sandbox::User=root"]);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    /// The packages behind one that is empty but for dependencies on the newest kernel: `linux-image-cloud-amd64` depends
    /// on `linux-image-<release>-cloud-amd64`, and that one, from Debian 14 on, on others which hold all its files.
    /// Any other package stands for itself.
    pub fn stands_for(&self, package: &str) -> Result<Vec<String>> {
        let Some(kernel) = package.strip_prefix("linux-image-") else {
            return Ok(vec![package.to_owned()]);
        };
        let (variant, architecture) = kernel.split_once(':').unwrap_or((kernel, ""));
        let full = |name: &String| match architecture {
            "" => name.clone(),
            architecture => format!("{name}:{architecture}"),
        };
        let newest = self
            .depends(package)?
            .into_iter()
            .find(|name| name.starts_with("linux-image-") && name.ends_with(variant))
            .with_context(|| format!("{package} depends on no kernel"))?;
        let release = newest.trim_start_matches("linux-image-");
        let parts = ["base", "binary", "modules"].map(|part| format!("linux-{part}-{release}"));
        let mut packages = vec![full(&newest)];
        let depends = self.depends(&packages[0])?;
        packages.extend(depends.iter().filter(|name| parts.contains(name)).map(full));
        Ok(packages)
    }

    /// From `Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2), other | another`.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let mut show = self.command("apt-cache");
        let text = run(show.args(["show", "--no-all-versions", package]))
            .with_context(|| format!("apt knows no {package}: run apt-get update"))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Depends: "))
            .unwrap_or_default();
        Ok(line.split([' ', ',']).map(str::to_owned).collect())
    }

    /// The version that would be installed.
    pub fn version(&self, package: &str) -> Result<String> {
        let text = run(self.command("apt-cache").args(["policy", package]))?;
        let version = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Candidate: "));
        match version {
            None | Some("(none)") => bail!("apt knows no {package}: run apt-get update"),
            Some(version) => Ok(version.to_owned()),
        }
    }

    /// The package's file, in a folder.
    pub fn download(&self, package: &str, version: &str, into: &Path) -> Result<()> {
        let mut download = self.command("apt-get");
        let which = format!("{package}={version}");
        run(download.args(["-qq", "download", &which]).current_dir(into))?;
        Ok(())
    }
}
