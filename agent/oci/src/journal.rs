//! Messages for people and for the engine that called: standard error, and the file that `--log` names.

use std::fs::File;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::args::Global;
use crate::state::rfc3339;

/// One line of the log, as engines read it back to tell what went wrong.
#[derive(serde::Serialize)]
struct Line<'a> {
    level: &'a str,
    msg: &'a str,
    time: String,
}

pub struct Journal {
    file: Option<File>,
    json: bool,
    debug: bool,
}

impl Journal {
    /// A log that cannot be opened is told on standard error, and nothing else is lost.
    pub fn new(global: &Global) -> Journal {
        let file = global.log.as_ref().and_then(|path| {
            File::options()
                .append(true)
                .create(true)
                .open(path)
                .map_err(|error| eprintln!("coracle-runtime: {}: {error}", path.display()))
                .ok()
        });
        Journal {
            file,
            json: global.log_json,
            debug: global.debug,
        }
    }

    pub fn error(&self, message: &str) {
        eprintln!("coracle-runtime: error: {message}");
        self.write("error", message);
    }

    pub fn warn(&self, message: &str) {
        if self.file.is_none() {
            eprintln!("coracle-runtime: warning: {message}");
        }
        self.write("warning", message);
    }

    /// Only with `--debug`.
    pub fn debug(&self, message: &str) {
        if self.debug {
            eprintln!("coracle-runtime: debug: {message}");
            self.write("debug", message);
        }
    }

    fn write(&self, level: &str, msg: &str) {
        let Some(mut file) = self.file.as_ref() else {
            return;
        };
        let time = rfc3339(now());
        let text = if self.json {
            serde_json::to_string(&Line { level, msg, time }).unwrap_or_default()
        } else {
            format!("time=\"{time}\" level={level} msg={msg:?}")
        };
        // Standard error has it too.
        let _ = writeln!(file, "{text}");
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| passed.as_secs())
}
