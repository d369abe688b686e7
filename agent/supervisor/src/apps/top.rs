//! The processes of an app, as the board's kernel sees them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

/// Processes that are listed; the answer has to fit into one frame.
const MOST: usize = 512;
/// Bytes of a command line.
const COMMAND: u64 = 256;

/// What each column is, as ps(1) calls it.
pub const TITLES: [&str; 5] = ["UID", "PID", "PPID", "TIME", "CMD"];

/// A row for each process that is still there.
pub fn rows(processes: &[i32]) -> Vec<Vec<String>> {
    let there = processes.iter().take(MOST);
    there.filter_map(|pid| row(*pid)).collect()
}

fn row(pid: i32) -> Option<Vec<String>> {
    let folder = format!("/proc/{pid}");
    let user = std::fs::metadata(&folder).ok()?.uid();
    let stat = std::fs::read_to_string(format!("{folder}/stat")).ok()?;
    // Its name may hold anything, blanks and brackets too.
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let seconds = (ticks(11)? + ticks(12)?) / 100;
    let mut command = Vec::new();
    let file = File::open(format!("{folder}/cmdline")).ok()?;
    file.take(COMMAND).read_to_end(&mut command).ok()?;
    let command = match command.strip_suffix(&[0]).unwrap_or(&command) {
        // A zombie, for one.
        [] => format!("[{name}]"),
        words => String::from_utf8_lossy(words).into_owned(),
    };
    // It goes to somebody's terminal, and the app has written it.
    let plain = |c: char| match c {
        '\0' => ' ',
        c if c.is_control() => '?',
        c => c,
    };
    Some(vec![
        user.to_string(),
        pid.to_string(),
        (*fields.get(1)?).to_owned(),
        format!(
            "{:02}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        ),
        command.chars().map(plain).collect(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_listed_with_its_parent_and_its_words() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read x", "\u{1b}[31m a"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let own = std::process::id().to_string();
        let listed = loop {
            let listed = rows(&[pid as i32, i32::MAX]);
            assert_eq!(listed.len(), 1);
            if listed[0][4].starts_with("sh ") {
                break listed;
            }
        };
        assert_eq!(listed[0].len(), TITLES.len());
        assert_eq!(listed[0][1..3], [pid.to_string(), own]);
        assert_eq!(listed[0][3..], ["00:00:00", "sh -c read x ?[31m a"]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(rows(&[pid as i32]).is_empty());
    }
}
