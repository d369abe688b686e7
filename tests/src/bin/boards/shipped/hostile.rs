//! Sticks whose file system attacks whoever reads it, plugged into a board while it runs. What is done to them is what
//! `agent/cli/tests/plugged.rs` does to loop devices.

#[path = "../../../../../agent/cli/tests/stick/hostile.rs"]
mod attacks;

use super::machine::Machine;
use super::usb::{Desk, Stick, status};
use super::whole_loop::told;
use anyhow::{Result, ensure};
use attacks::{ATTACKS, Fat};
use std::time::Instant;

/// `good`: a stick that brings what the board lacks. It runs `version` before and afterwards.
pub fn sticks(desk: &Desk<'_>, machine: &mut Machine, good: &Stick, version: &str) -> Result<()> {
    let bytes = std::fs::read(&good.image)?;
    let start = Instant::now();
    for (number, attack) in ATTACKS.iter().enumerate() {
        let mut bytes = bytes.clone();
        (attack.spoil)(&mut Fat::of(&mut bytes));
        let name = format!("hostile-{number}");
        let image = desk.folder.join(format!("stick-{name}.img"));
        std::fs::write(&image, bytes)?;
        let mark = desk.mark();
        machine.qmp.plug(&name, &image, None)?;
        // Of blobs that are another stick's or none, it depends on what lies where they are read.
        desk.hear_one_of(mark, &[attack.says, "on the stick is damaged"])?;
        machine.qmp.pull(&name, false)?;
        std::fs::remove_file(&image)?;
        println!("  a stick with {}: told", attack.name);
    }
    let status = status(machine)?;
    ensure!(
        status["current"]["version"] == version && status["current"]["state"] == "committed",
        "after hostile sticks the board has {}",
        status["current"]
    );
    told("hostile sticks, one after the other", start);
    desk.addresses.answer(version)
}
