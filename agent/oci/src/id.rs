//! Names of containers, which become names of folders and cgroups.

use std::fmt;

use crate::failure::Failure;

/// Letters, digits and `_ + - .`, as runc has it; never `.` or `..`, never a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerId(String);

impl ContainerId {
    /// Longer than any engine's (64), shorter than a file name may be.
    const MAX_LEN: usize = 200;

    pub fn parse(text: &str) -> Result<ContainerId, Failure> {
        let refuse = |reason| {
            Err(Failure::BadId {
                id: text.chars().take(80).collect(),
                reason,
            })
        };
        if text.is_empty() {
            return refuse("is empty");
        }
        if text.len() > Self::MAX_LEN {
            return refuse("is longer than 200 characters");
        }
        if text == "." || text == ".." {
            return refuse("is a folder");
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if !text.chars().all(allowed) {
            return refuse("has characters other than letters, digits and _+-.");
        }
        Ok(ContainerId(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_engines_give_are_taken() {
        for id in ["a", "0b1", "web-1.2_x+y", &"f".repeat(64), "..."] {
            assert_eq!(ContainerId::parse(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn names_that_are_no_names_are_refused() {
        for id in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/",
            "a b",
            "a\nb",
            "ä",
            "a\0",
            &"x".repeat(201),
        ] {
            assert!(ContainerId::parse(id).is_err(), "{id:?}");
        }
    }
}
