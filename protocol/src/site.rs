//! What an assignment may set for a site, and nothing else: the release names it, app by app. A stolen
//! console can turn these screws, within the bounds that the developers signed, and no others.

use crate::deploy::Deploy;
use crate::document::{text, within};
use crate::limits::LIMITS;
use crate::names::AppName;
use crate::release::{Protocol, SignedApp, SignedRelease};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// In a release: what an assignment may set of an app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settable {
    /// Environment variables, by name.
    #[serde(default, deserialize_with = "crate::strict::set")]
    pub env: BTreeSet<String>,
    /// Published ports that may move on the board.
    #[serde(default)]
    pub ports: Vec<SettablePort>,
    /// Highest memory limit, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes_max: Option<u64>,
    /// Highest share of CPU, in thousandths of one core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis_max: Option<u32>,
    /// Highest number of processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u32>,
}

/// A published port of the release, and where on the board it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettablePort {
    /// In the container.
    pub container: u16,
    /// `tcp` or `udp`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Lowest port on the board.
    pub from: u16,
    /// Highest port on the board.
    pub to: u16,
}

/// In an assignment: what is set of an app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Environment variables.
    #[serde(default, deserialize_with = "crate::strict::map")]
    pub env: BTreeMap<String, String>,
    /// Ports on the board.
    #[serde(default)]
    pub ports: Vec<SetPort>,
    /// Memory limit, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Share of CPU, in thousandths of one core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

/// Where a published port is on this board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPort {
    /// In the container.
    pub container: u16,
    /// `tcp` or `udp`.
    #[serde(default)]
    pub protocol: Protocol,
    /// On the board.
    pub host: u16,
}

impl Settable {
    /// Whether nothing can be set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The first fault, named by its field.
    pub(crate) fn check(&self) -> Result<(), String> {
        let most = LIMITS.entries_per_app as u64;
        within("site_settable.env", self.env.len() as u64, most)?;
        within("site_settable.ports", self.ports.len() as u64, most)?;
        for name in &self.env {
            text("site_settable.env", name)?;
        }
        match self.ports.iter().find(|p| p.from == 0 || p.from > p.to) {
            Some(port) => Err(format!(
                "site_settable.ports: {} to {} is no range of ports",
                port.from, port.to
            )),
            None => Ok(()),
        }
    }
}

/// The release as this board runs it: with what the assignment sets, when the release lets it. The fault
/// names app and field.
pub fn applied(release: &SignedRelease, deploy: &Deploy) -> Result<SignedRelease, String> {
    let mut applied = release.clone();
    for (name, settings) in &deploy.site {
        let app = app_of(&mut applied, name)?;
        let settable = app.site_settable.clone();
        set(app, &settable, settings).map_err(|fault| format!("app `{name}`: {fault}"))?;
    }
    let apps = release.apps.iter();
    let mut wanted = BTreeSet::new();
    wanted.extend(apps.flat_map(|app| app.secrets.iter().map(move |secret| (&app.name, secret))));
    let mut given = BTreeSet::new();
    for sealed in &deploy.secrets {
        let secret = (&sealed.app, &sealed.name);
        if !wanted.contains(&secret) {
            return Err(format!(
                "the release asks for no secret `{}` for app `{}`",
                sealed.name, sealed.app
            ));
        }
        if !given.insert(secret) {
            return Err(format!("secret `{}` stands twice", sealed.name));
        }
    }
    if let Some((app, name)) = wanted.difference(&given).next() {
        return Err(format!(
            "app `{app}` needs secret `{name}`, which the assignment does not bring"
        ));
    }
    applied.check()?;
    Ok(applied)
}

fn app_of<'a>(release: &'a mut SignedRelease, name: &AppName) -> Result<&'a mut SignedApp, String> {
    release
        .apps
        .iter_mut()
        .find(|app| app.name == *name)
        .ok_or_else(|| format!("the release has no app `{name}` to set anything of"))
}

fn set(app: &mut SignedApp, settable: &Settable, settings: &Settings) -> Result<(), String> {
    for (key, value) in &settings.env {
        if !settable.env.contains(key) {
            return Err(format!(
                "the release does not let a site set variable `{key}`"
            ));
        }
        app.env.insert(key.clone(), value.clone());
    }
    for wanted in &settings.ports {
        let here = (wanted.container, wanted.protocol);
        let range = settable
            .ports
            .iter()
            .find(|port| (port.container, port.protocol) == here)
            .ok_or_else(|| {
                format!(
                    "the release does not let a site move port {}",
                    wanted.container
                )
            })?;
        if !(range.from..=range.to).contains(&wanted.host) {
            return Err(format!(
                "port {} is outside {} to {}, which the release allows",
                wanted.host, range.from, range.to
            ));
        }
        let mut published = app.network.ports.iter_mut();
        published
            .find(|port| (port.container, port.protocol) == here)
            .ok_or_else(|| format!("the release publishes no port {}", wanted.container))?
            .host = wanted.host;
    }
    let ceiling = |field: &str, value: u64, most: Option<u64>| match most {
        None => Err(format!("the release does not let a site set {field}")),
        Some(most) if value > most => Err(format!(
            "{field} is {value}; the release allows up to {most}"
        )),
        Some(_) => Ok(()),
    };
    if let Some(bytes) = settings.memory_bytes {
        ceiling("memory_bytes", bytes, settable.memory_bytes_max)?;
        app.limits.memory_bytes = Some(bytes);
    }
    if let Some(millis) = settings.cpu_millis {
        ceiling(
            "cpu_millis",
            millis.into(),
            settable.cpu_millis_max.map(Into::into),
        )?;
        app.limits.cpu_millis = Some(millis);
    }
    if let Some(pids) = settings.pids {
        ceiling("pids", pids.into(), settable.pids_max.map(Into::into))?;
        app.limits.pids = Some(pids);
    }
    Ok(())
}
