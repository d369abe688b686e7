//! The log writer's inside: from two pipes to docker's json-file lines, with rotation.
//!
//! It runs in a child of its own that outlives the supervisor, so that an app's stdout never breaks, and
//! a slow flash stalls nobody but the app that writes. Format: one JSON object a line, `log` (with its
//! newline; without one when a line was cut at [`LINE_BYTES`]), `stream`, `time` (RFC 3339, UTC).

use rustix::event::{PollFd, PollFlags, poll};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of one line, as Docker cuts them.
pub const LINE_BYTES: usize = 16 * 1024;

/// How much is kept: `files` files of `file_bytes` bytes.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// A file that has grown past it is put aside.
    pub file_bytes: u64,
    /// The one that is written and those before it.
    pub files: u32,
}

struct Stream {
    name: &'static str,
    pipe: File,
    pending: Vec<u8>,
    open: bool,
}

struct LogFile {
    path: PathBuf,
    group: Option<u32>,
    rotation: Rotation,
    file: File,
    bytes: u64,
}

/// Copies both pipes into `folder/json.log` until both have ended.
pub fn run(
    stdout: OwnedFd,
    stderr: OwnedFd,
    folder: &Path,
    group: Option<u32>,
    rotation: Rotation,
) -> io::Result<()> {
    let mut log = LogFile::open(folder, group, rotation)?;
    let stream = |name, pipe: OwnedFd| Stream {
        name,
        pipe: pipe.into(),
        pending: Vec::new(),
        open: true,
    };
    let mut streams = [stream("stdout", stdout), stream("stderr", stderr)];
    let mut buffer = vec![0; LINE_BYTES];
    while streams.iter().any(|stream| stream.open) {
        for index in ready(&streams)? {
            let stream = &mut streams[index];
            match stream.pipe.read(&mut buffer) {
                Ok(0) => {
                    stream.open = false;
                    stream.flush(&mut log);
                }
                Ok(count) => stream.take(&buffer[..count], &mut log),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => stream.open = false,
            }
        }
    }
    Ok(())
}

fn ready(streams: &[Stream; 2]) -> io::Result<Vec<usize>> {
    let open: Vec<usize> = (0..2).filter(|index| streams[*index].open).collect();
    let mut polled: Vec<PollFd<'_>> = open
        .iter()
        .map(|index| PollFd::new(&streams[*index].pipe, PollFlags::IN))
        .collect();
    match poll(&mut polled, None) {
        Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
        other => other?,
    };
    let ready = open.iter().zip(&polled);
    Ok(ready
        .filter(|(_, fd)| !fd.revents().is_empty())
        .map(|(index, _)| *index)
        .collect())
}

impl Stream {
    fn take(&mut self, bytes: &[u8], log: &mut LogFile) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.pending.len() >= LINE_BYTES {
                self.flush(log);
            }
        }
    }

    fn flush(&mut self, log: &mut LogFile) {
        if self.pending.is_empty() {
            return;
        }
        let line = line(&self.pending, self.name, SystemTime::now());
        self.pending.clear();
        // A full disk loses lines, never the app: it must not block on its own output.
        log.write(&line);
    }
}

/// One line of the file.
fn line(text: &[u8], stream: &str, at: SystemTime) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        log: std::borrow::Cow<'a, str>,
        stream: &'a str,
        time: String,
    }
    let line = Line {
        log: String::from_utf8_lossy(text),
        stream,
        time: rfc3339(at),
    };
    let mut json = serde_json::to_vec(&line).unwrap_or_default();
    json.push(b'\n');
    json
}

/// RFC 3339 in UTC, with nanoseconds. A clock outside the years 1970 to 9999 stays at their end.
fn rfc3339(at: SystemTime) -> String {
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_nanos(at.clamp(UNIX_EPOCH, last)).to_string()
}

impl LogFile {
    fn open(folder: &Path, group: Option<u32>, rotation: Rotation) -> io::Result<Self> {
        let path = folder.join("json.log");
        let file = Self::open_file(&path, group)?;
        Ok(Self {
            bytes: file.metadata()?.len(),
            path,
            group,
            rotation,
            file,
        })
    }

    fn open_file(path: &Path, group: Option<u32>) -> io::Result<File> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        std::os::unix::fs::fchown(&file, None, group)?;
        Ok(file)
    }

    fn write(&mut self, line: &[u8]) {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.rotation.file_bytes {
            // Where rotation fails the old file goes on: better too long than lost.
            let _ = self.rotate();
        }
        if self.file.write_all(line).is_ok() {
            self.bytes += line.len() as u64;
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let name = |number: u32| {
            let mut name = self.path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.rotation.files <= 1 {
            self.file.set_len(0)?;
            self.bytes = 0;
            return Ok(());
        }
        for number in (1..self.rotation.files - 1).rev() {
            // One that is not there yet.
            let _ = fs::rename(name(number), name(number + 1));
        }
        fs::rename(&self.path, name(1))?;
        self.file = Self::open_file(&self.path, self.group)?;
        self.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(stdout: &[u8], rotation: Rotation) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let (read_out, write_out) = rustix::pipe::pipe().unwrap();
        let (read_err, write_err) = rustix::pipe::pipe().unwrap();
        std::thread::scope(|scope| {
            let path = folder.path();
            scope.spawn(move || run(read_out, read_err, path, None, rotation).unwrap());
            File::from(write_out).write_all(stdout).unwrap();
            File::from(write_err).write_all(b"oops\n").unwrap();
        });
        folder
    }

    const ROOMY: Rotation = Rotation {
        file_bytes: 1 << 20,
        files: 3,
    };

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn lines_of_both_streams_as_docker_writes_them() {
        let folder = copy(b"one\n\"two\" \xff\nno newline", ROOMY);
        let lines = lines(&folder.path().join("json.log"));
        let of = |stream: &str| -> Vec<&str> {
            let lines = lines.iter().filter(|line| line["stream"] == stream);
            lines.map(|line| line["log"].as_str().unwrap()).collect()
        };
        assert_eq!(of("stdout"), ["one\n", "\"two\" \u{fffd}\n", "no newline"]);
        assert_eq!(of("stderr"), ["oops\n"]);
    }

    #[test]
    fn a_long_line_is_cut_and_loses_nothing() {
        let long = vec![b'x'; 3 * LINE_BYTES + 5];
        let folder = copy(&long, ROOMY);
        let lines = lines(&folder.path().join("json.log"));
        let logs = lines.iter().filter(|line| line["stream"] == "stdout");
        let total: usize = logs.map(|line| line["log"].as_str().unwrap().len()).sum();
        assert_eq!(total, long.len());
    }

    #[test]
    fn rotation_keeps_the_newest_and_bounds_the_rest() {
        let rotation = Rotation {
            file_bytes: 1000,
            files: 3,
        };
        let text: String = (0..200).map(|n| format!("line {n}\n")).collect();
        let folder = copy(text.as_bytes(), rotation);
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["json.log", "json.log.1", "json.log.2"]);
        for name in &names {
            assert!(fs::metadata(folder.path().join(name)).unwrap().len() <= 1000);
        }
        let newest = fs::read_to_string(folder.path().join("json.log")).unwrap();
        assert!(newest.contains("line 199"));
    }

    #[test]
    fn times_are_civil() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(at(1_767_225_599), "2025-12-31T23:59:59.000000000Z");
    }
}
