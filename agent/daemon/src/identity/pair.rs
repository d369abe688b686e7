//! A certificate and its key, in one file: a cut of power leaves both or neither.

use super::FILE_LIMIT;
use crate::disk::{self, DiskError};
use std::path::Path;
use tokio::sync::Mutex;

/// The pair in force.
pub(super) const IN_FORCE: &str = "board.key";
/// A pair that has not proved itself.
pub(super) const RENEWED: &str = "renewed.key";
/// The certificate alone: where an older version kept it, and looks for it when a board goes back to one.
const CERTIFICATE: &str = "board.crt";

/// Whoever replaces the pair in force: an enrolment and a renewal may come together.
pub(super) static REPLACING: Mutex<()> = Mutex::const_new(());

/// PEM of both.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    pub(super) fn new(certificate: &str, key: &str) -> Self {
        let both = format!("{}\n{key}", certificate.trim_end()).into_bytes();
        Self {
            certificate: both.clone(),
            key: both,
        }
    }

    /// The pair in force.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, DiskError> {
        let Some(key) = disk::read(&folder.join(IN_FORCE), FILE_LIMIT)? else {
            return Ok(None);
        };
        if holds_certificate(&key) {
            return Ok(Some(Self {
                certificate: key.clone(),
                key,
            }));
        }
        let certificate = disk::read(&folder.join(CERTIFICATE), FILE_LIMIT)?;
        Ok(certificate.map(|certificate| Self { certificate, key }))
    }

    /// The pair that has not proved itself.
    pub(super) fn read_renewed(folder: &Path) -> Result<Option<Self>, DiskError> {
        let both = disk::read(&folder.join(RENEWED), FILE_LIMIT)?;
        Ok(both.map(|both| Self {
            certificate: both.clone(),
            key: both,
        }))
    }

    /// Certificate and key, as [`super::client_config`] takes them.
    pub(super) fn halves(&self) -> (&[u8], &[u8]) {
        (&self.certificate, &self.key)
    }

    /// Writes it, 0600, in one step.
    pub(super) fn write(&self, folder: &Path, name: &str) -> Result<(), DiskError> {
        disk::write(&folder.join(name), &self.key)
    }

    /// Beside the pair in force, for an older version. This one does not need it, so that a failure stops nothing.
    pub(super) fn leave_copy(&self, folder: &Path) {
        let path = folder.join(CERTIFICATE);
        let certificate = certificate_part(&self.certificate);
        let written = disk::read(&path, FILE_LIMIT).and_then(|there| match there.as_deref() {
            Some(there) if there == certificate => Ok(()),
            _ => disk::write(&path, certificate),
        });
        if let Err(error) = written {
            tracing::warn!(%error, "an older coracled would not find this board's certificate");
        }
    }
}

/// The file that is missing where there is no pair.
pub(super) fn lacking(folder: &Path) -> &'static str {
    match folder.join(IN_FORCE).exists() {
        true => CERTIFICATE,
        false => IN_FORCE,
    }
}

/// Puts the renewed pair into force, in one step.
pub(super) fn promote(folder: &Path) -> Result<(), DiskError> {
    let (from, to) = (folder.join(RENEWED), folder.join(IN_FORCE));
    std::fs::rename(&from, &to).map_err(disk::at("replace", &to))?;
    disk::sync_folder(folder)
}

pub(super) fn remove(folder: &Path, name: &str) -> Result<(), DiskError> {
    let path = folder.join(name);
    match std::fs::remove_file(&path) {
        Ok(()) => disk::sync_folder(folder),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(disk::at("remove", &path)(error)),
    }
}

fn holds_certificate(pem: &[u8]) -> bool {
    let mark = b"-----BEGIN CERTIFICATE-----";
    pem.windows(mark.len()).any(|part| part == mark)
}

/// All of it but the key.
fn certificate_part(pem: &[u8]) -> &[u8] {
    let mark = b"-----END CERTIFICATE-----\n";
    let end = pem.windows(mark.len()).rposition(|part| part == mark);
    end.and_then(|at| pem.get(..at + mark.len())).unwrap_or(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn loads(pair: &Pair, ca: &str) -> bool {
        super::super::client_config(ca.as_bytes(), Some(pair.halves())).is_ok()
    }

    #[test]
    fn a_cut_at_any_step_leaves_one_whole_pair() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let ((ca, _), (old_crt, old_key), (new_crt, new_key)) = (made(), made(), made());
        // As an older version left it.
        disk::write(&folder.join(IN_FORCE), old_key.as_bytes()).unwrap();
        assert_eq!(lacking(folder), CERTIFICATE);
        assert!(
            Pair::read(folder).unwrap().is_none(),
            "a key without its certificate is no pair"
        );
        disk::write(&folder.join(CERTIFICATE), old_crt.as_bytes()).unwrap();
        let old = Pair::read(folder).unwrap().unwrap();
        assert!(loads(&old, &ca));
        // Written, and not in force yet.
        let new = Pair::new(&new_crt, &new_key);
        new.write(folder, RENEWED).unwrap();
        assert!(Pair::read(folder).unwrap() == Some(old));
        assert!(Pair::read_renewed(folder).unwrap() == Some(new.clone()));
        // In force; the older version's certificate may still lie there.
        std::fs::rename(folder.join(RENEWED), folder.join(IN_FORCE)).unwrap();
        let found = Pair::read(folder).unwrap().unwrap();
        assert!(found == new && loads(&found, &ca));
        new.write(folder, RENEWED).unwrap();
        promote(folder).unwrap();
        new.leave_copy(folder);
        assert!(Pair::read(folder).unwrap() == Some(new));
        assert!(!folder.join(RENEWED).exists());
        // As an older version reads it: the certificate of one file, the key of the other.
        let read = |name| disk::read(&folder.join(name), FILE_LIMIT).unwrap().unwrap();
        let (certificate, key) = (read(CERTIFICATE), read(IN_FORCE));
        assert_eq!(certificate, format!("{}\n", new_crt.trim_end()).as_bytes());
        super::super::client_config(ca.as_bytes(), Some((&certificate, &key))).unwrap();
    }
}
