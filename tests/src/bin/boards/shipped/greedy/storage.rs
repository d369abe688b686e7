//! Disk and log: bytes, files, rates.

use super::{Attempt, Bears, NAME, SHORT, Seen, look::first};
use anyhow::{Context, Result, ensure};
use coracle_tests::service::wait_for;
use std::time::Duration;

const LAYER_KIB: u64 = 1024;
const LAYER_FILES: u64 = 256;
const VOLUME_KIB: u64 = 3072;
const VOLUME_FILES: u64 = 128;
const MEMORY_FOLDER_KIB: u64 = 1024;
const MIB_PER_SECOND: u64 = 2;
/// More than pieces of 64 KiB at that rate are.
const OPERATIONS_PER_SECOND: u64 = 60;
/// What the board's `board.toml` gives each app.
pub const LOG_MIB: u64 = 1;

/// What it wants of each.
const WANTED_FILES: u64 = 400;
const WANTED_MIB: u64 = 6;
const WANTED_OPERATIONS: u64 = 240;
const WANTED_LOG_MIB: u64 = 3;

/// The throttle lets a slice of a tenth of a second through at once.
const SLACK_SECONDS: f64 = 0.3;

/// Its process: who writes so many KiB there gets as many KiB of log.
pub const MAIN: &str = "mkfifo /scratch/ask
while read kib < /scratch/ask; do
  yes 0123456789012345678901234567890123456789 | head -c ${kib}k
  echo; echo the last word
  : > /scratch/said
done
";

pub fn limits(bears: Bears) -> String {
    let mut text = format!("disk = \"{LAYER_KIB}KiB\"\ndisk_inodes = {LAYER_FILES}\n");
    for way in ["read", "write"].iter().filter(|_| bears.io) {
        text += &format!(
            "io_{way}_per_second = \"{MIB_PER_SECOND}MiB\"\nio_{way}_operations_per_second = {OPERATIONS_PER_SECOND}\n"
        );
    }
    text
}

pub fn folders() -> String {
    format!(
        "\n[[apps.volumes]]\nname = \"{NAME}\"\ntarget = \"/kept\"\nsize = \"{VOLUME_KIB}KiB\"\ninodes = {VOLUME_FILES}\n\
         \n[[apps.tmpfs]]\ntarget = \"/scratch\"\nsize = \"{MEMORY_FOLDER_KIB}KiB\"\n"
    )
}

pub fn attempts(bears: Bears) -> Vec<Attempt> {
    let mut all = vec![
        Attempt {
            name: "fill",
            script: "for f in /layer /kept/full /scratch/full; do \
                   dd if=/dev/zero of=$f bs=64k count=128 2>&1 | sed -n \"s|^dd: |$f |p\"; \
                 done; sync; du -k /layer /kept/full /scratch/full; rm /layer /kept/full /scratch/full"
                .to_owned(),
            judge: bytes,
        },
        Attempt {
            name: "inodes",
            script: format!(
                "{{ for d in /many /kept/many; do mkdir $d; n=0; \
                   while [ $n -lt {WANTED_FILES} ] && true > $d/$n; do n=$((n+1)); done; echo made $d: $n; rm -r $d; \
                 done; }} 2>&1"
            ),
            judge: files,
        },
        Attempt {
            name: "log",
            script: format!(
                "echo {} > /scratch/ask; n=0; while [ ! -e /scratch/said ] && [ $n -lt 600 ]; do sleep 0.2; n=$((n+1)); done; rm /scratch/said",
                WANTED_LOG_MIB * 1024
            ),
            judge: log,
        },
    ];
    if !bears.io {
        return all;
    }
    // The same 1.5 MiB again and again, past the cache; then small pieces.
    let rounds = WANTED_MIB * 1024 / (24 * 64);
    for (name, rounds, pieces, to_disk, judge) in [
        ("write", rounds, "bs=64k count=24", true, written as _),
        ("read", rounds, "bs=64k count=24", false, read as _),
        ("writes", 1, "bs=4k count=240", true, writes as _),
        ("reads", 1, "bs=4k count=240", false, reads as _),
    ] {
        let round = match to_disk {
            true => format!("dd if=/dev/zero of=/kept/io {pieces} conv=notrunc oflag=direct 2>&1"),
            false => format!("dd if=/kept/io of=/dev/null {pieces} iflag=direct 2>&1"),
        };
        all.push(Attempt {
            name,
            script: format!(
                "read from rest < /proc/uptime; n=0; while [ $n -lt {rounds} ]; do {round} || exit; n=$((n+1)); done; \
                 read to rest < /proc/uptime; echo from $from; echo to $to"
            ),
            judge,
        });
    }
    all
}

fn refused(line: &str) -> bool {
    line.contains("No space left") || line.contains("quota exceeded")
}

