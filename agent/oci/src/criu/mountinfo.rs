//! Mounts of a process, from its mountinfo (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, OnPath};

#[derive(Debug, PartialEq, Eq)]
pub struct Mounted {
    pub id: u32,
    /// Which part of the file system.
    pub root: String,
    /// As the process sees it.
    pub point: PathBuf,
    /// Of file system.
    pub kind: String,
}

pub fn of(pid: i32) -> Result<Vec<Mounted>, Failure> {
    read(format!("/proc/{pid}/mountinfo").as_ref())
}

pub fn of_self() -> Result<Vec<Mounted>, Failure> {
    read("/proc/self/mountinfo".as_ref())
}

fn read(path: &Path) -> Result<Vec<Mounted>, Failure> {
    let text = std::fs::read(path).on(path)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Mounted> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let id = left.next()?.parse().ok()?;
    let root = String::from_utf8_lossy(&plain(left.nth(2)?)).into_owned();
    let point = OsString::from_vec(plain(left.next()?)).into();
    let kind = right.split(' ').next()?.to_owned();
    Some(Mounted {
        id,
        root,
        point,
        kind,
    })
}

/// The kernel writes white space and backslashes as three octal digits.
fn plain(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    while let Some((first, rest)) = bytes.split_first() {
        let digits = rest.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                bytes = &rest[3..];
            }
            None => {
                out.push(*first);
                bytes = rest;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_has_a_part_a_place_and_a_kind() {
        let line = r"36 35 98:0 /m\134nt1 /a\040b rw,noatime master:1 shared:2 - ext3 /dev/root rw";
        let wanted = Mounted {
            id: 36,
            root: r"/m\nt1".into(),
            point: "/a b".into(),
            kind: "ext3".into(),
        };
        assert_eq!(parse(line), Some(wanted));
        for wrong in ["", "36 35", "x 35 98:0 / / rw - ext3 x rw"] {
            assert_eq!(parse(wrong), None);
        }
    }
}
