//! The last lines of a log, as one text.

use super::{Log, files};
use coracle_protocol::limits::LIMITS;
use coracle_protocol::names::AppName;
use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;

/// At most `lines` lines, each with its time, and no more of them than a command's result can hold. The newest file first:
/// what is older is only read when it has too few.
pub async fn tail(folder: &Path, app: &AppName, lines: usize) -> String {
    let mut kept: VecDeque<String> = VecDeque::new();
    let mut room = LIMITS.command_text_bytes;
    for path in files(folder, app).iter().rev() {
        let Ok(file) = File::open(path) else { continue };
        let last = last_of(file, lines - kept.len(), room).await;
        room = room.saturating_sub(last.iter().map(String::len).sum());
        for line in last.into_iter().rev() {
            kept.push_front(line);
        }
        if kept.len() >= lines || room == 0 {
            break;
        }
    }
    kept.into_iter().collect()
}

/// Of one file. The last line stays, however long it is.
async fn last_of(file: File, lines: usize, room: usize) -> VecDeque<String> {
    let (mut log, mut kept, mut bytes) = (Log::new(file), VecDeque::new(), 0);
    let mut read = 0usize;
    while let Some(entry) = log.next() {
        read += 1;
        if read.is_multiple_of(256) {
            tokio::task::yield_now().await;
        }
        let text = entry.log.strip_suffix('\n').unwrap_or(&entry.log);
        let line = format!("{} {text}\n", entry.time);
        bytes += line.len();
        kept.push_back(line);
        while kept.len() > lines || (bytes > room && kept.len() > 1) {
            bytes -= kept.pop_front().map_or(0, |line| line.len());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, numbers: std::ops::Range<u32>, text: &str) {
        let line = |n| {
            format!(
                "{{\"log\":\"{text}{n}\\n\",\"stream\":\"stdout\",\"time\":\"2027-01-01T00:00:00Z\"}}\n"
            )
        };
        let all: String = numbers.map(line).collect();
        std::fs::create_dir_all(folder.join("web")).unwrap();
        std::fs::write(folder.join("web").join(name), all).unwrap();
    }

    #[tokio::test]
    async fn the_last_lines_come_from_as_many_files_as_they_fill() {
        let folder = tempfile::tempdir().unwrap();
        let app = AppName::new("web").unwrap();
        assert_eq!(tail(folder.path(), &app, 5).await, "");
        write(folder.path(), "json.log.1", 0..1000, "n");
        write(folder.path(), "json.log", 1000..1003, "n");
        let last = |from: u32| -> String {
            let line = |n| format!("2027-01-01T00:00:00Z n{n}\n");
            (from..1003).map(line).collect()
        };
        assert_eq!(tail(folder.path(), &app, 2).await, last(1001));
        assert_eq!(tail(folder.path(), &app, 5).await, last(998));
        assert_eq!(tail(folder.path(), &app, 0).await, "");
    }

    #[tokio::test]
    async fn long_lines_are_fewer() {
        let folder = tempfile::tempdir().unwrap();
        let app = AppName::new("web").unwrap();
        write(folder.path(), "json.log", 0..100, &"x".repeat(10_000));
        let text = tail(folder.path(), &app, 100).await;
        assert_eq!(text.lines().count(), 6);
        assert!(text.ends_with("x99\n"));
        write(folder.path(), "json.log", 0..2, &"x".repeat(100_000));
        let text = tail(folder.path(), &app, 100).await;
        assert_eq!(text.lines().count(), 1);
    }
}
