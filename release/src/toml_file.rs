//! TOML files that people write.

use crate::files::{self, FileError};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Why one was refused.
#[derive(Debug, thiserror::Error)]
pub enum TomlFileError {
    /// The file.
    #[error("{0}")]
    File(#[from] FileError),
    /// Not TOML, or not these fields: the text shows line and field.
    #[error("`{path}`: {text}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Why, with the place.
        text: String,
    },
}

/// Reads one of at most so many bytes.
pub fn read<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<T, TomlFileError> {
    let wrong = |text: String| TomlFileError::Toml {
        path: path.to_owned(),
        text: text.trim_end().to_owned(),
    };
    let text = String::from_utf8(files::read(path, limit)?).map_err(|e| wrong(e.to_string()))?;
    toml::from_str(&text).map_err(|e| wrong(e.to_string()))
}
