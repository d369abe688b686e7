use super::*;
use crate::release::plain_app::app;
use serde_json::{Value, json};

const BOARD: DefaultLimits = DefaultLimits {
    memory_bytes: 128 << 20,
    cpu_millis: 500,
    pids: 64,
};

/// A release with one app that has these limits.
fn release(limits: Value) -> SignedRelease {
    serde_json::from_value(json!({
        "spec_version": 1, "product": "shop", "version": "1", "epoch": 1, "release_counter": 1,
        "issued_at": 1, "expires": 2, "hardware": ["any"],
        "apps": [app(json!({ "limits": limits, "tmpfs": [{ "target": "/t", "size_bytes": 8 << 20 }] }))],
    }))
    .unwrap()
}

#[test]
fn what_a_release_names_stays_and_the_board_says_the_rest() {
    let named = release(json!({ "cpu_millis": 20, "disk_bytes": 65536 }));
    assert_eq!(named.check(), Ok(()));
    assert_eq!(BOARD.check(&named), Ok(()));
    let limits = &BOARD.fill(&named).apps[0].limits;
    let numbers = (limits.memory_bytes, limits.cpu_millis, limits.pids);
    assert_eq!(numbers, (128 << 20, 20, 64));
    assert_eq!(limits.disk_bytes, Some(65536));
}

#[test]
fn what_is_left_out_is_not_written() {
    let named = release(json!({ "pids": 3 }));
    assert_eq!(json!(named.apps[0].limits), json!({ "pids": 3 }));
    // As a board runs it, it is written whole and read back.
    let filled = BOARD.fill(&named).apps.remove(0).limits;
    let written = json!(filled);
    assert_eq!(
        written,
        json!({ "memory_bytes": 128 << 20, "cpu_millis": 500, "pids": 3 })
    );
    assert_eq!(
        serde_json::from_value::<AppLimits>(written).unwrap(),
        filled
    );
}

/// [`AppLimits`] with three numbers is what programs read before a release could leave some out.
#[test]
fn a_program_that_needs_all_three_refuses_a_release_without_them() {
    let whole = json!({ "memory_bytes": 1 << 20, "cpu_millis": 10, "pids": 1 });
    for field in ["memory_bytes", "cpu_millis", "pids"] {
        let mut limits = whole.clone();
        limits.as_object_mut().unwrap().remove(field);
        let refused = serde_json::from_value::<AppLimits>(limits).unwrap_err();
        assert_eq!(refused.to_string(), format!("missing field `{field}`"));
    }
}

#[test]
fn what_a_release_names_has_to_go_with_the_boards_numbers() {
    let small = DefaultLimits {
        memory_bytes: 4 << 20,
        ..BOARD
    };
    let fault = small.check(&release(json!({}))).unwrap_err();
    assert!(fault.contains("tmpfs `/t`: size"), "{fault}");
    let promised = release(json!({ "memory_min_bytes": 200 << 20 }));
    assert_eq!(promised.check(), Ok(()), "nobody knows the board yet");
    let fault = BOARD.check(&promised).unwrap_err();
    assert!(
        fault.contains("limits.memory_min_bytes is 209715200, more than"),
        "{fault}"
    );
    let alone = release(json!({ "cpus_exclusive": 1 }));
    let many = DefaultLimits {
        cpu_millis: 1500,
        ..BOARD
    };
    let fault = many.check(&alone).unwrap_err();
    assert!(fault.contains("limits.cpu_millis is 1500"), "{fault}");
    assert_eq!(BOARD.check(&alone), Ok(()));
}
