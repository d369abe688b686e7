use super::*;

fn lock(app: &str, seconds: u64) -> Lock {
    Lock {
        app: AppName::new(app).unwrap(),
        longest: Duration::from_secs(seconds),
    }
}

#[test]
fn a_lock_holds_until_its_time_is_over() {
    let locks = [lock("pump", 60), lock("print", 10)];
    let at = |seconds| locked(&locks, Duration::from_secs(seconds)).map(|why| why.reason);
    assert_eq!(
        at(0).unwrap(),
        "app `pump` holds the update lock, for at most 60 s, app `print` holds the update lock, for at most 10 s"
    );
    assert_eq!(
        at(10).unwrap(),
        "app `pump` holds the update lock, for at most 60 s"
    );
    assert_eq!(at(60), None);
    assert_eq!(locked(&[], Duration::ZERO), None);
}

#[test]
fn every_reason_is_told_under_the_first_one_s_word() {
    let one = || Some(Why::new("one", "first"));
    let other = || Some(Why::new("other", "second"));
    assert_eq!(
        all([one(), None, other()]).unwrap(),
        Why::new("one", "first; second")
    );
    assert_eq!(all([None, other()]), other());
    assert_eq!(all([None, None]), None);
}

/// A day of a fake clock, minute by minute.
#[test]
fn windows_open_and_close_with_the_clock() {
    let windows = ["02:00-04:00", "23:00-00:30"].map(|text| text.parse().unwrap());
    let at = |minute| outside(&windows, Zone::Utc, Some(minute), Duration::ZERO);
    let open: Vec<u16> = (0..1440).filter(|minute| at(*minute).is_none()).collect();
    let expected: Vec<u16> = (0..30).chain(120..240).chain(1380..1440).collect();
    assert_eq!(open, expected);
    assert_eq!(
        at(700).unwrap(),
        Why::new(
            "window",
            "the maintenance window is 02:00-04:00, 23:00-00:30 UTC"
        )
    );
    // However long it waited: a clock that is kept decides alone.
    let week = Duration::from_secs(7 * 86_400);
    assert!(outside(&windows, Zone::Local, Some(700), week).is_some());
    assert_eq!(outside(&[], Zone::Utc, None, Duration::ZERO), None);
}

#[test]
fn without_a_clock_a_window_is_waited_for_a_day_and_no_longer() {
    let windows = ["02:00-04:00".parse().unwrap()];
    let after = |seconds| outside(&windows, Zone::Local, None, Duration::from_secs(seconds));
    let why = after(0).unwrap();
    assert_eq!(why.code, "window");
    assert!(
        why.reason.ends_with("for 24 hours at most"),
        "{}",
        why.reason
    );
    assert_eq!(after(86_399), after(0));
    assert_eq!(after(86_400), None);
}

#[test]
fn only_a_board_that_asks_waits_to_be_answered() {
    assert_eq!(unaccepted(true, false).unwrap().code, "consent");
    for (consent, accepted) in [(false, false), (false, true), (true, true)] {
        assert_eq!(unaccepted(consent, accepted), None);
    }
}
