use super::*;
use coracle_digest::Sha256Digest;
use coracle_protocol::release::{App, AppLimits, Blob, Health, Image, Probe, Restart};
use std::time::Duration;

/// One that says nothing that it need not.
pub(crate) fn plain_app() -> App {
    let blob = Blob {
        digest: Sha256Digest::of(b""),
        size: 0,
    };
    App {
        name: AppName::new("web").unwrap(),
        image: Image {
            name: "web:1".into(),
            manifest: blob,
            config: blob,
            layers: vec![],
        },
        depends_on: Default::default(),
        update_lock: None,
        strategy: Default::default(),
        both_write: Default::default(),
        hooks: Default::default(),
        logs: Default::default(),
        args: vec![],
        init: false,
        env: Default::default(),
        secrets: Default::default(),
        site_settable: Default::default(),
        limits: AppLimits::default(),
        network: Default::default(),
        volumes: vec![],
        data_version: 1,
        tmpfs: vec![],
        binds: vec![],
        devices: vec![],
        read_only_root: false,
        user_namespace: None,
        health: None,
        restart: Restart::No,
        trial_seconds: 10,
        critical: false,
        priority: 50,
        actions: vec![],
        stop_grace_seconds: 10,
    }
}

fn app(restart: Restart) -> AppRun {
    let app = App {
        restart,
        ..plain_app()
    };
    AppRun::new(app.into(), Err("no plan in this test".into()))
}

#[test]
fn a_paused_app_is_waited_for_and_nothing_is_due_for_it() {
    let now = Instant::now();
    let mut checked = plain_app();
    checked.health = Some(Health {
        probe: Probe::Tcp { port: 80 },
        interval_ms: 1000,
        timeout_ms: 100,
        retries: 2,
        start_period_ms: 5000,
    });
    let mut run = app(Restart::No);
    run.app = checked.into();
    run.phase = Phase::Up;
    run.track(now);
    assert!(run.meets(Condition::Started) && run.next_due().is_some());
    run.paused = true;
    assert!(!run.meets(Condition::Started) && run.next_due().is_none());
    run.ended(Some(1), false, now);
    assert!(!run.paused);
}

#[test]
fn an_end_leads_where_the_policy_says() {
    let now = Instant::now();
    let mut run = app(Restart::Always);
    run.phase = Phase::Up;
    run.ended(Some(1), false, now);
    assert_eq!(
        run.phase,
        Phase::Waiting {
            at: now + Duration::from_secs(1)
        }
    );
    run.phase = Phase::Up;
    run.ended(Some(1), false, now);
    assert_eq!(
        run.phase,
        Phase::Waiting {
            at: now + Duration::from_secs(2)
        }
    );

    let mut once = app(Restart::No);
    once.phase = Phase::Up;
    once.ended(Some(0), false, now);
    assert_eq!((once.phase, once.ended_fine), (Phase::Ended, Some(true)));
    assert!(once.not_proven().is_none());

    let mut failed = app(Restart::No);
    failed.fault = None;
    failed.phase = Phase::Up;
    failed.ended(Some(137), true, now);
    assert_eq!(failed.ended_fine, Some(false));
    let text = failed.not_proven().unwrap().unwrap_err();
    assert!(text.contains("memory"), "{text}");
}

#[test]
fn an_app_is_given_up_only_when_its_policy_has_no_more_to_try() {
    let now = Instant::now();
    let fail = |run: &mut AppRun| {
        run.phase = Phase::Up;
        run.ended(Some(1), false, now);
    };
    let mut once = app(Restart::No);
    assert!(!once.is_given_up());
    fail(&mut once);
    assert!(once.is_given_up());
    once.wanted = false;
    assert!(!once.is_given_up(), "a person stopped it");

    let mut always = app(Restart::Always);
    for _ in 1..restart::GIVEN_UP {
        fail(&mut always);
        assert!(!always.is_given_up());
    }
    fail(&mut always);
    assert!(always.is_given_up());

    let mut done = app(Restart::OnFailure);
    done.phase = Phase::Up;
    done.ended(Some(0), false, now);
    assert!(!done.is_given_up());
    let mut ill = app(Restart::Always);
    ill.phase = Phase::Up;
    ill.unhealthy_in_a_row = restart::GIVEN_UP;
    assert!(ill.is_given_up());
}

#[test]
fn a_stop_by_a_person_stays_and_a_restart_does_not() {
    let now = Instant::now();
    let mut run = app(Restart::Always);
    run.phase = Phase::Stopping { kill_at: None };
    run.wanted = false;
    run.ended(Some(143), false, now);
    assert_eq!(run.phase, Phase::Ended);

    let mut again = app(Restart::No);
    again.phase = Phase::Stopping { kill_at: None };
    again.ended(Some(143), false, now);
    assert_eq!(again.phase, Phase::Waiting { at: now });
    assert_eq!(again.in_a_row, 0);
}
