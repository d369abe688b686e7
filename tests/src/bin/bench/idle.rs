//! Five hundred containers that do nothing, by each tool: how long they take to start, what they take of the memory, and whether
//! each of them answers an exec.

use crate::launch::{bundle, median};
use crate::oci::in_private_view;
use anyhow::{Context, Result, ensure};
use coracle_tests::world::World;
use std::fmt::Write;
use std::path::Path;

const CONTAINERS: usize = 500;

pub fn table(world: &World, crun: &Path) -> Result<String> {
    let bundle = bundle(world, "idle")?;
    let config = bundle.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&config)?)?;
    spec["process"]["args"] = serde_json::json!(["/bin/busybox", "sleep", "100000"]);
    std::fs::write(&config, serde_json::to_vec(&spec)?)?;
    let ours = world.built_path("../static/release/coracle-runtime");
    ensure!(ours.exists(), "{} is missing: make bench", ours.display());
    let mut out = format!(
        "{CONTAINERS} containers of `busybox sleep`, started one after the other and all running at once; then `exec` of `busybox true` in each; \
         one tool after the other. Memory is what MemAvailable has lost, by container, once the kernel has cleared away what was before.\n\n\
         | | all started, s | one, ms | of crun | memory of one, KiB | answered exec | one exec, ms | of crun |\n|---|---|---|---|---|---|---|---|\n"
    );
    let own = Idle::of("coracle-runtime", &ours, &bundle)?;
    let peer = Idle::of("crun", crun, &bundle)?;
    for (name, idle) in [("coracle-runtime", &own), ("crun", &peer)] {
        writeln!(
            out,
            "| {name} | {:.1} | {:.1} | {:.2}x | {} | {} of {CONTAINERS} | {:.1} | {:.2}x |",
            idle.starts.iter().sum::<f64>() / 1e3,
            median(idle.starts.clone()),
            median(idle.starts.clone()) / median(peer.starts.clone()),
            idle.kib_each,
            idle.execs.len(),
            median(idle.execs.clone()),
            median(idle.execs.clone()) / median(peer.execs.clone()),
        )?;
    }
    ensure!(
        own.execs.len() == CONTAINERS,
        "{} of {CONTAINERS} containers answered: {out}",
        own.execs.len()
    );
    Ok(out)
}

struct Idle {
    /// In ms.
    starts: Vec<f64>,
    execs: Vec<f64>,
    kib_each: i64,
}

impl Idle {
    /// All of it in one shell, which takes everything away again, whatever happens.
    fn of(name: &str, program: &Path, bundle: &Path) -> Result<Idle> {
        let states = bundle.join(format!("idle-{name}"));
        let body = format!(
            "cd {}; tool() {{ {} --root {} \"$@\"; }}; all=$(seq {CONTAINERS}); \
             end() {{ for i in $all; do tool delete -f corbench-idle-$i > /dev/null 2>&1; done; }}; trap end EXIT; \
             free() {{ while read -r key kib rest; do [ $key != MemAvailable: ] || echo memory $1 $kib; done < /proc/meminfo; }}; \
             now() {{ while read -r key kib rest; do [ $key != MemAvailable: ] || echo $kib; done < /proc/meminfo; }}; \
             last=0; for i in $(seq 30); do is=$(now); d=$((is-last)); [ ${{d#-}} -gt 2000 ] || break; last=$is; sleep 1; done; \
             free before; \
             for i in $all; do s=${{EPOCHREALTIME/./}}; tool run -d corbench-idle-$i < /dev/null > /dev/null 2>&1 || exit 1; \
             e=${{EPOCHREALTIME/./}}; echo start $((e-s)); done; \
             sleep 1; free after; \
             for i in $all; do s=${{EPOCHREALTIME/./}}; tool exec corbench-idle-$i /bin/busybox true < /dev/null > /dev/null 2>&1 || continue; \
             e=${{EPOCHREALTIME/./}}; echo exec $((e-s)); done",
            bundle.display(),
            program.display(),
            states.display()
        );
        let text = in_private_view(&body).with_context(|| format!("idle containers of {name}"))?;
        let numbers = |key: &str| -> Vec<f64> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(key));
            lines
                .filter_map(|number| number.trim().parse().ok())
                .collect()
        };
        let millis = |key: &str| -> Vec<f64> {
            numbers(key)
                .into_iter()
                .map(|micros| micros / 1e3)
                .collect()
        };
        let (before, after) = (numbers("memory before "), numbers("memory after "));
        let lost = before
            .first()
            .zip(after.first())
            .map(|(before, after)| before - after);
        Ok(Idle {
            starts: millis("start "),
            execs: millis("exec "),
            kib_each: (lost.context("no MemAvailable")? / CONTAINERS as f64) as i64,
        })
    }
}
