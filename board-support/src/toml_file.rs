//! Reading a TOML file that people wrote: bounded, strict, and with errors that say where to look.

use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Largest configuration or profile file, in bytes. The longest one that ships has 4 KiB; a file far
/// beyond that is a mistake (a disk image under the wrong name), and is not read into memory.
pub const FILE_LIMIT_BYTES: u64 = 64 * 1024;

/// Why a TOML file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TomlFileError {
    /// The file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is larger than [`FILE_LIMIT_BYTES`].
    #[error("{} is larger than {FILE_LIMIT_BYTES} bytes, the limit for a configuration file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not TOML, an unknown key, or a value that is not allowed.
    #[error("{}:{line}: {key}{message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// `section.key: `, or empty where no key stands on that line.
        key: String,
        /// What is wrong, with the values that are allowed.
        message: String,
    },
}

/// A fault that the parser itself cannot see, at the line where `key` (`section.name`) stands.
pub(crate) fn fault(text: &str, path: &Path, key: &str, message: String) -> TomlFileError {
    TomlFileError::Invalid {
        path: path.to_owned(),
        line: line_of(text, key).unwrap_or(1),
        key: format!("{key}: "),
        message,
    }
}

/// The line, from 1, at which a dotted key stands, or else the table that would hold it.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let (mut section, mut nearest) = (String::new(), None);
    for (number, content) in text.lines().enumerate() {
        let content = content.trim();
        if let Some(header) = content.strip_prefix('[') {
            section = header
                .split(']')
                .next()
                .unwrap_or("")
                .replace(['[', ' '], "");
            if key == section || key.starts_with(&format!("{section}.")) {
                nearest = Some(number + 1);
            }
        } else if let Some((name, _)) = content.split_once('=') {
            let full = match section.as_str() {
                "" => name.trim().to_owned(),
                section => format!("{section}.{}", name.trim()),
            };
            if key == full || key.starts_with(&format!("{full}.")) {
                return Some(number + 1);
            }
        }
    }
    nearest
}

/// Reads at most [`FILE_LIMIT_BYTES`] of text.
pub(crate) fn read_text(path: &Path) -> Result<String, TomlFileError> {
    let failed = |source| TomlFileError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    File::open(path)
        .map_err(failed)?
        .take(FILE_LIMIT_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > FILE_LIMIT_BYTES {
        return Err(TomlFileError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(text)
}

/// Parses `text`; `path` is for the error only.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, TomlFileError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let (line, key) = locate(text, start);
        TomlFileError::Invalid {
            path: path.to_owned(),
            line,
            key,
            message: error.message().replace('\n', ", "),
        }
    })
}

/// The line (from 1) of a byte offset, and `section.key: ` as it stands there.
fn locate(text: &str, offset: usize) -> (usize, String) {
    let line = 1 + text.get(..offset).unwrap_or(text).matches('\n').count();
    let shown = match key_at(text, offset) {
        key if key.is_empty() => key,
        key => format!("{key}: "),
    };
    (line, shown)
}

/// `section.key` as it stands at a byte offset; `[section]` on a line without a key.
pub(crate) fn key_at(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let mut section = "";
    let mut key = "";
    for (number, content) in text.lines().enumerate().take(line) {
        let content = content.trim();
        if let Some(header) = content.strip_prefix('[') {
            section = header.split(']').next().unwrap_or("").trim_matches('[');
        }
        if number + 1 == line
            && let Some((name, _)) = content.split_once('=')
        {
            key = name.trim();
        }
    }
    match (section, key) {
        ("", key) => key.to_owned(),
        (section, "") => format!("[{section}]"),
        (section, key) => format!("{section}.{key}"),
    }
}
