//! Which board this is: what the kernel shows ([`Detected`]), and the profile that fits, with the
//! reason why ([`Chosen`]).

mod facts;

pub use facts::Detected;

use crate::config::{Config, PlainName, ProfileChoice};
use crate::profile::{Architecture, Profile, ProfileError, Setting, SiteFile, settings};
use crate::text::Text;
use crate::toml_file;
use serde::Serialize;
use std::collections::BinaryHeap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Profiles that are read from one folder; the rest is reported as left out.
pub const PROFILE_LIMIT: usize = 256;

/// A profile, why it is this one, and which files could not be considered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chosen {
    /// The profile, with what board.toml changes.
    pub profile: Profile,
    /// Why.
    pub reason: Reason,
    /// board.toml, when it was merged over the profile.
    pub site_file: Option<PathBuf>,
    /// Every value of the profile, with the file that it is from.
    pub settings: Vec<Setting>,
    /// One sentence for each file that was left out. A broken profile of another board must not
    /// keep this one from starting.
    pub left_out: Vec<String>,
}

/// Why a profile was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "because")]
pub enum Reason {
    /// This board has a whole profile of its own.
    Override {
        /// The file.
        file: PathBuf,
    },
    /// coracle.toml names it.
    Named,
    /// A compatible string of the device tree's root.
    DeviceTree {
        /// The string.
        compatible: Text,
    },
    /// Vendor and product.
    Dmi {
        /// `sys_vendor`.
        vendor: Text,
        /// `product_name`.
        product: Text,
    },
    /// Nothing matched: the generic one.
    Generic {
        /// Of this architecture.
        architecture: Architecture,
        /// Compiled in, because the folder has no such file.
        compiled_in: bool,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Override { file } => write!(f, "{} is a profile of its own", file.display()),
            Self::Named => f.write_str("coracle.toml names it (agent.board_profile)"),
            Self::DeviceTree { compatible } => {
                write!(f, "the device tree is compatible with `{compatible}`")
            }
            Self::Dmi { vendor, product } => {
                write!(f, "DMI says vendor `{vendor}`, product `{product}`")
            }
            Self::Generic {
                architecture,
                compiled_in,
            } => write!(
                f,
                "no profile matches the device tree or DMI, so the generic one for {}{}",
                architecture.as_str(),
                if *compiled_in { " (compiled in)" } else { "" }
            ),
        }
    }
}

/// Why no profile could be chosen. Only a choice by a person can fail; detection always ends at
/// the generic profile.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The override or the named profile is broken.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// coracle.toml names a profile that does not exist.
    #[error("agent.board_profile names `{name}`, but {} does not exist; allowed are \"auto\" and: {known}", file.display())]
    NoSuchProfile {
        /// The name.
        name: String,
        /// Where it would be.
        file: PathBuf,
        /// Those that exist.
        known: String,
    },
}

/// Chooses the profile: board.toml of this board when it is a whole one, then the name in
/// coracle.toml, then the device tree, then DMI, then the generic one. A board.toml that is not
/// whole is merged over what was chosen.
pub fn choose(config: &Config, detected: &Detected) -> Result<Chosen, DetectError> {
    let site = SiteFile::load(&config.board_override_file())?;
    if let Some(site) = &site
        && site.is_whole()
    {
        let file = site.path().to_owned();
        let text = toml_file::read_text(&file)?;
        let profile = site.profile()?;
        return Ok(Chosen {
            settings: settings(&profile, &text, None),
            profile,
            reason: Reason::Override { file },
            site_file: None,
            left_out: Vec::new(),
        });
    }
    let folder = config.profiles_dir();
    let mut chosen = match &config.board_profile {
        ProfileChoice::Named(name) => named(&folder, name)?,
        ProfileChoice::Auto => automatic(&folder, detected),
    };
    let written = match chosen.reason {
        Reason::Generic {
            architecture,
            compiled_in: true,
        } => Profile::generic_text(architecture).1.to_owned(),
        _ => toml_file::read_text(&file_of(&folder, chosen.profile.name.as_str()))?,
    };
    if let Some(site) = &site {
        chosen.profile = site.over(&chosen.profile)?;
        chosen.site_file = Some(site.path().to_owned());
    }
    chosen.settings = settings(&chosen.profile, &written, site.as_ref());
    Ok(chosen)
}

