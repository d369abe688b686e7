//! Rules that every signed document keeps. A fault is a text that names the field.

use crate::limits::LIMITS;

/// The version of the format that this program reads.
const SPEC_VERSION: u32 = 1;

/// What is newer than this program, and says so, is refused as a whole.
pub(crate) fn understood(spec_version: u32, critical: &[String]) -> Result<(), String> {
    if spec_version != SPEC_VERSION {
        return Err(format!(
            "spec_version {spec_version} is not known; this program reads {SPEC_VERSION}"
        ));
    }
    match critical.first() {
        Some(name) => Err(format!("critical extension `{name}` is not known")),
        None => Ok(()),
    }
}

pub(crate) fn ends_after_it_begins(issued_at: u64, expires: u64) -> Result<(), String> {
    if expires < issued_at {
        Err("expires is before issued_at".into())
    } else {
        Ok(())
    }
}

pub(crate) fn within(field: &str, value: u64, limit: u64) -> Result<(), String> {
    if value > limit {
        Err(format!("{field} is {value}; the limit is {limit}"))
    } else {
        Ok(())
    }
}

pub(crate) fn text(field: &str, value: &str) -> Result<(), String> {
    within(
        &format!("{field}: length"),
        value.len() as u64,
        LIMITS.text_bytes as u64,
    )?;
    if value.contains('\0') {
        Err(format!("{field} holds a NUL byte"))
    } else {
        Ok(())
    }
}

/// As [`text`], on one line: it is shown in terminals and logs.
pub(crate) fn line(field: &str, value: &str) -> Result<(), String> {
    text(field, value)?;
    if value.chars().any(char::is_control) {
        Err(format!("{field} holds a control character"))
    } else {
        Ok(())
    }
}
