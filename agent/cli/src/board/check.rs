//! `board check`: each probe, and for what is missing its cost and its remedy. As root each part is
//! used once and taken away again; without root, what the kernel shows has to do.

use super::{detected, state_folder};
use crate::failure::Failure;
use crate::human::printable;
use crate::output;
use coracle_board_support::Text;
use coracle_board_support::config::Config;
use coracle_board_support::detect::choose;
use coracle_board_support::probe::{
    CgroupLayout, Gap, KernelFacts, KernelOptions, Outcome, Presence, Severity, Trials, gaps,
};
use coracle_board_support::profile::StorageRole;
use coracle_board_support::storage;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Longest kernel configuration, unpacked, in bytes; Debian's has 280 KiB.
const OPTIONS: u64 = 4 << 20;

/// `coracle board check`
pub fn check(config: &Config, json: bool) -> Result<(), Failure> {
    let chosen = choose(config, &detected(config))?;
    let required = &chosen.profile.kernel.required_options;
    let mut facts = KernelFacts::read(Path::new("/"), required);
    if let Some(options) = packed_options(Path::new("/proc/config.gz"), required) {
        facts.options = options;
    }
    let state = state_folder(config);
    let disks = storage::disks(Path::new("/"), &chosen.profile, StorageRole::State);
    let disk = disks.first().cloned().or_else(|| storage::under(state));
    let trials = Trials::run(state, disk.as_ref());
    let gaps = gaps(&facts, &trials, &chosen.profile);
    let needed = gaps
        .iter()
        .filter(|g| g.severity == Severity::Needed && g.certain)
        .count();
    if json {
        output::json(&serde_json::json!({
            "ok": needed == 0,
            "profile": chosen.profile.name,
            "gaps": gaps,
            "trials": trials,
            "kernel": facts,
        }))?;
    } else {
        let profile = chosen.profile.name.as_str();
        output::text(&report(&facts, &trials, profile, &gaps))?;
    }
    match needed {
        0 => Ok(()),
        needed => Err(Failure::Needed(needed)),
    }
}

/// The running kernel's own configuration, where it was built to show it (CONFIG_IKCONFIG_PROC).
fn packed_options(path: &Path, required: &[Text]) -> Option<KernelOptions> {
    let mut text = String::new();
    let file = flate2::read::GzDecoder::new(File::open(path).ok()?);
    file.take(OPTIONS).read_to_string(&mut text).ok()?;
    Some(KernelOptions::from_text(&text, required))
}

pub(super) fn report(facts: &KernelFacts, trials: &Trials, profile: &str, gaps: &[Gap]) -> String {
    let mut text = format!(
        "Linux {}, {}, profile {profile}\n\n",
        printable(&facts.release),
        layout(facts.cgroup.layout)
    );
    for subject in seen(facts, trials) {
        if gaps.iter().all(|gap| gap.subject != subject) {
            let _ = writeln!(text, "ok        {}", printable(&subject));
        }
    }
    for gap in gaps {
        let word = match (gap.certain, gap.severity) {
            (false, _) => "unknown",
            (true, Severity::Needed) => "MISSING",
            (true, Severity::Wanted) => "missing",
            (true, Severity::Note) => "note",
        };
        let weight = match gap.severity {
            Severity::Needed => " (needed)",
            Severity::Wanted => " (wanted)",
            Severity::Note => "",
        };
        let _ = writeln!(text, "{word:<10}{}{weight}", printable(&gap.subject));
        for (title, content) in [
            ("seen:", gap.seen.as_deref()),
            ("cost:", Some(gap.cost.as_str())),
            ("remedy:", Some(gap.remedy.as_str())),
        ] {
            if let Some(content) = content {
                let _ = writeln!(text, "          {title:<8}{}", printable(content));
            }
        }
    }
    let count = |severity| {
        gaps.iter()
            .filter(|g| g.severity == severity && g.certain)
            .count()
    };
    for trial in trials.iter() {
        if let Outcome::NotTried(why) = &trial.outcome {
            let subject = printable(&trial.subject);
            let _ = writeln!(text, "not tried {subject}: {}", printable(why));
        }
    }
    let _ = writeln!(
        text,
        "\n{} needed and {} wanted are missing",
        count(Severity::Needed),
        count(Severity::Wanted)
    );
    text
}

fn layout(layout: CgroupLayout) -> &'static str {
    match layout {
        CgroupLayout::None => "no cgroups",
        CgroupLayout::V1 => "cgroup v1",
        CgroupLayout::V2 => "cgroup v2",
        CgroupLayout::Hybrid => "cgroup v1 beside an empty v2 (hybrid)",
    }
}

/// What was looked for and found.
fn seen(facts: &KernelFacts, trials: &Trials) -> Vec<String> {
    let namespaces = facts
        .namespaces
        .iter()
        .filter(|n| !n.ends_with("_for_children"));
    let mut seen: Vec<String> = namespaces.map(|n| format!("{n} namespace")).collect();
    let usable = facts.cgroup.controllers.iter().filter(|c| c.usable);
    seen.extend(usable.map(|c| format!("cgroup {}", c.name)));
    let parts = [
        (facts.overlayfs, "overlayfs"),
        (facts.seccomp, "seccomp filters"),
        (facts.nf_tables, "nf_tables"),
        (facts.bridge, "bridge"),
        (facts.veth, "veth"),
        (facts.clone3, "clone3"),
        (facts.clone_into_cgroup, "clone3 into a cgroup"),
        (facts.openat2, "openat2"),
        (facts.pidfd, "pidfd_open"),
        (facts.rtc, "real-time clock"),
    ];
    let present = parts.into_iter().filter(|(p, _)| *p == Presence::Present);
    seen.extend(present.map(|(_, subject)| subject.to_owned()));
    if facts.hardware_noise == Presence::Present {
        seen.push("hardware noise".to_owned());
    }
    seen.extend(facts.watchdogs.iter().map(|watchdog| {
        let running = if watchdog.active { ", running" } else { "" };
        format!(
            "watchdog {} ({}{running})",
            watchdog.name, watchdog.identity
        )
    }));
    for trial in trials.iter().filter(|t| t.outcome == Outcome::Works) {
        if !seen.iter().any(|subject| subject == trial.subject.as_str()) {
            seen.push(trial.subject.to_string());
        }
    }
    seen
}
