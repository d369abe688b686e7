//! Step 9: the daemon dies, the network goes away; the app does not notice.

use crate::Demo;
use anyhow::{Result, ensure};
use coracle_tests::service::wait_for;
use std::time::{Duration, Instant};

/// SIGKILL to the daemon.
pub fn daemon_killed(demo: &mut Demo) -> Result<()> {
    demo.say.step(
        9,
        "The daemon is killed, then the network is cut: the app answers on",
    );
    demo.board.kill_daemon()?;
    demo.app_answers("2.0")?;
    wait_for(
        "the will of the dead session",
        Duration::from_secs(20),
        || Ok((!demo.online()?).then_some(())),
    )?;
    demo.board.start_daemon()?;
    wait_for("the board online again", Duration::from_secs(30), || {
        Ok(demo.online()?.then_some(()))
    })?;
    let status = demo.board.status()?;
    ensure!(
        status["current"]["version"] == "2.0",
        "after its restart the daemon says {status}"
    );
    demo.say.line("coracled killed with SIGKILL: the app answered, the daemon came back and knows release 2.0");
    Ok(())
}

/// The cable is pulled for longer than the keep-alive.
pub fn network_cut(demo: &mut Demo) -> Result<()> {
    demo.board.namespace().cut()?;
    let cut = Instant::now();
    let offline = demo.say.while_waiting("the cable is out", || {
        wait_for(
            "the console to miss the board",
            Duration::from_secs(90),
            || Ok((!demo.online()?).then(|| cut.elapsed())),
        )
    })?;
    ensure!(
        demo.board
            .get_inside("http://127.0.0.1:8080/")?
            .contains("2.0"),
        "the app does not answer on the board"
    );
    demo.board.namespace().mend()?;
    let mended = Instant::now();
    wait_for("the board online again", Duration::from_secs(90), || {
        Ok(demo.online()?.then_some(()))
    })?;
    demo.app_answers("2.0")?;
    demo.say.figure(
        "cable out: missed after, back online after",
        format!(
            "{:.0} s, {:.1} s",
            offline.as_secs_f32(),
            mended.elapsed().as_secs_f32()
        ),
    );
    Ok(())
}

impl Demo {
    fn online(&self) -> Result<bool> {
        Ok(self.console.board(self.board.id())?["presence"]["online"] == true)
    }
}
