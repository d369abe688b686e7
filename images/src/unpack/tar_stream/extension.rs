//! PAX records: what does not fit a tar header.

use super::TarError;
use crate::limits::Limits;

/// Bytes that an attribute counts beside its name and value, for what it takes of memory: both may be empty, and a member may have
/// thousands of headers.
const ATTRIBUTE: usize = 64;

/// What extension members said about the member that follows them.
#[derive(Default)]
pub(super) struct Extension {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    xattr_bytes: usize,
}

impl Extension {
    /// Records `<length> <key>=<value>\n` (POSIX.1-2001, pax, "Extended Header").
    pub(super) fn pax(&mut self, mut records: &[u8], limits: &Limits) -> Result<(), TarError> {
        const BAD: TarError = TarError::Header("PAX record");
        while !records.is_empty() {
            let space = records.iter().position(|&byte| byte == b' ').ok_or(BAD)?;
            let length: usize = text(&records[..space])?;
            if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
                return Err(BAD);
            }
            let record = &records[space + 1..length - 1];
            records = &records[length..];
            let equals = record.iter().position(|&byte| byte == b'=').ok_or(BAD)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(bounded(value, limits)?),
                b"linkpath" => self.link = Some(bounded(value, limits)?),
                b"size" => self.size = Some(text(value)?),
                b"uid" => self.uid = Some(text(value)?),
                b"gid" => self.gid = Some(text(value)?),
                b"mtime" => self.mtime = Some(pax_time(value)?),
                _ if key.starts_with(b"GNU.sparse.") => return Err(TarError::Type('S')),
                _ => {
                    let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else {
                        continue;
                    };
                    self.xattr_bytes += ATTRIBUTE + name.len() + value.len();
                    if self.xattr_bytes > limits.xattr_bytes {
                        let limit = limits.xattr_bytes as u64;
                        return Err(TarError::Limit {
                            what: "bytes of attributes",
                            limit,
                        });
                    }
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn bounded(path: &[u8], limits: &Limits) -> Result<Vec<u8>, TarError> {
    if path.len() > limits.path_bytes {
        let limit = limits.path_bytes as u64;
        return Err(TarError::Limit {
            what: "bytes of a path",
            limit,
        });
    }
    Ok(path.to_vec())
}

fn text<T: std::str::FromStr>(bytes: &[u8]) -> Result<T, TarError> {
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or(TarError::Header("PAX number"))
}

/// `seconds[.fraction]`, perhaps negative.
fn pax_time(value: &[u8]) -> Result<(i64, u32), TarError> {
    let dot = value
        .iter()
        .position(|&byte| byte == b'.')
        .unwrap_or(value.len());
    let mut seconds: i64 = text(&value[..dot])?;
    let mut nanos = 0;
    let digits = value.get(dot + 1..).unwrap_or_default();
    for place in 0..9 {
        let digit = digits.get(place).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return Err(TarError::Header("mtime"));
        }
        nanos = nanos * 10 + u32::from(digit - b'0');
    }
    if value.starts_with(b"-") && nanos > 0 {
        seconds = seconds.checked_sub(1).ok_or(TarError::Header("mtime"))?;
        nanos = 1_000_000_000 - nanos;
    }
    Ok((seconds, nanos))
}
