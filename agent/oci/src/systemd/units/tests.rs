use super::super::bus::tests::{Fake, Served};
use super::super::message::tests::{job_removed, path, refusal, variant};
use super::*;

const LONG: Duration = Duration::from_secs(60);
const UNIT: &str = "libpod-1.scope";

fn manager(fake: &Fake) -> Manager {
    Manager::connect_to(&[Peer::Bus(fake.path())], LONG).unwrap()
}

/// A bus with systemd on it, as far as `AddMatch`.
fn greet(served: &mut Served) {
    served.let_in();
    served.expect(
        "Hello",
        "org.freedesktop.DBus",
        &Body::default().text(":1.7"),
    );
    let call = served.expect("AddMatch", "org.freedesktop.DBus", &Body::default());
    let rule = call.arguments("s").unwrap().text().unwrap().to_owned();
    assert!(
        rule.contains("member='JobRemoved'") && rule.contains("sender='org.freedesktop.systemd1'"),
        "{rule}"
    );
}

#[test]
fn a_scope_is_there_when_its_job_is_done() {
    let fake = Fake::new(|served| {
        greet(served);
        let (serial, call) = served.hear();
        assert_eq!(
            (call.member.as_str(), call.signature.as_str()),
            ("StartTransientUnit", "ssa(sv)a(sa(sv))")
        );
        // Sooner than the answer, and another's before it.
        served.say(&job_removed(":1.1", "/j/8", "other.scope", "failed"));
        served.say(&job_removed(":1.1", "/j/9", UNIT, "done"));
        served.say(&super::super::message::tests::answer(
            serial,
            ":1.1",
            &path("/j/9"),
        ));
        served.expect("Get", ":1.1", &variant("/machine.slice/libpod-1.scope"));
    });
    let mut manager = manager(&fake);
    manager
        .start_scope(UNIT, &[("Delegate", Value::Bool(true))])
        .unwrap();
    assert_eq!(
        manager.control_group(UNIT).unwrap(),
        "/machine.slice/libpod-1.scope"
    );
    drop(manager);
    fake.end();
}

#[test]
fn a_job_that_fails_is_told_with_its_result_and_unit() {
    let fake = Fake::new(|served| {
        greet(served);
        served.expect("StartTransientUnit", ":1.1", &path("/j/9"));
        served.say(&job_removed(":1.1", "/j/9", UNIT, "timeout"));
    });
    let failed = manager(&fake)
        .start_scope(UNIT, &[])
        .unwrap_err()
        .to_string();
    assert!(
        failed.contains("timeout") && failed.contains("journalctl -u libpod-1.scope"),
        "{failed}"
    );
    fake.end();
}

#[test]
fn what_failed_before_under_the_name_is_forgotten_once() {
    let exists = |served: &mut Served| {
        let (serial, call) = served.hear();
        assert_eq!(call.member, "StartTransientUnit");
        served.say(&refusal(
            serial,
            "org.freedesktop.systemd1.UnitExists",
            "Unit libpod-1.scope already exists.",
        ));
    };
    let fake = Fake::new(move |served| {
        greet(served);
        exists(served);
        served.expect("ResetFailedUnit", ":1.1", &Body::default());
        exists(served);
    });
    let failed = manager(&fake)
        .start_scope(UNIT, &[])
        .unwrap_err()
        .to_string();
    assert!(failed.contains("already exists"), "{failed}");
    fake.end();
}

#[test]
fn a_scope_that_is_gone_is_stopped_already() {
    let missing = |served: &mut Served, member: &str, name: &str| {
        let (serial, call) = served.hear();
        assert_eq!(call.member, member);
        served.say(&refusal(serial, name, "Unit libpod-1.scope not loaded."));
    };
    let gone = "org.freedesktop.systemd1.NoSuchUnit";
    let fake = Fake::new(move |served| {
        greet(served);
        missing(served, "StopUnit", gone);
        missing(served, "ResetFailedUnit", gone);
    });
    manager(&fake).stop(UNIT).unwrap();
    fake.end();

    let fake = Fake::new(move |served| {
        greet(served);
        missing(
            served,
            "StopUnit",
            "org.freedesktop.DBus.Error.AccessDenied",
        );
    });
    let failed = manager(&fake).stop(UNIT).unwrap_err().to_string();
    assert!(
        failed.contains("stopping libpod-1.scope") && failed.contains("AccessDenied"),
        "{failed}"
    );
    fake.end();
}

#[test]
fn limits_are_in_force_when_the_next_question_is_answered() {
    let fake = Fake::new(|served| {
        served.let_in();
        served.expect(
            "Hello",
            "org.freedesktop.DBus",
            &Body::default().text(":1.7"),
        );
        let call = served.expect("SetUnitProperties", ":1.1", &Body::default());
        assert_eq!(call.signature, "sba(sv)");
        let mut arguments = call.arguments("sba(sv)").unwrap();
        assert_eq!((arguments.text(), arguments.u32()), (Ok(UNIT), Ok(1)));
        served.expect("Get", ":1.1", &variant("/x"));
    });
    manager(&fake)
        .set(UNIT, &[("TasksMax", Value::Number(7))])
        .unwrap();
    fake.end();
}

#[test]
fn a_version_is_the_first_number_in_its_text() {
    for (text, number) in [("252.38-1~deb12u1", 252), ("v241", 241), ("systemd", 0)] {
        let fake = Fake::new(move |served| {
            served.let_in();
            served.expect(
                "Hello",
                "org.freedesktop.DBus",
                &Body::default().text(":1.7"),
            );
            served.expect("Get", ":1.1", &variant(text));
        });
        assert_eq!(manager(&fake).version().unwrap(), number, "{text}");
        fake.end();
    }
}

#[test]
fn where_nobody_listens_each_place_is_named_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (bus, own) = (folder.path().join("bus"), folder.path().join("private"));
    let peers = [Peer::Bus(bus.clone()), Peer::Systemd(own.clone())];
    let failed = Manager::connect_to(&peers, LONG).unwrap_err().to_string();
    for part in [bus.to_str().unwrap(), own.to_str().unwrap(), "cgroupfs"] {
        assert!(failed.contains(part), "{failed}");
    }
}

#[test]
fn a_board_without_a_bus_has_systemd_itself() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new(|served| {
        served.let_in();
        served.expect("Get", "", &variant("252"));
    });
    let peers = [
        Peer::Bus(folder.path().join("bus")),
        Peer::Systemd(fake.path()),
    ];
    let mut manager = Manager::connect_to(&peers, LONG).unwrap();
    assert_eq!(manager.version().unwrap(), 252);
    drop(manager);
    fake.end();
}

#[test]
fn units_are_objects_by_their_letters() {
    assert_eq!(
        object("libpod-1f.scope"),
        "/org/freedesktop/systemd1/unit/libpod_2d1f_2escope"
    );
    assert_eq!(
        object("1.scope"),
        "/org/freedesktop/systemd1/unit/_31_2escope"
    );
}

#[test]
fn a_bus_is_elsewhere_when_its_variable_says_so() {
    assert_eq!(socket("unix:path=/a/b").unwrap(), PathBuf::from("/a/b"));
    assert_eq!(
        socket("tcp:host=x;unix:abstract=/x;unix:guid=1,path=/a").unwrap(),
        PathBuf::from("/a")
    );
    for wrong in ["tcp:host=x", "unix:path=a", "unix:path=/a%20b", "/a"] {
        assert!(socket(wrong).is_err(), "{wrong}");
    }
}
