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
