//! Figures of the running board.

use crate::Demo;
use anyhow::Result;
use coracle_tests::measure::Pss;

/// PSS of both processes, TLS up, apps running.
pub fn memory(demo: &mut Demo) -> Result<()> {
    let (supervisor, daemon) = demo.board.pids()?;
    let (s, d) = (Pss::of(supervisor)?.in_all(), Pss::of(daemon)?.in_all());
    demo.say.figure(
        "PSS with TLS up and two apps: supervisor + daemon",
        format!(
            "{:.2} + {:.2} = {:.2} MiB (this build; `make bench` has the shipped one)",
            s as f64 / 1024.0,
            d as f64 / 1024.0,
            (s + d) as f64 / 1024.0
        ),
    );
    Ok(())
}
