//! Memory: what is more than allowed, and what is promised.

use super::{Attempt, Bears, NAME, SHORT, Seen, look::first};
use crate::board::Layout;
use anyhow::{Context, Result, ensure};

const MEMORY_MIB: u64 = 12;
/// Of them, never taken back for others: room for its processes and for what it has read.
const PROMISED_MIB: u64 = 8;
/// What it wants.
const WANTED_MIB: u64 = 32;

/// cgroup v1 cannot promise memory; a release that asks for it is refused there.
fn promises(bears: Bears) -> bool {
    bears.layout == Layout::V2
}

pub fn limits(bears: Bears) -> String {
    let mut text = format!("memory = \"{MEMORY_MIB}MiB\"\n");
    if promises(bears) {
        text += &format!("memory_min = \"{PROMISED_MIB}MiB\"\n");
    }
    text
}

pub fn attempts(bears: Bears) -> Vec<Attempt> {
    let mut all = vec![Attempt {
        name: "memory",
        script: format!(
            "dd if=/dev/zero of=/dev/null bs={WANTED_MIB}M count=1 2>/dev/null; echo ended $?"
        ),
        judge: too_much,
    }];
    if promises(bears) {
        all.push(Attempt {
            name: "promise",
            // Pages of a file on the disk are what the kernel takes back first.
            script: "rm -f /kept/io; dd if=/dev/zero of=/kept/warm bs=64k count=24 2>&1; sync"
                .to_owned(),
            judge: taken_back,
        });
    }
    all
}

fn too_much(seen: &mut Seen<'_>) -> Result<String> {
    let Seen {
        last, now, said, ..
    } = seen;
    let (own, all) = (
        now.oom_kills()? - last.oom_kills()?,
        now.all_oom_kills()? - last.all_oom_kills()?,
    );
    ensure!(
        said.contains("ended 137") && own == 1 && all == 1,
        "{own} processes of the app were killed for want of memory, {all} on the board"
    );
    let peak = now.memory_peak()?;
    ensure!(peak <= MEMORY_MIB << 20, "its peak is {peak} bytes");
    Ok(format!(
        "memory: {WANTED_MIB} MiB wanted, {MEMORY_MIB} allowed, peak {:.1}; that process was killed, and no other",
        peak as f64 / 1048576.0
    ))
}

/// All is taken back from the apps that the kernel can take: with the promise, and once more without it, which shows that it
/// was the promise that held it.
fn taken_back(seen: &mut Seen<'_>) -> Result<String> {
    let script = format!(
        "(cd /sys/fs/cgroup/coracle; min=$(cat {NAME}/memory.min); \
          cached() {{ echo \"$1 $(sed -n 's/^file //p' {NAME}/memory.stat)\"; }}; \
          take() {{ (echo 64M > memory.reclaim) 2>/dev/null; }}; \
          echo min $min; cached before; take; cached with; echo 0 > {NAME}/memory.min; take; cached without; \
          echo $min > {NAME}/memory.min)"
    );
    let told = seen.machine.run(&script, SHORT)?;
    let at = |name: &str| first::<u64>(&told, name).with_context(|| format!("no `{name}`: {told}"));
    let (before, with, without) = (at("before ")?, at("with ")?, at("without ")?);
    ensure!(
        at("min ")? == PROMISED_MIB << 20
            && before >= 1 << 20
            && with >= before / 10 * 9
            && without <= before / 2,
        "what it read was not kept as promised, or not by the promise: {told}"
    );
    Ok(format!(
        "memory promised: {} of {} KiB of a file stay while all is taken back; {} when nothing is promised",
        with >> 10,
        before >> 10,
        without >> 10
    ))
}
