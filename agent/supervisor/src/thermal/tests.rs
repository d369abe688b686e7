use super::*;
use coracle_board_support::profile::Profile;
use coracle_board_support::thermal::heat;
use std::path::Path;

fn app(name: &str, priority: u8) -> ThermalApp {
    ThermalApp {
        name: name.to_owned(),
        priority,
        quota_millis: 500,
        runs: true,
    }
}

fn names(changes: &[Change]) -> Vec<(&str, u32)> {
    let pairs = changes.iter().map(|c| (c.name.as_str(), c.quota_millis));
    pairs.collect()
}

#[test]
fn the_least_important_are_slowed_first_and_restored_last() {
    let apps = [app("pump", 9), app("web", 1), app("logs", 1)];
    let mut throttle = Throttle::new(50, 20);
    assert_eq!(
        names(&throttle.look(Heat::Hot, &apps)),
        [("web", 250), ("logs", 250)]
    );
    assert_eq!(
        names(&throttle.look(Heat::Hot, &apps)),
        [("web", 100), ("logs", 100)]
    );
    assert_eq!(names(&throttle.look(Heat::Between, &apps)), []);
    assert_eq!(names(&throttle.look(Heat::Hot, &apps)), [("pump", 250)]);
    assert_eq!(names(&throttle.look(Heat::Hot, &apps)), [("pump", 100)]);
    assert_eq!(
        names(&throttle.look(Heat::Hot, &apps)),
        [],
        "each is at its floor"
    );
    assert_eq!(names(&throttle.look(Heat::Cool, &apps)), [("pump", 350)]);
    assert_eq!(names(&throttle.look(Heat::Cool, &apps)), [("pump", 500)]);
    assert_eq!(
        names(&throttle.look(Heat::Cool, &apps)),
        [("web", 350), ("logs", 350)]
    );
    assert_eq!(
        names(&throttle.look(Heat::Cool, &apps)),
        [("web", 500), ("logs", 500)]
    );
    assert_eq!(names(&throttle.look(Heat::Cool, &apps)), []);
}

#[test]
fn an_app_that_comes_back_has_all_of_its_quota() {
    let mut throttle = Throttle::new(50, 20);
    throttle.look(Heat::Hot, &[app("web", 1)]);
    assert_eq!(throttle.share("web"), 50);
    throttle.look(Heat::Between, &[]);
    assert_eq!(throttle.share("web"), 100);
}

#[test]
fn an_app_that_is_down_has_no_turn_and_keeps_its_share() {
    let mut throttle = Throttle::new(50, 20);
    let down = ThermalApp {
        runs: false,
        ..app("web", 1)
    };
    let apps = [app("pump", 9), app("web", 1)];
    assert_eq!(names(&throttle.look(Heat::Hot, &apps)), [("web", 250)]);
    let apps = [app("pump", 9), down];
    assert_eq!(names(&throttle.look(Heat::Hot, &apps)), [("pump", 250)]);
    assert_eq!(
        (throttle.share("web"), throttle.quota("web", 500)),
        (50, 250)
    );
    assert_eq!(throttle.quota("new", 500), 500);
    assert!(!throttle.is_idle());
}

#[test]
fn a_quota_never_becomes_nothing() {
    let tiny = ThermalApp {
        quota_millis: 1,
        ..app("tiny", 0)
    };
    let mut throttle = Throttle::new(100, 1);
    assert_eq!(names(&throttle.look(Heat::Hot, &[tiny])), [("tiny", 1)]);
}

/// A board's profile, a fake of its sysfs, and the policy: hot, in between, cool.
#[test]
fn a_hot_zone_of_the_board_slows_its_apps() {
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/boards");
    let profile = Profile::load(&boards.join("raspberrypi4.toml")).unwrap();
    let thermal = profile.thermal.unwrap();
    let root = tempfile::tempdir().unwrap();
    let zone = root.path().join("sys/class/thermal/thermal_zone0");
    std::fs::create_dir_all(&zone).unwrap();
    std::fs::write(zone.join("type"), "cpu-thermal\n").unwrap();
    let mut throttle = Throttle::new(thermal.step_percent.get(), thermal.floor_percent.get());
    let mut at = |millidegrees: &str| {
        std::fs::write(zone.join("temp"), millidegrees).unwrap();
        throttle.look(heat(root.path(), &thermal), &[app("web", 0)]);
        throttle.share("web")
    };
    assert_eq!(at("60000\n"), 100);
    assert_eq!(at("75000\n"), 80);
    assert_eq!(at("70000\n"), 80);
    assert_eq!(at("76000\n"), 60);
    assert_eq!(at("67999\n"), 80);
    // What cannot be read is no reason to give anything back.
    assert_eq!(at("broken\n"), 80);
}
