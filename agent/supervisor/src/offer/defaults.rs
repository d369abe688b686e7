//! Limits that a release leaves to the board, where they make the difference.

use crate::settings::Settings;
use coracle_board_support::budget::{Problem, Resource};
use coracle_protocol::release::{NamedLimits, SignedRelease};

/// How many apps are told by name.
const TOLD: usize = 8;

/// What the release names and what the board says beside it do not go together.
pub(super) fn no_sense(named: &SignedRelease, settings: &Settings) -> Option<String> {
    let fault = settings.default_limits().check(named).err()?;
    Some(format!(
        "with the limits that the release leaves to this board ([quotas] of its profile): {fault}"
    ))
}

/// Whose number it was, where the sum is too much: for each resource, who left it to the board and what that came to.
pub(super) fn hint(
    named: &SignedRelease,
    settings: &Settings,
    found: &[Problem],
) -> Option<String> {
    let quotas = &settings.profile.quotas;
    let line = |(resource, key, number, left_out): (Resource, &str, u32, LeftOut)| {
        let too_much = |problem: &&Problem| matches!(problem, Problem::TooMuch { resource: of, .. } if *of == resource);
        found.iter().find(too_much)?;
        let apps = named.apps.iter().filter(|app| left_out(&app.limits));
        let apps: Vec<String> = apps
            .take(TOLD)
            .map(|app| format!("`{}`", app.name))
            .collect();
        (!apps.is_empty()).then(|| {
            format!(
                "the release leaves `{key}` to this board for {}: {number} in [quotas] of its profile; it may name a number of its own",
                apps.join(", ")
            )
        })
    };
    let lines: Vec<String> = [
        (
            Resource::Memory,
            "memory_mib",
            quotas.memory_mib.get(),
            (|l| l.memory_bytes.is_none()) as LeftOut,
        ),
        (Resource::Cpu, "cpu_millis", quotas.cpu_millis.get(), |l| {
            l.cpu_millis.is_none()
        }),
        (Resource::Pids, "pids", quotas.pids.get(), |l| {
            l.pids.is_none()
        }),
    ]
    .into_iter()
    .filter_map(line)
    .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

type LeftOut = fn(&NamedLimits) -> bool;
