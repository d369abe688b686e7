//! Apps of a release that are handed over, held against the versions of them that run: both run for a while.

use super::{Refused, promise_of, storage};
use crate::settings::Settings;
use coracle_board_support::budget::AppPromise;
use coracle_protocol::release::{App, Release};

/// The versions that would serve on.
pub(super) fn serving_on<'a>(
    release: &Release,
    running: Option<&'a Release>,
) -> impl Iterator<Item = &'a App> {
    let handed_over = move |old: &&App| {
        let mut apps = release.apps.iter().filter(|app| app.is_handed_over());
        apps.any(|app| app.name == old.name)
    };
    let running = running.into_iter().flat_map(|running| &running.apps);
    running.filter(handed_over)
}

/// What they may use beside the new set.
pub(super) fn promises(
    release: &Release,
    running: Option<&Release>,
    settings: &Settings,
) -> Vec<AppPromise> {
    let promise = |old: &App| {
        let mut promise = promise_of(old, storage::layer_cost(old, settings));
        promise.name = format!(
            "{} (the version that runs, until the new one is ready)",
            old.name
        );
        promise.host_ports.clear();
        promise
    };
    serving_on(release, running).map(promise).collect()
}

/// What the versions that run have and no other container can have beside them, one a line.
pub fn check(release: &Release, running: Option<&Release>) -> Result<(), Refused> {
    let problems: Vec<String> = serving_on(release, running)
        .filter_map(|old| {
            let fault = fault_of(old, release, running?)?;
            Some(format!(
                "app `{}`: strategy = `start-then-kill`: the version that runs {fault}; deploy this one with strategy = `kill-then-start`",
                old.name
            ))
        })
        .collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Refused::new("cannot-overlap", problems.join("\n"))),
    }
}

fn fault_of(old: &App, release: &Release, running: &Release) -> Option<String> {
    if let Some((field, why)) = old.holds_alone() {
        return Some(format!("has {field}: {why}"));
    }
    let uses = |guest: &&App| guest.network.container.as_ref() == Some(&old.name);
    if let Some(guest) = running.apps.iter().find(uses) {
        return Some(format!("has a network that app `{}` uses", guest.name));
    }
    if let Some(fault) = written_by_both(old, release, running) {
        return Some(fault);
    }
    let spec = |of: &Release, name: &str| {
        of.networks
            .iter()
            .find(|n| n.name.as_str() == name)
            .cloned()
    };
    let changed = |name: &str| spec(running, name) != spec(release, name);
    let mut networks = old.network.networks.iter().map(|on| on.name.as_str());
    let network = networks.find(|name| changed(name))?;
    Some(format!(
        "is on network `{network}`, which this release declares otherwise or not at all"
    ))
}

/// What it writes and an app of the release as well, though its new version, which may have given it to another, does not say so.
fn written_by_both(old: &App, release: &Release, running: &Release) -> Option<String> {
    let new = release.apps.iter().find(|app| app.name == old.name)?;
    let told = |what: &str, name: &str, app: &App| {
        format!(
            "writes {what} `{name}`, and so does app `{}` of this release",
            app.name
        )
    };
    // Who wrote it beside this one all along goes on with that.
    let writer = |writes: &dyn Fn(&&App) -> bool| {
        let mut apps = release.apps.iter().filter(writes);
        apps.find(|app| {
            let mut running = running.apps.iter();
            !running.any(|was| was.name == app.name && was.name != old.name && writes(&was))
        })
    };
    let volumes = old.volumes.iter().filter(|mount| {
        let is_said = new.both_write.contains(&mount.name);
        !mount.read_only && !is_said
    });
    for mount in volumes {
        let writes = |app: &&App| {
            let mut mounts = app.volumes.iter();
            mounts.any(|other| other.name == mount.name && !other.read_only)
        };
        if let Some(app) = writer(&writes) {
            return Some(told("volume", mount.name.as_str(), app));
        }
    }
    for bind in old.binds.iter().filter(|bind| !bind.read_only) {
        let writes = |app: &&App| {
            let mut binds = app.binds.iter();
            binds.any(|other| other.source == bind.source && !other.read_only)
        };
        if let Some(app) = writer(&writes) {
            return Some(told("the board's", &bind.source, app));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_protocol::release::{DefaultLimits, SignedRelease};
    use serde_json::{Value, json};

    fn release(apps: &[Value]) -> Release {
        let blob = json!({ "digest": format!("sha256:{}", "0".repeat(64)), "size": 0 });
        let app = |more: &Value| {
            let mut app = json!({
                "image": { "name": "a:1", "manifest": blob, "config": blob, "layers": [] },
                "limits": {},
            });
            let more = more.as_object().unwrap().clone();
            app.as_object_mut().unwrap().extend(more);
            app
        };
        let defaults = DefaultLimits {
            memory_bytes: 1 << 20,
            cpu_millis: 100,
            pids: 1,
        };
        let signed: SignedRelease = serde_json::from_value(json!({
            "spec_version": 1,
            "product": "shop",
            "version": "1",
            "epoch": 1,
            "release_counter": 1,
            "issued_at": 1,
            "expires": 2,
            "hardware": ["board"],
            "apps": apps.iter().map(app).collect::<Vec<_>>(),
        }))
        .unwrap();
        defaults.fill(&signed)
    }

    fn fault(new: &[Value], running: &[Value]) -> Option<String> {
        let found = check(&release(new), Some(&release(running)));
        found.err().map(|refused| refused.reason)
    }

    #[test]
    fn what_moves_to_another_app_is_not_written_by_both() {
        let web = |of: Value| {
            let mut web = of;
            web["name"] = "web".into();
            web
        };
        let next = |of: Value| {
            let mut web = web(of);
            web["strategy"] = "start-then-kill".into();
            web
        };
        for (field, mount, what) in [
            (
                "volumes",
                json!({ "name": "data", "target": "/d" }),
                "volume `data`",
            ),
            (
                "binds",
                json!({ "source": "/data", "target": "/d" }),
                "the board's `/data`",
            ),
        ] {
            let mut looks = mount.clone();
            looks["read_only"] = true.into();
            let old = [web(json!({ field: [mount] }))];
            let db = |mount: &Value| json!({ "name": "db", field: [mount] });
            let told = fault(&[next(json!({})), db(&mount)], &old).expect(field);
            let words = format!("writes {what}, and so does app `db` of this release; deploy");
            assert!(told.contains(&words), "{told}");
            // Whoever only looks at it, and an old version that does, write nothing.
            assert_eq!(
                fault(&[next(json!({ field: [looks] })), db(&looks)], &old),
                None
            );
            let looked = [web(json!({ field: [looks] }))];
            assert_eq!(fault(&[next(json!({})), db(&mount)], &looked), None);
        }
        let data = json!([{ "name": "data", "target": "/d" }]);
        let db = || json!({ "name": "db", "volumes": data });
        let both = [web(json!({ "volumes": data })), db()];
        assert_eq!(
            fault(&[next(json!({})), db()], &both),
            None,
            "it wrote it already"
        );
        let said = next(json!({ "volumes": data, "both_write": ["data"] }));
        let db = json!({ "name": "db", "volumes": data });
        assert_eq!(fault(&[said, db], &[web(json!({ "volumes": data }))]), None);
    }
}
