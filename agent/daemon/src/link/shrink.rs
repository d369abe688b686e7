//! What runs, in one MQTT message. A board with many apps says less of each, and never nothing.

use coracle_protocol::report::Current;

/// JSON of at most `limit` bytes. In this order it leaves out: arguments, texts of probes, places on networks and
/// devices, ports,
/// then layers beyond what fits (a delta may then start from fewer).
pub fn to_fit(mut current: Current, limit: usize) -> Vec<u8> {
    let json = |current: &Current| serde_json::to_vec(current).unwrap_or_default();
    let steps: [fn(&mut Current); 4] = [
        |c| apps(c, |app| app.args.clear()),
        |c| apps(c, |app| app.health_text = None),
        |c| {
            apps(c, |app| {
                app.networks.clear();
                app.devices.clear();
            });
        },
        |c| {
            apps(c, |app| {
                app.ports.clear();
                app.cgroup = None;
            });
        },
    ];
    let mut bytes = json(&current);
    for step in steps {
        if bytes.len() <= limit {
            return bytes;
        }
        step(&mut current);
        bytes = json(&current);
    }
    if bytes.len() > limit {
        // A digest, its quotes and its comma.
        const LAYER: usize = 74;
        let too_many = (bytes.len() - limit).div_ceil(LAYER);
        let keep = current.layers.len().saturating_sub(too_many);
        tracing::warn!(
            kept = keep,
            of = current.layers.len(),
            "the report of what runs does not hold every layer"
        );
        current.layers.truncate(keep);
        bytes = json(&current);
    }
    if bytes.len() > limit
        && let Some(set) = &mut current.set
    {
        // 64 apps with the longest names: only their names and states are worth more than a break.
        let fitting = set.apps.len() * limit / bytes.len();
        set.apps.truncate(fitting.saturating_sub(1));
        bytes = json(&current);
    }
    bytes
}

fn apps(current: &mut Current, change: impl Fn(&mut coracle_protocol::report::AppStatus)) {
    if let Some(set) = &mut current.set {
        set.apps.iter_mut().for_each(change);
    }
}
