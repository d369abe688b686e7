use super::*;
use policy::FORGIVEN_AFTER;

const MINUTE: Duration = Duration::from_secs(60);

fn app(name: &str, state: Critical) -> CriticalApp<'_> {
    CriticalApp { name, state }
}

fn reset(app: &str) -> Verdict {
    Verdict::Reset {
        app: app.to_owned(),
    }
}

#[test]
fn a_board_without_critical_apps_is_always_fed() {
    let mut policy = Policy::new(4, 0);
    for _ in 0..10 {
        assert_eq!(policy.look(&[], false, MINUTE), Verdict::Feed);
    }
    assert_eq!(policy.resets(), 0);
}

#[test]
fn a_reset_comes_only_after_restart_and_rollback_are_used_up() {
    let mut policy = Policy::new(4, 0);
    let down = [app("pump", Critical::GivenUp), app("web", Critical::Fine)];
    let up = [app("pump", Critical::Fine), app("web", Critical::Fine)];
    // Its restart policy is still at it.
    assert_eq!(policy.look(&up, false, MINUTE), Verdict::Feed);
    // There is a set to go back to.
    assert_eq!(policy.look(&down, true, MINUTE), Verdict::Feed);
    assert_eq!(policy.look(&down, false, MINUTE), reset("pump"));
    assert_eq!(policy.resets(), 1);
}

#[test]
fn resets_have_a_cap_and_a_day_of_health_forgives_them() {
    let down = [app("pump", Critical::GivenUp)];
    let up = [app("pump", Critical::Fine)];
    let mut resets = 0;
    // Each reset is a new start with the count that outlived it.
    for expected in 1..=4 {
        let mut policy = Policy::new(4, resets);
        assert_eq!(policy.look(&down, false, MINUTE), reset("pump"));
        resets = policy.resets();
        assert_eq!(resets, expected);
    }
    let mut policy = Policy::new(4, resets);
    assert_eq!(
        policy.look(&down, false, MINUTE),
        Verdict::Feed,
        "beyond the cap"
    );
    assert_eq!(policy.resets(), 4);

    policy.look(&up, false, FORGIVEN_AFTER - MINUTE);
    assert_eq!(policy.resets(), 4, "not a whole day yet");
    // An outage in between begins the day anew.
    policy.look(&down, false, MINUTE);
    policy.look(&up, false, FORGIVEN_AFTER - MINUTE);
    assert_eq!(policy.look(&down, false, MINUTE), Verdict::Feed);
    policy.look(&up, false, FORGIVEN_AFTER);
    assert_eq!(policy.resets(), 0);
    assert_eq!(policy.look(&down, false, MINUTE), reset("pump"));
}

/// A node of the kernel, as a plain file that keeps what is written.
fn fake() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("watchdog0");
    std::fs::write(&node, b"").unwrap();
    (folder, node)
}

#[test]
fn the_loop_feeds_three_times_within_the_timeout_and_not_more_often() {
    let (_folder, node) = fake();
    let start = Instant::now();
    let device = Device::open(&node, Duration::from_secs(15)).unwrap();
    let mut feeder = Feeder::new(device, start);
    for second in 0..15 {
        feeder.turn(start + Duration::from_secs(second), &Verdict::Feed);
    }
    assert_eq!(std::fs::read(&node).unwrap(), b"\0\0\0");
    assert_eq!(feeder.due(), start + Duration::from_secs(15));
    feeder.disarm();
    assert_eq!(std::fs::read(&node).unwrap(), b"\0\0\0V");
}

#[test]
fn a_verdict_to_reset_leaves_it_hungry() {
    let (_folder, node) = fake();
    let start = Instant::now();
    let device = Device::open(&node, Duration::from_secs(15)).unwrap();
    let mut feeder = Feeder::new(device, start);
    for second in 0..60 {
        feeder.turn(start + Duration::from_secs(second), &reset("pump"));
    }
    assert_eq!(std::fs::read(&node).unwrap(), b"");
}

#[test]
fn a_supervisor_that_dies_leaves_it_armed() {
    let (_folder, node) = fake();
    let device = Device::open(&node, Duration::from_secs(15)).unwrap();
    drop(Feeder::new(device, Instant::now()));
    assert!(!std::fs::read(&node).unwrap().contains(&b'V'));
}

#[test]
fn a_board_that_lacks_it_runs_all_the_same() {
    let missing = Device::open(std::path::Path::new("/nowhere/watchdog0"), MINUTE);
    let message = missing.unwrap_err().to_string();
    assert!(message.contains("/nowhere/watchdog0"), "{message}");
    assert!(Feeder::arm(None).is_none());
}

#[test]
fn a_reset_is_counted_once_and_only_where_it_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resets");
    let now = Instant::now();
    let down = [("pump", Critical::GivenUp)];
    let mut resets = Resets::load(&file, 4, now);
    assert_eq!(
        resets.look(&down, true, now),
        Verdict::Feed,
        "it is being updated"
    );
    assert!(!file.exists());
    for _ in 0..3 {
        let verdict = resets.look(&down, false, now);
        assert_eq!(verdict, Verdict::Reset { app: "pump".into() });
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "1");
    }
    // A day of health is remembered too.
    let mut next = Resets::load(&file, 4, now);
    let fine = [("pump", Critical::Fine)];
    assert_eq!(next.look(&fine, false, now + FORGIVEN_AFTER), Verdict::Feed);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "0");

    let mut nowhere = Resets::load(&folder.path().join("gone/resets"), 4, now);
    assert_eq!(nowhere.look(&down, false, now), Verdict::Feed);
}
