//! Step 8: what an attacker with the console's keys and broker could send is refused by the board.

use crate::Demo;
use anyhow::{Context, Result, ensure};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::names::BoardId;
use coracle_protocol::topics::{Separator, Topic};
use coracle_tests::attack;
use std::time::Duration;

/// Above every assignment so far.
const NEXT: u64 = 1_000;

/// Four attacks, by one who stole the console's deploy key and its broker certificate.
pub fn all_refused(demo: &mut Demo) -> Result<()> {
    demo.say.step(
        8,
        "A stolen console: its deploy key and its broker user, used against the board",
    );
    let deploy_key = attack::key(&demo.engineer.key("deploy"))?;
    let me = demo.board.id().clone();
    let other = BoardId::new("demo.board-z")?;
    let good = attack::envelope(&demo.engineer.file("release-2.0.json"))?;
    let old = attack::envelope(&demo.engineer.file("release-1.0.json"))?;
    let newest = attack::envelope(&demo.engineer.file("release-3.0.json"))?;
    let (now, later) = (attack::now(), attack::now() + 86_400);
    let sign = |board, release: &Envelope, seq, issued, expires| {
        attack::assignment(&deploy_key, board, release, seq, issued, expires)
    };
    let tampered = attack::tampered(&good)?;
    let cases: [(&str, &str, Envelope, &Envelope); 4] = [
        (
            "a tampered release",
            "bad-signature",
            sign(&me, &tampered, NEXT, now, later)?,
            &tampered,
        ),
        (
            "an older release (rollback)",
            "old-release",
            sign(&me, &old, NEXT, now, later)?,
            &old,
        ),
        (
            "another board's assignment",
            "wrong-board",
            sign(&other, &good, NEXT, now, later)?,
            &good,
        ),
        // Held back by the thief for an hour; the board's clock is no more than a lower bound, and that is later.
        (
            "an expired assignment",
            "expired",
            sign(&me, &newest, NEXT, now - 7200, now - 3600)?,
            &newest,
        ),
    ];
    for (n, (what, code, deploy, release)) in cases.into_iter().enumerate() {
        let activity = format!("attack-{n}");
        let message = attack::desired(&activity, deploy, release.clone())?;
        demo.console
            .publish_as_thief(&Topic::Desired.of(&me, Separator::Dot), &message)?;
        let end = demo
            .board
            .wait_for_end(&activity, Duration::from_secs(20))
            .with_context(|| what.to_owned())?;
        ensure!(
            end["phase"] == "refused" && end["code"] == code,
            "{what}: {end}"
        );
        demo.app_answers("2.0")?;
        demo.say.line(&format!(
            "{what}: refused, {code}: {}",
            end["reason"].as_str().unwrap_or_default()
        ));
    }
    demo.say.figure(
        "attacks with the console's own keys",
        "4 of 4 refused, the app answered all along".into(),
    );
    Ok(())
}
