//! Device rules: a device cgroup on v1, an eBPF program on v2.

use coracle_runtime::Limits;
use coracle_runtime::cgroup::{DeviceRule, Devices};
use coracle_runtime::spec::{DeviceKind, DeviceNode};

use crate::support::{self, Place, launch};

/// The default rules and these.
fn rules(extra: &[DeviceRule]) -> Limits {
    let mut rules = DeviceRule::DEFAULTS.to_vec();
    rules.extend_from_slice(extra);
    Limits {
        devices: Devices::Only(rules),
        ..Limits::default()
    }
}

pub fn a_device_needs_node_and_rule() {
    // /dev/mem's number stands for any device: it exists everywhere and must not be opened.
    let loop_control = DeviceNode {
        path: "/dev/sub/loop-control".into(),
        kind: DeviceKind::Char,
        major: 10,
        minor: 237,
        mode: 0o660,
        uid: 0,
        gid: 6,
    };
    let script = "mknod /dev/mem c 1 1 && echo made; head -c 1 /dev/mem; head -c 0 /dev/zero && echo zero; \
                  (: < /dev/sub/loop-control) && echo loop; stat -c '%a %g' /dev/sub/loop-control";
    let run = |limits: &Limits| {
        let place = Place::with(limits);
        let mut spec = place.spec(script);
        spec.devices.push(loop_control.clone());
        launch(spec).unwrap().output
    };
    let denied = run(&rules(&[]));
    assert!(
        denied.starts_with("made\nhead: /dev/mem: Operation not permitted\nzero\n"),
        "{denied}"
    );
    assert!(
        !denied.contains("\nloop\n") && denied.ends_with("660 6\n"),
        "{denied}"
    );
    let allowed = run(&rules(&[DeviceRule::char(10, Some(237))]));
    assert!(allowed.contains("\nloop\n"), "{allowed}");
}

pub fn live_rules_replace_the_old_ones() {
    // loop-control again: opening it needs no right but the rule's.
    let reading = DeviceRule {
        write: false,
        ..DeviceRule::char(10, Some(237))
    };
    let place = Place::with(&rules(&[]));
    let attempt =
        "(: < /tmp/node) 2>/dev/null; echo read $?; (: > /tmp/node) 2>/dev/null; echo write $?";
    let script = format!(
        "mknod /tmp/node c 10 237; {attempt}; read next; {attempt}; read next; {attempt}; read next"
    );
    let (running, mut input, mut output) = place.start_with_input(&script);
    for (next, expected) in [
        (Some(rules(&[reading])), "read 1\nwrite 1\n"),
        (Some(rules(&[])), "read 0\nwrite 1\n"),
        (None, "read 1\nwrite 1\n"),
    ] {
        assert_eq!(format!("{}{}", output.line(), output.line()), expected);
        if let Some(limits) = next {
            place.cgroup.set_limits(&limits).unwrap();
            support::say_next(&mut input);
        }
    }
    place.stop(running);
}

pub fn rules_that_go_and_come_disturb_no_other() {
    rules_go_and_come(Place::with);
}

/// By the eBPF program, also on the v2 tree of a hybrid machine.
pub fn version_two_lets_rules_go_and_come() {
    rules_go_and_come(Place::unified);
}

fn rules_go_and_come(place: fn(&Limits) -> Place) {
    let loop_control = DeviceRule {
        mknod: false,
        ..DeviceRule::char(10, Some(237))
    };
    let without = DeviceRule::DEFAULTS.to_vec();
    let with = [&without[..], &[loop_control]].concat();
    let place = place(&rules(&[loop_control]));
    // A process that opens what it may have the whole time, and one that says what it may open now.
    let attempt = "(: < /tmp/node) 2>/dev/null; echo loop $?";
    let script = format!(
        "mknod /tmp/node c 10 237; (while :; do (: < /dev/zero) 2>/dev/null || touch /tmp/lost; done) & \
         {attempt}; read next; {attempt}; read next; {attempt}; ls /tmp/lost 2>/dev/null || echo kept; read next"
    );
    let (running, mut input, mut output) = place.start_with_input(&script);
    assert_eq!(output.line(), "loop 0\n");
    for _ in 0..200 {
        place.cgroup.change_devices(&with, &[]).unwrap();
        place
            .cgroup
            .change_devices(&without, &[loop_control])
            .unwrap();
    }
    support::say_next(&mut input);
    assert_eq!(output.line(), "loop 1\n");
    place.cgroup.change_devices(&with, &[]).unwrap();
    support::say_next(&mut input);
    assert_eq!(
        format!("{}{}", output.line(), output.line()),
        "loop 0\nkept\n"
    );
    place.stop(running);
}
