//! `coracle volume …`

use super::words::Words;
use super::{Command, UsageError};
use coracle_protocol::names::VolumeName;

/// What is done with volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeCommand {
    List,
    Inspect { name: VolumeName },
    Create(NewVolume),
    Remove { name: VolumeName },
    Prune,
    Backup { name: VolumeName },
    Restore { name: VolumeName },
}

/// `volume create`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVolume {
    /// Its name.
    pub name: VolumeName,
    /// At most so many bytes; the board's own limit when left out.
    pub size_bytes: Option<u64>,
    /// At most so many files and folders.
    pub inodes: Option<u64>,
}

impl Words {
    pub(super) fn volume(&mut self) -> Result<Command, UsageError> {
        let word = self.plain.pop_front().unwrap_or_default();
        let command = match word.to_str() {
            Some("ls") => return self.listing("volume", Command::Volume(VolumeCommand::List)),
            Some("inspect") => {
                let name = self.volume_name()?;
                let command = Command::Volume(VolumeCommand::Inspect { name });
                return self.listing("volume", command);
            }
            Some("create") => VolumeCommand::Create(NewVolume {
                name: self.volume_name()?,
                size_bytes: self.size.take(),
                inodes: self.inodes.take(),
            }),
            Some("rm") => VolumeCommand::Remove {
                name: self.volume_name()?,
            },
            Some("prune") => VolumeCommand::Prune,
            Some("backup") => VolumeCommand::Backup {
                name: self.volume_name()?,
            },
            Some("restore") => VolumeCommand::Restore {
                name: self.volume_name()?,
            },
            _ => {
                return Err(UsageError::Missing {
                    command: "volume",
                    what: "ls, inspect, create, rm, prune, backup or restore",
                });
            }
        };
        self.end("volume", Command::Volume(command))
    }

    fn volume_name(&mut self) -> Result<VolumeName, UsageError> {
        let word = self.plain.pop_front().ok_or(UsageError::Missing {
            command: "volume",
            what: "the name of a volume",
        })?;
        Ok(VolumeName::new(&word.to_string_lossy())?)
    }
}

/// `64MiB`, `64MB` (of 1000) or a number of bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1000 * 1000,
        "GB" => 1000 * 1000 * 1000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => 0,
    };
    let number = digits.parse::<u64>().ok().filter(|_| unit > 0);
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("`{text}` is no size; write a number of bytes, `64MiB` or `64MB`"))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes() {
        assert_eq!(size("65536"), Ok(65_536));
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("2MB"), Ok(2_000_000));
        for bad in [
            "",
            "MiB",
            "1.5MiB",
            "64 MiB",
            "64mib",
            "-1",
            "99999999999999999GiB",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
