//! A scope's name and place, as engines write them into `cgroupsPath`: `slice:prefix:name`.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::id::ContainerId;

/// Where scopes are when no slice is named.
const SLICE: &str = "system.slice";

/// Longest name of a unit (systemd, UNIT_NAME_MAX).
const LONGEST: usize = 255;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeName {
    pub slice: String,
    pub unit: String,
}

impl ScopeName {
    /// Of a container that names none.
    pub fn of_id(id: &ContainerId) -> Result<ScopeName, Failure> {
        ScopeName::new(SLICE, &format!("coracle-runtime-{id}"))
    }

    pub fn parse(text: &str) -> Result<ScopeName, Failure> {
        let parts: Vec<&str> = text.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(Failure::Config(format!(
                "cgroupsPath {text:?} is not slice:prefix:name, which --systemd-cgroup wants"
            )));
        };
        let slice = if slice.is_empty() { SLICE } else { slice };
        if name.is_empty() {
            return Err(Failure::Config(format!("cgroupsPath {text:?} has no name")));
        }
        if name.ends_with(".slice") {
            return Err(Failure::Config(format!(
                "cgroupsPath {text:?} names a slice, and a container is a scope"
            )));
        }
        match prefix {
            "" => ScopeName::new(slice, name),
            prefix => ScopeName::new(slice, &format!("{prefix}-{name}")),
        }
    }

    fn new(slice: &str, name: &str) -> Result<ScopeName, Failure> {
        let unit = format!("{name}.scope");
        for name in [slice, &unit] {
            if name.len() > LONGEST || !name.bytes().all(is_letter) {
                return Err(Failure::Config(format!(
                    "systemd takes no unit {name:?}: up to {LONGEST} letters, digits and :-_.\\"
                )));
            }
        }
        let stem = slice.strip_suffix(".slice");
        let good =
            stem.is_some_and(|stem| stem == "-" || stem.split('-').all(|part| !part.is_empty()));
        if !good {
            return Err(Failure::Config(format!(
                "{slice:?} is not the name of a slice, such as machine.slice or machine-a.slice"
            )));
        }
        Ok(ScopeName {
            slice: slice.into(),
            unit,
        })
    }

    /// Where the slice is, below what is systemd's: `a-b.slice` is within `a.slice`.
    pub fn folder(&self) -> PathBuf {
        let stem = self.slice.trim_end_matches(".slice");
        if stem == "-" {
            return PathBuf::new();
        }
        let ends = stem.match_indices('-').map(|(at, _)| at);
        ends.chain([stem.len()])
            .map(|end| format!("{}.slice", &stem[..end]))
            .fold(PathBuf::new(), |above, name| above.join(Path::new(&name)))
    }
}

/// systemd's VALID_CHARS, without the `@` of templates.
fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parts_are_a_slice_and_a_unit() {
        for (text, slice, unit, folder) in [
            (
                "machine.slice:libpod:1f",
                "machine.slice",
                "libpod-1f.scope",
                "machine.slice",
            ),
            (
                ":docker:x",
                "system.slice",
                "docker-x.scope",
                "system.slice",
            ),
            (
                "a-b-c.slice::x",
                "a-b-c.slice",
                "x.scope",
                "a.slice/a-b.slice/a-b-c.slice",
            ),
            ("-.slice:p:x", "-.slice", "p-x.scope", ""),
        ] {
            let name = ScopeName::parse(text).unwrap();
            assert_eq!(
                (name.slice.as_str(), name.unit.as_str()),
                (slice, unit),
                "{text}"
            );
            assert_eq!(name.folder(), Path::new(folder), "{text}");
        }
    }

    #[test]
    fn what_systemd_would_not_take_is_refused_with_its_name() {
        let long = format!("a.slice:p:{}", "x".repeat(250));
        for wrong in [
            "/a/b",
            "a",
            "a:b",
            "a:b:c:d",
            "a.slice:p:",
            "a:p:x",
            ".slice:p:x",
            "-a.slice:p:x",
            "a--b.slice:p:x",
            "a-.slice:p:x",
            "a/b.slice:p:x",
            "a.slice:p:x/y",
            "a.slice:p:../x",
            "a.slice:p:x y",
            "a.slice:p:x.slice",
            "a.slice:p:x+y",
            "a.slice:p:x@y",
            &long,
        ] {
            let refused = ScopeName::parse(wrong).unwrap_err().to_string();
            assert!(
                refused.contains("invalid configuration"),
                "{wrong}: {refused}"
            );
        }
    }
}
