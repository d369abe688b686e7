use super::*;
use std::fs;

fn board(files: &[(&str, &str)]) -> tempfile::TempDir {
    let board = tempfile::tempdir().unwrap();
    let folder = board.path().join("sys/class/leds/ACT");
    fs::create_dir_all(&folder).unwrap();
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
    board
}

fn file(board: &tempfile::TempDir, name: &str) -> String {
    fs::read_to_string(board.path().join("sys/class/leds/ACT").join(name)).unwrap()
}

fn light(board: &tempfile::TempDir) -> Light {
    Light::open(board.path(), "ACT").unwrap()
}

fn led() -> Led {
    let text =
        r#"{"name": "ACT", "running": "on", "updating": "fast-blink", "stick_done": "untouched"}"#;
    serde_json::from_str(text).unwrap()
}

#[test]
fn each_pattern_by_what_the_kernel_has() {
    let able = [
        ("trigger", "none [mmc0] timer heartbeat pattern\n"),
        ("brightness", "0\n"),
        ("max_brightness", "1\n"),
        ("delay_on", ""),
        ("delay_off", ""),
        ("pattern", ""),
    ];
    let board = board(&able);
    let act = light(&board);
    act.show(LedPattern::On).unwrap();
    assert_eq!(
        (file(&board, "trigger"), file(&board, "brightness")),
        ("none".into(), "1".into())
    );
    act.show(LedPattern::Off).unwrap();
    assert_eq!(file(&board, "brightness"), "0");
    act.show(LedPattern::Heartbeat).unwrap();
    assert_eq!(file(&board, "trigger"), "heartbeat");
    act.show(LedPattern::SlowBlink).unwrap();
    assert_eq!(
        (file(&board, "trigger"), file(&board, "delay_on")),
        ("timer".into(), "1000".into())
    );
    act.show(LedPattern::FastBlink).unwrap();
    assert_eq!(file(&board, "delay_off"), "100");
}

#[test]
fn a_kernel_with_less_does_what_it_can() {
    let patterns = board(&[
        ("trigger", "[none] pattern"),
        ("brightness", "7"),
        ("max_brightness", "9"),
        ("pattern", ""),
    ]);
    light(&patterns).show(LedPattern::Heartbeat).unwrap();
    assert_eq!(file(&patterns, "pattern"), "9 1000 9 0 0 1000 0 0");
    let steady = board(&[("trigger", "[none]"), ("brightness", "7")]);
    let act = light(&steady);
    let before = act.before();
    act.show(LedPattern::FastBlink).unwrap();
    assert_eq!(file(&steady, "brightness"), "255");
    act.restore(&before).unwrap();
    assert_eq!(file(&steady, "brightness"), "7");
    assert!(Light::open(steady.path(), "PWR").is_none());
}

#[test]
fn a_light_is_given_back_by_whoever_is_there() {
    let run = tempfile::tempdir().unwrap();
    let board = board(&[
        ("trigger", "none mmc0 [timer]"),
        ("brightness", "1"),
        ("delay_on", "20\n"),
        ("delay_off", "30\n"),
    ]);
    let lights = || Lights::new(vec![led()], board.path(), run.path());
    let mut first = lights();
    first.tell(LedState::Running);
    assert_eq!(file(&board, "trigger"), "none");
    // Crashed; the next one knows how it was, and not only how it is.
    drop(first);
    let mut second = lights();
    second.tell(LedState::StickDone);
    assert_eq!(
        (file(&board, "trigger"), file(&board, "delay_on")),
        ("timer".into(), "20".into())
    );
    second.tell(LedState::Running);
    assert_eq!(file(&board, "trigger"), "none");
    second.give_back();
    assert_eq!(
        (file(&board, "trigger"), file(&board, "delay_off")),
        ("timer".into(), "30".into())
    );
    assert!(!run.path().join("lights.json").exists());
    // A board without it.
    fs::remove_dir_all(board.path().join("sys")).unwrap();
    let mut none = lights();
    none.tell(LedState::Running);
    none.give_back();
}

#[test]
fn what_is_told_again_is_not_written_again() {
    let run = tempfile::tempdir().unwrap();
    let board = board(&[("trigger", "[mmc0] none"), ("brightness", "0")]);
    let mut lights = Lights::new(vec![led()], board.path(), run.path());
    lights.tell(LedState::Running);
    fs::write(board.path().join("sys/class/leds/ACT/brightness"), "3").unwrap();
    lights.tell(LedState::Running);
    assert_eq!(file(&board, "brightness"), "3");
}

#[test]
fn a_stick_comes_before_updates_and_these_before_failures() {
    let now = Instant::now();
    let mut news = News::default();
    let idle = Seen {
        trial: false,
        working: false,
        app_down: false,
    };
    let working = Seen {
        working: true,
        ..idle
    };
    assert_eq!(news.state(idle, now), LedState::Running);
    assert_eq!(news.due(), None);
    news.ended(false);
    assert_eq!(news.state(idle, now), LedState::Failed);
    news.works(now);
    assert_eq!(news.state(idle, now), LedState::Updating);
    assert_eq!(news.state(idle, now + PATIENCE), LedState::Failed);
    news.stick(StickWord::Reading, now);
    assert_eq!(news.state(working, now), LedState::StickReading);
    let trial = Seen {
        trial: true,
        ..working
    };
    assert_eq!(news.state(trial, now), LedState::Trial);
    news.ended(true);
    news.stick(StickWord::Done, now);
    assert_eq!(news.due(), Some(now + STICK_END));
    assert_eq!(news.state(idle, now), LedState::StickDone);
    assert_eq!(news.state(idle, now + STICK_END), LedState::Running);
    assert_eq!(news.due(), None);
    news.stick(StickWord::Refused, now);
    assert_eq!(news.state(idle, now), LedState::StickRefused);
    let down = Seen {
        app_down: true,
        ..idle
    };
    assert_eq!(news.state(down, now + STICK_END), LedState::Failed);
}
