//! An app's log, from the json-files that the supervisor writes, as Docker's multiplexed stream.
//! Memory is bounded whatever the log's length: `tail` counts first and skips then.

mod tail;

use crate::docker::logs::{Entry, frame};
use crate::supervisor::Supervisor;
use bytes::Bytes;
use coracle_protocol::names::AppName;
use coracle_protocol::report::AppState;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

pub use tail::tail;

/// Longest line that is read, in bytes; the writer cuts at 16 KiB and JSON may escape each byte.
const LINE: u64 = 128 * 1024;
/// Between two looks at a log that is followed.
const LOOK: Duration = Duration::from_millis(300);
/// Pieces are gathered to about this size, in bytes.
const PIECE: usize = 8 * 1024;

/// What a reader wants.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Lines of stdout.
    pub stdout: bool,
    /// Lines of stderr.
    pub stderr: bool,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Not before.
    pub since: Option<Duration>,
    /// Not after.
    pub until: Option<Duration>,
    /// Only the last so many.
    pub tail: Option<usize>,
    /// Go on as the app writes.
    pub follow: bool,
}

/// The files of an app's log, the oldest first: `json.log.2`, `json.log.1`, `json.log`.
pub fn files(folder: &Path, app: &AppName) -> Vec<PathBuf> {
    let folder = folder.join(app.as_str());
    let rank = |name: &str| match name.rsplit_once('.') {
        Some((_, "log")) => Some(0),
        Some((stem, number)) if stem.ends_with(".log") => number.parse::<u32>().ok(),
        _ => None,
    };
    let found: BinaryHeap<(u32, PathBuf)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((rank(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    let by_rank = found.into_sorted_vec().into_iter();
    by_rank.rev().map(|(_, path)| path).collect()
}

/// Sends the log into `pieces` until its end, or until the app has ended when it is followed.
pub async fn send(
    folder: PathBuf,
    app: AppName,
    wanted: Wanted,
    pieces: mpsc::Sender<Bytes>,
    supervisor: Supervisor,
    mut shutdown: watch::Receiver<bool>,
) {
    let files = files(&folder, &app);
    let mut skip = wanted
        .tail
        .map_or(0, |tail| count(&files, wanted).saturating_sub(tail));
    let mut last = None;
    for path in &files {
        let Ok(file) = File::open(path) else { continue };
        let mut log = Log::new(file);
        if pump(&mut log, wanted, &mut skip, &pieces).await.is_err() {
            return;
        }
        last = Some((path.clone(), log));
    }
    if !wanted.follow {
        return;
    }
    let mut looks = 0u32;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = pieces.closed() => return,
            _ = shutdown.changed() => return,
        }
        let Some((path, log)) = &mut last else {
            let newest = self::files(&folder, &app).pop();
            last = newest.and_then(|path| Some((path.clone(), Log::new(File::open(path).ok()?))));
            continue;
        };
        match pump(log, wanted, &mut skip, &pieces).await {
            Err(()) => return,
            Ok(0) => {}
            Ok(_) => continue,
        }
        if log.was_replaced(path) {
            last = File::open(&*path)
                .ok()
                .map(|file| (path.clone(), Log::new(file)));
            continue;
        }
        looks += 1;
        // About every three seconds: an app that has ended for good writes no more.
        if looks.is_multiple_of(10)
            && let Ok(status) = supervisor.status().await
        {
            let state = status
                .current
                .iter()
                .flat_map(|set| &set.apps)
                .find(|a| a.name == app);
            if state.is_none_or(|app| app.state == AppState::Exited) {
                let _ = pump(log, wanted, &mut skip, &pieces).await;
                return;
            }
        }
    }
}

/// Lines that count for `tail`.
fn count(files: &[PathBuf], wanted: Wanted) -> usize {
    let mut total = 0;
    for path in files {
        let Ok(file) = File::open(path) else { continue };
        let mut log = Log::new(file);
        while let Some(entry) = log.next() {
            total += usize::from(accepts(wanted, &entry));
        }
    }
    total
}

fn accepts(wanted: Wanted, entry: &Entry) -> bool {
    let stream = if entry.is_stderr() {
        wanted.stderr
    } else {
        wanted.stdout
    };
    stream
        && wanted.since.is_none_or(|since| entry.at() >= since)
        && wanted.until.is_none_or(|until| entry.at() <= until)
}

/// Sends what there is; how many lines. An error when nobody reads any more.
async fn pump(
    log: &mut Log,
    wanted: Wanted,
    skip: &mut usize,
    pieces: &mpsc::Sender<Bytes>,
) -> Result<usize, ()> {
    let mut piece = Vec::new();
    let mut lines = 0;
    while let Some(entry) = log.next() {
        lines += 1;
        if !accepts(wanted, &entry) {
            continue;
        }
        if *skip > 0 {
            *skip -= 1;
            continue;
        }
        frame(&mut piece, &entry, wanted.timestamps);
        if piece.len() >= PIECE {
            let full = std::mem::take(&mut piece);
            pieces.send(full.into()).await.map_err(|_| ())?;
        }
        if lines % 256 == 0 {
            tokio::task::yield_now().await;
        }
    }
    if !piece.is_empty() {
        pieces.send(piece.into()).await.map_err(|_| ())?;
    }
    Ok(lines)
}

/// One file, read line by line. A line that is not whole yet is read again later.
struct Log {
    reader: BufReader<File>,
    offset: u64,
    inode: u64,
}

impl Log {
    fn new(file: File) -> Self {
        let inode = file.metadata().map_or(0, |m| m.ino());
        Self {
            reader: BufReader::with_capacity(16 * 1024, file),
            offset: 0,
            inode,
        }
    }

    /// The next whole line that can be read. Lines that cannot are passed over.
    fn next(&mut self) -> Option<Entry> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.reader).take(LINE).read_until(b'\n', &mut line);
            let read = read.ok()?;
            if line.last() != Some(&b'\n') && (read as u64) < LINE {
                self.reader.seek(SeekFrom::Start(self.offset)).ok()?;
                return None;
            }
            self.offset += read as u64;
            if let Ok(entry) = serde_json::from_slice(&line) {
                return Some(entry);
            }
        }
    }

    /// Whether the path names another file by now, or the file was cut: the log was rotated.
    fn was_replaced(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|m| m.ino() != self.inode || m.len() < self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn line(text: &str, second: u32) -> String {
        format!(
            "{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2024-01-01T00:00:{second:02}.5Z\"}}\n"
        )
    }

    #[test]
    fn rotated_files_come_oldest_first_and_others_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let app = AppName::new("web").unwrap();
        let logs = folder.path().join("web");
        std::fs::create_dir(&logs).unwrap();
        for name in ["web.log", "web.log.1", "web.log.10", "web.log.2", "x.new"] {
            std::fs::write(logs.join(name), "").unwrap();
        }
        let names: Vec<_> = files(folder.path(), &app)
            .into_iter()
            .map(|p| p.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["web.log.10", "web.log.2", "web.log.1", "web.log"]);
    }

    #[test]
    fn half_a_line_waits_for_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let whole = line("two", 2);
        std::fs::write(&path, line("one", 1) + "garbage\n" + &whole[..20]).unwrap();
        let mut log = Log::new(File::open(&path).unwrap());
        assert_eq!(log.next().unwrap().log, "one\n");
        assert!(log.next().is_none());
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(&whole.as_bytes()[20..]).unwrap();
        assert_eq!(log.next().unwrap().log, "two\n");
        assert!(!log.was_replaced(&path));
        std::fs::write(&path, "").unwrap();
        assert!(log.was_replaced(&path));
    }
}
