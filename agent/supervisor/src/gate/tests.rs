use super::*;
use coracle_digest::Sha256Digest;

fn up(waited: u64) -> Up {
    Up {
        waited: Duration::from_secs(waited),
        enough: Some(Duration::from_secs(24 * 3600)),
    }
}

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
    let at = |minute| outside(&windows, Zone::Utc, Some(minute), up(0));
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
    assert!(outside(&windows, Zone::Local, Some(700), up(7 * 86_400)).is_some());
    assert_eq!(outside(&[], Zone::Utc, None, up(0)), None);
}

#[test]
fn without_a_clock_a_window_is_waited_for_as_long_as_the_board_says() {
    let windows = ["02:00-04:00".parse().unwrap()];
    let after = |up| outside(&windows, Zone::Local, None, up);
    let why = after(up(0)).unwrap();
    assert_eq!(why.code, "window");
    assert!(
        why.reason.ends_with("until it was up for 24 hours"),
        "{}",
        why.reason
    );
    assert_eq!(after(up(86_399)), Some(why));
    assert_eq!(after(up(86_400)), None);
    let for_ever = Up {
        enough: None,
        ..up(u64::MAX)
    };
    assert!(
        after(for_ever)
            .unwrap()
            .reason
            .ends_with("until somebody does")
    );
}

/// A board that is switched off each night, as its supervisor counts.
#[test]
fn what_was_waited_in_one_start_counts_in_the_next() {
    let at = Duration::from_secs;
    let mut spent = Spent {
        deployment: Sha256Digest::of(b"an assignment"),
        seconds: 0,
        boot: "monday".into(),
        at: 100,
    };
    // A supervisor that was killed misses nothing of the start that goes on.
    assert_eq!(spent.by("monday", at(100 + 8 * 3600)), at(8 * 3600));
    for day in ["tuesday", "wednesday", "thursday"] {
        spent = Spent {
            seconds: spent.by(&spent.boot, at(spent.at + 8 * 3600)).as_secs(),
            boot: day.into(),
            at: 20,
            ..spent
        };
        assert_eq!(spent.by(day, at(20)), at(spent.seconds));
        // The clock from boot is behind that of the start before, and of no account.
        assert_eq!(spent.by("another", at(5)), at(spent.seconds));
    }
    assert!(spent.seconds >= 24 * 3600);
    assert_eq!(
        Spent {
            boot: String::new(),
            ..spent.clone()
        }
        .by("", at(999_999)),
        at(spent.seconds)
    );
    // Damaged numbers end no wait before its time by going round.
    let odd = Spent {
        seconds: u64::MAX,
        at: u64::MAX,
        ..spent
    };
    assert_eq!(odd.by("thursday", at(3)), at(u64::MAX));
}

#[test]
fn only_a_board_that_asks_waits_to_be_answered() {
    assert_eq!(unaccepted(true, false).unwrap().code, "consent");
    for (consent, accepted) in [(false, false), (false, true), (true, true)] {
        assert_eq!(unaccepted(consent, accepted), None);
    }
}

#[test]
fn work_holds_another_program_off_for_an_hour_at_most() {
    let after = |seconds| working(Some("an action".into()), Duration::from_secs(seconds));
    assert_eq!(after(3599).unwrap(), "an action");
    assert_eq!(after(3600), None);
    assert_eq!(working(None, Duration::ZERO), None);
}