fn file_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.toml"))
}

fn found(profile: Profile, reason: Reason, left_out: Vec<String>) -> Chosen {
    Chosen {
        profile,
        reason,
        site_file: None,
        settings: Vec::new(),
        left_out,
    }
}

fn named(folder: &Path, name: &PlainName) -> Result<Chosen, DetectError> {
    let file = file_of(folder, name.as_str());
    if file.exists() {
        return Ok(found(Profile::load(&file)?, Reason::Named, Vec::new()));
    }
    let (profiles, _) = load_folder(folder);
    let known: Vec<&str> = profiles.iter().map(|p| p.name.as_str()).collect();
    Err(DetectError::NoSuchProfile {
        name: name.as_str().to_owned(),
        file,
        known: known.join(", "),
    })
}

fn automatic(folder: &Path, detected: &Detected) -> Chosen {
    let (profiles, left_out) = load_folder(folder);
    let (profile, reason) = recognise(profiles, detected);
    found(profile, reason, left_out)
}

/// The pure part: `profiles` in the order of their names.
fn recognise(mut profiles: Vec<Profile>, detected: &Detected) -> (Profile, Reason) {
    profiles.retain(|p| p.architecture == detected.architecture);
    // The root node lists the most specific string first (devicetree specification 0.4, 2.3.1).
    for compatible in &detected.device_tree_compatible {
        if let Some(at) = profiles
            .iter()
            .position(|p| p.matches.device_tree_compatible.contains(compatible))
        {
            let reason = Reason::DeviceTree {
                compatible: compatible.clone(),
            };
            return (profiles.swap_remove(at), reason);
        }
    }
    let (vendor, product) = (&detected.dmi_vendor, &detected.dmi_product);
    if let Some(at) = profiles
        .iter()
        .position(|p| p.matches.dmi.iter().any(|rule| rule.holds(vendor, product)))
    {
        let reason = Reason::Dmi {
            vendor: vendor.clone(),
            product: product.clone(),
        };
        return (profiles.swap_remove(at), reason);
    }
    let architecture = detected.architecture;
    let compiled = Profile::generic(architecture);
    match profiles.iter().position(|p| p.name == compiled.name) {
        Some(at) => (
            profiles.swap_remove(at),
            Reason::Generic {
                architecture,
                compiled_in: false,
            },
        ),
        None => (
            compiled,
            Reason::Generic {
                architecture,
                compiled_in: true,
            },
        ),
    }
}

/// Every profile of a folder in the order of their names, and a sentence for each that is left out.
/// A folder that is not there has none.
pub fn load_folder(folder: &Path) -> (Vec<Profile>, Vec<String>) {
    let mut left_out = Vec::new();
    let mut files = Vec::new();
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            let paths = entries.filter_map(|entry| entry.ok().map(|e| e.path()));
            files.extend(
                paths
                    .filter(|p| p.extension().is_some_and(|e| e == "toml"))
                    .take(PROFILE_LIMIT + 1),
            );
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => left_out.push(format!("cannot read {}: {error}", folder.display())),
    }
    if files.len() > PROFILE_LIMIT {
        files.truncate(PROFILE_LIMIT);
        left_out.push(format!(
            "{} holds more than {PROFILE_LIMIT} profiles; the others are not read",
            folder.display()
        ));
    }
    let mut profiles = Vec::new();
    for file in BinaryHeap::from(files).into_sorted_vec() {
        match Profile::load(&file) {
            Ok(profile) => profiles.push(profile),
            Err(error) => left_out.push(error.to_string()),
        }
    }
    (profiles, left_out)
}

#[cfg(test)]
mod tests;
