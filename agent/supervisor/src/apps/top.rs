//! The processes of an app, as the board's kernel sees them.
//!
//! A process's command line is in its own memory, which it can keep from whoever reads it for as long as it likes (by a fault of a
//! page that a slow disk, or nobody, brings). So a child reads them in the supervisor's place, and its time is short. All else that
//! is told of a process is in the kernel's memory.

use crate::health::probe::report_file;
use crate::kernel::alarm;
use coracle_runtime::{Child, spawn_plain};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::MetadataExt;

/// Processes that are listed; the answer has to fit into one frame.
const MOST: usize = 512;
/// Bytes of a command line.
const COMMAND: u64 = 256;
/// For all of them. What was not read by then is told by its name, as a process without a command line is.
const SECONDS: u32 = 2;

/// What each column is, as ps(1) calls it.
pub const TITLES: [&str; 5] = ["UID", "PID", "PPID", "TIME", "CMD"];

/// One that is under way.
#[derive(Debug)]
pub struct Look {
    rows: Vec<Vec<String>>,
    child: Child,
    commands: File,
}

impl Look {
    /// At each process that is still there.
    ///
    /// # Errors
    /// In words, when there can be no child.
    pub fn begin(processes: &[i32]) -> Result<Self, String> {
        let there = processes.iter().take(MOST);
        let rows: Vec<_> = there.filter_map(|pid| row(*pid)).collect();
        let (commands, of_child) = report_file()?;
        let child = spawn_plain(vec![of_child], |files| {
            alarm(SECONDS);
            for (row, to) in rows.iter().zip(files.iter().cycle()) {
                let line = command(&row[1]).unwrap_or_default() + "\n";
                if rustix::io::write(to, line.as_bytes()).is_err() {
                    return 1;
                }
            }
            0
        });
        let child = child.map_err(|e| e.to_string())?;
        Ok(Self {
            rows,
            child,
            commands,
        })
    }

    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// A row for each, now that the child has ended.
    pub fn ended(mut self) -> Vec<Vec<String>> {
        let mut text = String::new();
        let read = self.commands.rewind();
        // One that cannot be read leaves the names to tell.
        let _ = read.and_then(|()| self.commands.read_to_string(&mut text));
        for (row, line) in self.rows.iter_mut().zip(text.split_inclusive('\n')) {
            if let Some(command @ [_, ..]) = line.strip_suffix('\n').map(str::as_bytes) {
                row[4] = String::from_utf8_lossy(command).into_owned();
            }
        }
        self.rows
    }
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
        plain(format!("[{name}]").as_bytes()),
    ])
}

/// Of a zombie it is empty.
fn command(pid: &str) -> std::io::Result<String> {
    let mut command = Vec::new();
    let file = File::open(format!("/proc/{pid}/cmdline"))?;
    file.take(COMMAND).read_to_end(&mut command)?;
    Ok(plain(command.strip_suffix(&[0]).unwrap_or(&command)))
}

/// It goes to somebody's terminal, and the app has written it.
fn plain(words: &[u8]) -> String {
    let plain = |c: char| match c {
        '\0' => ' ',
        c if c.is_control() => '?',
        c => c,
    };
    String::from_utf8_lossy(words).chars().map(plain).collect()
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
        while !command(&pid.to_string()).unwrap().starts_with("sh ") {}
        let listed = row(pid as i32).unwrap();
        assert_eq!(listed.len(), TITLES.len());
        assert_eq!(listed[1..3], [pid.to_string(), own]);
        assert_eq!(listed[3..], ["00:00:00", "[sh]"]);
        assert_eq!(command(&listed[1]).unwrap(), "sh -c read x ?[31m a");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(row(pid as i32), None);
    }
}
