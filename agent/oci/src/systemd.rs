//! The container's cgroup as a transient scope of systemd's: made, changed and ended by asking systemd for it, which then
//! keeps its hands off what is inside, and sets its own idea of the limits anew at each `systemctl daemon-reload`.
//!
//! | file | what it holds |
//! |---|---|
//! | [`name`] | `slice:prefix:name` |
//! | [`message`], [`bus`] | D-Bus on the wire, and a connection with a deadline |
//! | [`manager`] | systemd's own calls |
//! | [`properties`], [`devices`] | limits in systemd's words |
//! | [`holder`] | the process that keeps a new scope alive until the container's own is in it |
//!
//! None of this is reached without `--systemd-cgroup`, or a container that was made with it.

use std::path::{Component, Path, PathBuf};

use coracle_runtime::Cgroup;
use coracle_runtime::cgroup::Controller;
use oci_spec::runtime::LinuxResources;

use crate::failure::Failure;
use crate::plan::resources::Write;

mod bus;
mod devices;
mod holder;
mod message;
mod name;
mod properties;
mod units;

pub use holder::Holder;
pub use name::ScopeName;

use message::Value;
use units::Manager;

/// A scope that runs, with nothing in it but what holds it.
pub struct Scope {
    pub holder: Holder,
    /// Below the top of the cgroups.
    pub cgroup: PathBuf,
}

/// Has systemd make the scope with these limits. `cgroup` is where it will be: nothing is there yet.
pub fn start(
    name: &ScopeName,
    id: &str,
    cgroup: &Cgroup,
    writes: &[Write],
    resources: Option<&LinuxResources>,
) -> Result<Scope, Failure> {
    refuse_users()?;
    let unified = cgroup.is_unified();
    let mut manager = Manager::connect()?;
    let version = manager.version()?;
    let holder = Holder::start()?;
    let text = |text: &str| Value::Text(text.into());
    let mut wanted = vec![
        (
            "Description",
            text(&format!("coracle-runtime container {id}")),
        ),
        ("Slice", text(&name.slice)),
        ("Delegate", Value::Bool(true)),
        ("DefaultDependencies", Value::Bool(false)),
        ("CPUAccounting", Value::Bool(true)),
        ("MemoryAccounting", Value::Bool(true)),
        ("TasksAccounting", Value::Bool(true)),
        (
            if unified {
                "IOAccounting"
            } else {
                "BlockIOAccounting"
            },
            Value::Bool(true),
        ),
        ("PIDs", Value::Numbers(vec![holder.pid()])),
    ];
    wanted.extend(properties::of(writes, unified, version, &|_, _| None));
    wanted.extend(devices::of(resources, unified)?);
    manager.start_scope(&name.unit, &wanted)?;
    let found = manager
        .control_group(&name.unit)
        .and_then(|path| checked(&name.unit, &path));
    match found {
        Ok(cgroup) => Ok(Scope { holder, cgroup }),
        Err(failure) => {
            drop(holder);
            // The first failure is the one to tell.
            let _ = manager.stop(&name.unit);
            Err(failure)
        }
    }
}

/// Tells systemd of limits that are about to be written, so that it does not write others.
pub fn change(
    unit: &str,
    cgroup: &Cgroup,
    writes: &[Write],
    resources: &LinuxResources,
) -> Result<(), Failure> {
    let unified = cgroup.is_unified();
    let mut manager = Manager::connect()?;
    let version = manager.version()?;
    let now = |controller: Controller, file: &str| cgroup.read_raw(controller, file).ok().flatten();
    let mut wanted = properties::of(writes, unified, version, &now);
    let names_devices = resources
        .devices()
        .as_ref()
        .is_some_and(|list| !list.is_empty());
    if names_devices {
        wanted.extend(devices::of(Some(resources), unified)?);
    }
    if wanted.is_empty() {
        return Ok(());
    }
    // On v1 systemd forbids all devices before it allows some.
    let stopped = !unified && names_devices && !cgroup.is_frozen()?;
    if stopped {
        cgroup.freeze()?;
    }
    let told = manager.set(unit, &wanted);
    if stopped {
        cgroup.thaw()?;
    }
    told
}

/// Ends the scope, and takes its name back from systemd. One that is gone by itself is fine.
pub fn stop(unit: &str) -> Result<(), Failure> {
    Manager::connect()?.stop(unit)
}

/// Scopes of a user's own systemd go with containers without root, which there are none of.
fn refuse_users() -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::Unsupported(
        "--systemd-cgroup with the systemd of a user's session: containers are root's here".into(),
    ))
}

/// What systemd says is taken for a path below the top, and for nothing else.
fn checked(unit: &str, path: &str) -> Result<PathBuf, Failure> {
    let below = path.strip_prefix('/').map(Path::new);
    match below {
        Some(below)
            if below.components().next().is_some()
                && below
                    .components()
                    .all(|part| matches!(part, Component::Normal(_))) =>
        {
            Ok(below.into())
        }
        _ => Err(Failure::Systemd(format!("{unit} has the cgroup {path:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_below_the_top() {
        let good = checked("a.scope", "/machine.slice/a.scope").unwrap();
        assert_eq!(good, Path::new("machine.slice/a.scope"));
        for wrong in ["", "/", "machine.slice", "/../a.scope", "/a/../../b"] {
            assert!(checked("a.scope", wrong).is_err(), "{wrong:?}");
        }
    }
}