fn bytes(seen: &mut Seen<'_>) -> Result<String> {
    let mut told = Vec::new();
    for (file, what, allowed) in [
        ("/layer", "writable layer", LAYER_KIB),
        ("/kept/full", "volume", VOLUME_KIB),
        ("/scratch/full", "folder in memory", MEMORY_FOLDER_KIB),
    ] {
        let mut lines = seen.said.lines();
        let refused = lines.any(|line| line.starts_with(&format!("{file} ")) && refused(line));
        let size = seen
            .said
            .lines()
            .find_map(|line| line.strip_suffix(file)?.trim().parse::<u64>().ok());
        let size = size.with_context(|| format!("nothing of {file}"))?;
        ensure!(
            refused && size <= allowed && size >= allowed / 2,
            "{what}: {size} KiB written, {allowed} allowed, refused: {refused}"
        );
        told.push(format!("{what} {size} of {allowed} KiB"));
    }
    Ok(format!("disk, 8 MiB wanted of each: {}", told.join(", ")))
}

fn files(seen: &mut Seen<'_>) -> Result<String> {
    let mut told = Vec::new();
    for (folder, what, allowed) in [
        ("/many", "writable layer", LAYER_FILES),
        ("/kept/many", "volume", VOLUME_FILES),
    ] {
        let made = first::<u64>(seen.said, &format!("made {folder}: "));
        let made = made.with_context(|| format!("nothing of {folder}"))?;
        let mut lines = seen.said.lines();
        let refused = lines.any(|line| line.contains(&format!(" {folder}/")) && refused(line));
        // Folders count, and what the file system has made for the layer itself.
        ensure!(
            refused && made < allowed && made >= allowed - 16,
            "{what}: {made} files made, {allowed} allowed, refused: {refused}"
        );
        told.push(format!("{what} {made} of {allowed}"));
    }
    Ok(format!(
        "files, {WANTED_FILES} wanted in each: {}",
        told.join(", ")
    ))
}

/// The newest lines stay.
fn log(seen: &mut Seen<'_>) -> Result<String> {
    let command = format!(
        "cd /var/lib/coracle/logs/{NAME} && du -k . && tail -n 1 json.log | grep 'the last word'; cd /"
    );
    let machine = &mut seen.machine;
    let kib = wait_for("the log's last line", Duration::from_secs(20), || {
        let said = machine.run(&command, SHORT)?;
        let kib = said.split_whitespace().next().and_then(|n| n.parse().ok());
        Ok(kib.filter(|_| said.contains("the last word")))
    })?;
    let allowed = LOG_MIB * 1024;
    // A block for the folder and a part of one for each file.
    ensure!(
        (allowed / 2..=allowed + 24).contains(&kib),
        "{kib} KiB of log, {allowed} allowed"
    );
    Ok(format!(
        "log: {WANTED_LOG_MIB} MiB written, {LOG_MIB} allowed, {kib} KiB on the disk, the last line among them"
    ))
}

fn seconds(said: &str) -> Result<f64> {
    let at = |name| first::<f64>(said, name).with_context(|| format!("no `{name}`"));
    Ok(at("to ")? - at("from ")?)
}

fn at_rate(what: &str, moved: u64, said: &str) -> Result<String> {
    let (seconds, moved) = (seconds(said)?, moved as f64 / 1048576.0);
    let least = WANTED_MIB as f64 / MIB_PER_SECOND as f64 - SLACK_SECONDS;
    ensure!(
        moved >= WANTED_MIB as f64 && seconds >= least,
        "{moved:.1} MiB in {seconds:.2} s"
    );
    Ok(format!(
        "{what}: {moved:.1} MiB in {seconds:.2} s, {MIB_PER_SECOND} MiB a second allowed"
    ))
}

fn at_operations(what: &str, done: u64, said: &str) -> Result<String> {
    let seconds = seconds(said)?;
    let least = WANTED_OPERATIONS as f64 / OPERATIONS_PER_SECOND as f64 - SLACK_SECONDS;
    ensure!(
        done >= WANTED_OPERATIONS && seconds >= least,
        "{done} operations in {seconds:.2} s"
    );
    Ok(format!(
        "{what} of 4 KiB: {done} in {seconds:.2} s, {OPERATIONS_PER_SECOND} a second allowed"
    ))
}

fn written(seen: &mut Seen<'_>) -> Result<String> {
    let moved = seen.now.written() - seen.last.written();
    at_rate("writing", moved, seen.said)
}

fn read(seen: &mut Seen<'_>) -> Result<String> {
    at_rate("reading", seen.now.read() - seen.last.read(), seen.said)
}

fn writes(seen: &mut Seen<'_>) -> Result<String> {
    let done = seen.now.writes() - seen.last.writes();
    at_operations("writes", done, seen.said)
}

fn reads(seen: &mut Seen<'_>) -> Result<String> {
    let done = seen.now.reads() - seen.last.reads();
    at_operations("reads", done, seen.said)
}
