use super::*;
use crate::report::{AppUse, Telemetry};
use serde_json::{Value, json};

fn all() -> BoardUse {
    BoardUse {
        memory_total_bytes: Some(1 << 30),
        memory_used_bytes: Some(300 << 20),
        agent_memory_bytes: Some(4 << 20),
        load_hundredths: Some(52),
        uptime_seconds: Some(86_400),
        zone: Some("cpu-thermal".into()),
        millidegrees: Some(61_200),
        throttle_celsius: Some(75),
        state_total_bytes: Some(8 << 30),
        state_free_bytes: Some(3 << 30),
        images_total_bytes: Some(4 << 30),
        images_free_bytes: Some(0),
        link: Some("wlan0".into()),
        link_kind: Some(LinkKind::Wifi),
    }
}

#[test]
fn what_a_board_can_mean_stays_as_it_is() {
    assert_eq!(all().in_sense(), all());
    assert_eq!(BoardUse::default().in_sense(), BoardUse::default());
    let cold = BoardUse {
        millidegrees: Some(-40_000),
        ..all()
    };
    assert_eq!(cold.clone().in_sense(), cold);
}

#[test]
fn a_figure_out_of_sense_is_left_out_and_the_others_stay() {
    let left = |change: fn(&mut BoardUse)| {
        let mut said = all();
        change(&mut said);
        let left = said.in_sense();
        assert_eq!(left.link_kind, all().link_kind);
        left
    };
    let used = left(|said| said.memory_used_bytes = Some((1 << 30) + 1));
    assert_eq!(
        (used.memory_used_bytes, used.memory_total_bytes),
        (None, None)
    );
    assert_eq!(used.state_free_bytes, all().state_free_bytes);
    let most = left(|said| said.state_total_bytes = Some(u64::MAX));
    assert_eq!(
        (most.state_free_bytes, most.state_total_bytes),
        (None, None)
    );
    let nothing = left(|said| said.images_total_bytes = Some(0));
    assert_eq!(
        (nothing.images_free_bytes, nothing.images_total_bytes),
        (None, None)
    );
    let alone = left(|said| said.state_total_bytes = None);
    assert_eq!(alone.state_free_bytes, None);
    for wrong in [i32::MIN, -100_001, 250_001, i32::MAX] {
        let mut said = all();
        said.millidegrees = Some(wrong);
        assert_eq!(said.in_sense().millidegrees, None, "{wrong}");
    }
    assert_eq!(
        left(|s| s.load_hundredths = Some(u64::MAX)).load_hundredths,
        None
    );
    assert_eq!(
        left(|s| s.uptime_seconds = Some(u64::MAX)).uptime_seconds,
        None
    );
    let agent = left(|s| s.agent_memory_bytes = Some(u64::MAX));
    assert_eq!(agent.agent_memory_bytes, None);
    assert_eq!(left(|s| s.zone = Some("a\nb".into())).zone, None);
    assert_eq!(left(|s| s.link = Some("é".into())).link, None);
    assert_eq!(left(|s| s.link = Some("x".repeat(97))).link, None);
}

/// As a console before boards said this has it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct OlderTelemetry {
    at: u64,
    apps: Vec<AppUse>,
}

#[test]
fn older_and_newer_programs_read_each_other() {
    let new = Telemetry {
        at: 7,
        apps: vec![],
        storage: vec![],
        board: Some(all()),
    };
    let text = serde_json::to_string(&new).unwrap();
    let older: OlderTelemetry = serde_json::from_str(&text).unwrap();
    assert_eq!((older.at, older.apps.len()), (7, 0));
    let text = serde_json::to_string(&older).unwrap();
    let read: Telemetry = serde_json::from_str(&text).unwrap();
    assert_eq!(read.board, None);
    // Nothing is sent for what is not known, and what a still newer one says is passed over.
    assert_eq!(
        serde_json::to_value(BoardUse::default()).unwrap(),
        json!({})
    );
    let newer: Value = json!({"load_hundredths": 3, "link_kind": "satellite", "fan_rpm": 900});
    let read: BoardUse = serde_json::from_value(newer).unwrap();
    let expected = BoardUse {
        load_hundredths: Some(3),
        link_kind: Some(LinkKind::Other),
        ..BoardUse::default()
    };
    assert_eq!(read, expected);
}
