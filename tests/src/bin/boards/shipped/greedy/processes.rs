//! CPU, cores, open files and processes.

use super::{Attempt, Bears, SHORT, Seen};
use anyhow::{Context, Result, ensure};

const CPU_MILLIS: u64 = 250;
const PIDS: u64 = 12;
const OPEN_FILES: usize = 24;

/// What it wants of each.
const SPUN_SECONDS: u64 = 3;
const WANTED_PROCESSES: u64 = 40;
const WANTED_FILES: usize = 40;

pub fn limits(bears: Bears) -> String {
    let mut text = format!("cpu_millis = {CPU_MILLIS}\npids = {PIDS}\nopen_files = {OPEN_FILES}\n");
    if bears.cpus > 1 {
        text += "cpus_exclusive = 1\n";
    }
    text
}

pub fn attempts(bears: Bears) -> Vec<Attempt> {
    let mut all = vec![Attempt {
        name: "cpu",
        script: format!("timeout {SPUN_SECONDS} sh -c 'while :; do :; done'; echo ended $?"),
        judge: cpu,
    }];
    if bears.cpus > 1 {
        all.push(Attempt {
            name: "cores",
            script: "taskset ff grep Cpus_allowed_list /proc/self/status 2>&1".to_owned(),
            judge: cores,
        });
    }
    all.push(Attempt {
        name: "files",
        // It opens all of them before it reads the first one.
        script: format!(
            "sh -c 'ulimit -n {}' 2>&1; tail -n 1 {} 2>&1; echo ended $?",
            2 * WANTED_FILES,
            vec!["/dev/null"; WANTED_FILES].join(" ")
        ),
        judge: files,
    });
    all.push(Attempt {
        name: "fork",
        script: format!(
            "sh -c 'n=0; while [ $n -lt {WANTED_PROCESSES} ]; do sleep 30 & n=$((n+1)); done' 2>&1; echo ended $?"
        ),
        judge: forks,
    });
    all
}

fn cpu(seen: &mut Seen<'_>) -> Result<String> {
    let Seen { last, now, .. } = seen;
    let (used, seconds) = (
        now.cpu_seconds()? - last.cpu_seconds()?,
        now.seconds - last.seconds,
    );
    let allowed = CPU_MILLIS as f64 / 1000.0;
    let throttled = now.throttled()? - last.throttled()?;
    // A period's worth may come before the first look at the clock.
    ensure!(
        used <= allowed * (seconds + 0.2) && used >= allowed && throttled >= 10,
        "{used:.2} s of CPU in {seconds:.1} s, held up {throttled} times"
    );
    Ok(format!(
        "CPU: {used:.2} s in {seconds:.1} s, {SPUN_SECONDS} of them without a pause, {CPU_MILLIS} thousandths allowed, held up {throttled} times"
    ))
}

/// It asked for eight of them; the other apps must not be allowed on the one that it has.
fn cores(seen: &mut Seen<'_>) -> Result<String> {
    let list = |text: &str| -> Vec<String> {
        let lists = text.split("Cpus_allowed_list:").skip(1);
        let lists = lists.filter_map(|rest| rest.lines().next());
        lists.map(|list| list.trim().to_owned()).collect()
    };
    let own = list(seen.said).pop().context("no list of CPUs")?;
    let others = "for p in $(pidof hello); do grep Cpus_allowed_list /proc/$p/status; done";
    let others = list(&seen.machine.run(others, SHORT)?);
    let alone = own
        .parse()
        .is_ok_and(|cpu| !others.iter().any(|list| has(list, cpu)));
    ensure!(
        alone && others.len() >= 2,
        "it may run on {own}, the others on {others:?}"
    );
    Ok(format!(
        "CPUs of its own: 8 wanted, it runs on {own}, the others on {}",
        others.join(" and ")
    ))
}

/// Whether a list such as `0-2,5` has this CPU.
fn has(list: &str, cpu: u32) -> bool {
    list.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        // What cannot be read is not free of it.
        let number = |text: &str, other| text.trim().parse().unwrap_or(other);
        (number(first, 0)..=number(last, u32::MAX)).contains(&cpu)
    })
}

fn files(seen: &mut Seen<'_>) -> Result<String> {
    let count = |line: &str| seen.said.matches(line).count();
    let (opened, refused) = (count("==> /dev/null"), count("Too many open files"));
    // Its shell's own, and those of whoever started it, count too.
    ensure!(
        opened + refused == WANTED_FILES
            && (OPEN_FILES - 8..=OPEN_FILES).contains(&opened)
            && count("not permitted") == 1,
        "{opened} files open, {refused} refused"
    );
    Ok(format!(
        "open files: {WANTED_FILES} wanted, {OPEN_FILES} allowed, {opened} beside the standard ones; the limit was not to be raised"
    ))
}

fn forks(seen: &mut Seen<'_>) -> Result<String> {
    let Seen { last, now, .. } = seen;
    let refused = now.refused_forks()? - last.refused_forks()?;
    let there = now.processes()?;
    ensure!(
        refused >= 1 && (PIDS - 3..=PIDS).contains(&there),
        "{there} processes, {refused} refused"
    );
    Ok(format!(
        "processes: {WANTED_PROCESSES} wanted, {PIDS} allowed, {there} there"
    ))
}

#[cfg(test)]
mod tests {
    use super::has;

    #[test]
    fn a_list_of_cpus_has_those_of_its_ranges() {
        for (list, cpu, wanted) in [
            ("0-2", 3, false),
            ("0-2", 2, true),
            ("0", 0, true),
            ("0,4-5", 4, true),
            ("0,4-5", 3, false),
            ("", 3, true),
        ] {
            assert_eq!(has(list, cpu), wanted, "{list} {cpu}");
        }
    }
}
