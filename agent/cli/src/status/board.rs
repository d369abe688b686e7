//! What the board itself uses, in words.

use crate::human::{size, span};
use serde_json::Value;

/// Titles and what stands behind them, of a `BoardUse` as JSON (a reader of that type takes kilobytes of the board's flash); nothing
/// for what the board cannot tell. `is_told`: how hot it is stands elsewhere.
pub fn describe(used: &Value, is_told: bool) -> Vec<(&'static str, String)> {
    let number = |key: &str| used[key].as_u64();
    let room = |free: Option<u64>, total: Option<u64>, of: &str| {
        Some(format!("{} of {} free{of}", size(free?), size(total?)))
    };
    let memory = || {
        let (part, of) = (number("memory_used_bytes")?, number("memory_total_bytes")?);
        let agent = number("agent_memory_bytes").map(size);
        let agent = agent.map_or_else(String::new, |agent| format!(", {agent} of it the agent"));
        Some(format!("{} of {} in use{agent}", size(part), size(of)))
    };
    let load = |hundredths: u64| {
        let up = number("uptime_seconds").map(span);
        let up = up.map_or_else(String::new, |up| format!(", up for {up}"));
        format!("{}.{:02}{up}", hundredths / 100, hundredths % 100)
    };
    let heat = || {
        let tenths = used["millidegrees"].as_i64().filter(|_| !is_told)? / 100;
        let (sign, tenths) = (if tenths < 0 { "-" } else { "" }, tenths.unsigned_abs());
        let zone = used["zone"].as_str().unwrap_or("hottest");
        Some(format!("{zone} {sign}{}.{} °C", tenths / 10, tenths % 10))
    };
    let images = room(
        number("images_free_bytes"),
        number("images_total_bytes"),
        " for images",
    );
    let leaves = || {
        let link = used["link"].as_str()?;
        Some(match used["link_kind"].as_str() {
            Some("ethernet") => format!("{link}, Ethernet"),
            Some("wifi") => format!("{link}, Wi-Fi"),
            Some("cellular") => format!("{link}, cellular"),
            _ => link.to_owned(),
        })
    };
    [
        ("memory", memory()),
        ("load", number("load_hundredths").map(load)),
        ("heat", heat()),
        (
            "disk",
            room(number("state_free_bytes"), number("state_total_bytes"), ""),
        ),
        ("disk", images),
        ("route", leaves()),
    ]
    .into_iter()
    .filter_map(|(title, value)| Some((title, value?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_protocol::report::{BoardUse, LinkKind};

    #[test]
    fn what_is_known_is_told_and_nothing_else() {
        assert_eq!(describe(&Value::Null, false), []);
        let used = BoardUse {
            memory_total_bytes: Some(1 << 30),
            memory_used_bytes: Some(256 << 20),
            load_hundredths: Some(107),
            uptime_seconds: Some(3 * 86_400),
            zone: Some("cpu-thermal".into()),
            millidegrees: Some(-5_250),
            state_total_bytes: Some(8 << 30),
            state_free_bytes: Some(3 << 30),
            link: Some("wlan0".into()),
            link_kind: Some(LinkKind::Wifi),
            ..BoardUse::default()
        };
        let lines = |used: &BoardUse, is_told| -> Vec<String> {
            let used = serde_json::to_value(used).unwrap();
            let lines = describe(&used, is_told).into_iter();
            lines
                .map(|(title, value)| format!("{title}: {value}"))
                .collect()
        };
        let mut expected = vec![
            "memory: 256 MiB of 1 GiB in use",
            "load: 1.07, up for 3 d",
            "heat: cpu-thermal -5.2 °C",
            "disk: 3 GiB of 8 GiB free",
            "route: wlan0, Wi-Fi",
        ];
        assert_eq!(lines(&used, false), expected);
        expected.remove(2);
        assert_eq!(lines(&used, true), expected);
        let apart = BoardUse {
            agent_memory_bytes: Some(4 << 20),
            images_total_bytes: Some(2 << 30),
            images_free_bytes: Some(0),
            ..used
        };
        let said = lines(&apart, true);
        assert_eq!(
            said[0],
            "memory: 256 MiB of 1 GiB in use, 4 MiB of it the agent"
        );
        assert_eq!(said[3], "disk: 0 B of 2 GiB free for images");
    }
}
