//! How a board's certificate stands: a pure judgement over what was shown, what the database knows, and the time.

use crate::store::{CertificateRow, Store, StoreError};
use coracle_digest::Sha256Digest;
use coracle_protocol::names::BoardId;
use coracle_protocol::renewal::{Standing, State};
use std::time::Duration;
use x509_parser::prelude::{FromDer, Pem, X509Certificate};

/// A board asks at least once in so many seconds, however long its certificate is good.
const MOST_ASK: u64 = 24 * 3600;

/// For how long certificates are good, and what happens afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Life of a certificate.
    pub life: Duration,
    /// One that is over is still renewed for so long.
    pub grace: Duration,
    /// Until then, Unix seconds, one that the database does not know is taken in.
    pub adopt_until: Option<u64>,
}

/// A certificate that the fleet's CA signed, as it was shown. It may be over, or taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its one common name.
    pub board: BoardId,
    /// In hexadecimal.
    pub serial: String,
    /// Unix seconds.
    pub not_after: u64,
    /// SHA-256 of the public key.
    pub key_hash: String,
}

impl Shown {
    /// A record of it, when there is none: by its end it was issued a life ago.
    pub fn adopted(&self, policy: Policy, now: u64) -> CertificateRow {
        CertificateRow {
            serial: self.serial.clone(),
            board: self.board.clone(),
            key_hash: self.key_hash.clone(),
            issued_at: self
                .not_after
                .saturating_sub(policy.life.as_secs())
                .min(now),
            not_after: self.not_after,
            how: "adopted".into(),
            last_used: None,
            superseded_at: None,
            revoked_at: None,
            revoked_why: None,
        }
    }

    /// Reads a board's certificate; `None` when it is not one.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut names = certificate.subject().iter_common_name();
        let name = names.next()?.as_str().ok()?;
        // Two names would leave open which one counts.
        let board = names.next().is_none().then(|| BoardId::new(name).ok())??;
        let end = certificate.validity().not_after.timestamp();
        Some(Self {
            board,
            serial: hex(certificate.raw_serial()),
            not_after: u64::try_from(end).unwrap_or(0),
            key_hash: key_hash(&certificate.public_key().subject_public_key.data),
        })
    }
}

/// Of the point itself: a request and a certificate have it in the same form.
pub fn key_hash(point: &[u8]) -> String {
    Sha256Digest::of(point).hex()
}

/// A serial number; leading zeros say nothing.
pub fn hex(bytes: &[u8]) -> String {
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    bytes
        .iter()
        .skip(start)
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// How `shown` stands at `now`; `row` is what the database has under its serial number.
pub fn judge(shown: &Shown, row: Option<&CertificateRow>, policy: Policy, now: u64) -> Standing {
    let life = match row {
        Some(row) => shown.not_after.saturating_sub(row.issued_at).max(1),
        None => policy.life.as_secs().max(1),
    };
    let (state, reason) = state(shown, row, policy, now, life);
    Standing {
        board: shown.board.clone(),
        serial: shown.serial.clone(),
        not_after: shown.not_after,
        state,
        reason,
        ask_in_seconds: (life / 12).clamp(1, MOST_ASK),
    }
}

fn state(
    shown: &Shown,
    row: Option<&CertificateRow>,
    policy: Policy,
    now: u64,
    life: u64,
) -> (State, Option<String>) {
    let Some(row) = row.filter(|row| row.board == shown.board) else {
        let text = "this console has no record of the certificate (was its database restored from a backup? \
             then it takes such boards in until the time that --adopt-unknown-until names)";
        return (State::Unknown, Some(text.into()));
    };
    if row.revoked_at.is_some() {
        let why = row.revoked_why.as_deref().filter(|why| !why.is_empty());
        let text = format!("revoked: {}", why.unwrap_or("no reason was given"));
        return (State::Revoked, Some(text));
    }
    let over = now.checked_sub(shown.not_after);
    let grace = policy.grace.as_secs();
    if over.is_some_and(|over| over >= grace) {
        let text = format!(
            "the certificate ended {} s ago; this console renews one for {grace} s after its end",
            over.unwrap_or_default()
        );
        return (State::TooLate, Some(text));
    }
    // Whoever is superseded is served until the end, and not renewed.
    if row.superseded_at.is_some() && over.is_some() {
        let text = "the certificate is over, and a newer one of this board was used: this is an old copy, or another machine has a copy";
        return (State::TooLate, Some(text.into()));
    }
    if row.superseded_at.is_some() {
        let text = "a newer certificate of this board is in use: this is an old copy, or another machine has a copy";
        return (State::Superseded, Some(text.into()));
    }
    match over {
        Some(_) => (State::Expired, None),
        None if now.saturating_sub(row.issued_at) >= life / 3 * 2 => (State::Due, None),
        None => (State::Good, None),
    }
}

/// Records certificates that an older version issued and kept as text alone.
pub async fn take_in(store: &Store) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    for (board, text, issued_at) in store.unrecorded_certificates().await? {
        let shown = Pem::iter_from_buffer(text.as_bytes())
            .next()
            .and_then(Result::ok)
            .and_then(|pem| Shown::read(&pem.contents));
        let Some(shown) = shown.filter(|shown| shown.board == board) else {
            tracing::warn!(%board, "its certificate in the database cannot be read; it must enrol again");
            continue;
        };
        rows.push(CertificateRow {
            serial: shown.serial,
            board,
            key_hash: shown.key_hash,
            issued_at,
            not_after: shown.not_after,
            how: "enrolled".into(),
            last_used: None,
            superseded_at: None,
            revoked_at: None,
            revoked_why: None,
        });
    }
    store.take_in(&rows).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        life: Duration::from_secs(900),
        grace: Duration::from_secs(100),
        adopt_until: None,
    };

    fn shown() -> Shown {
        Shown {
            board: BoardId::new("acme.b").unwrap(),
            serial: "41".into(),
            not_after: 1900,
            key_hash: "k".into(),
        }
    }

    fn row() -> CertificateRow {
        CertificateRow {
            serial: "41".into(),
            board: BoardId::new("acme.b").unwrap(),
            key_hash: "k".into(),
            issued_at: 1000,
            not_after: 1900,
            how: "enrolled".into(),
            last_used: None,
            superseded_at: None,
            revoked_at: None,
            revoked_why: None,
        }
    }

    fn at(row: Option<&CertificateRow>, now: u64) -> State {
        judge(&shown(), row, POLICY, now).state
    }

    #[test]
    fn a_certificate_is_due_at_two_thirds_and_too_late_after_its_grace() {
        let row = row();
        for (now, state) in [
            (0, State::Good),
            (1599, State::Good),
            (1600, State::Due),
            (1899, State::Due),
            (1900, State::Expired),
            (1999, State::Expired),
            (2000, State::TooLate),
            (u64::MAX, State::TooLate),
        ] {
            assert_eq!(at(Some(&row), now), state, "at {now}");
        }
        assert_eq!(judge(&shown(), Some(&row), POLICY, 0).ask_in_seconds, 75);
    }

    #[test]
    fn what_was_taken_back_or_replaced_is_never_renewed() {
        for now in [0, 1600, 1900, 1950, 5000] {
            let revoked = CertificateRow {
                revoked_at: Some(1),
                superseded_at: Some(1),
                revoked_why: Some("stolen".into()),
                ..row()
            };
            let standing = judge(&shown(), Some(&revoked), POLICY, now);
            assert_eq!(standing.state, State::Revoked);
            assert!(standing.reason.unwrap().contains("stolen"));
            let superseded = CertificateRow {
                superseded_at: Some(1),
                ..row()
            };
            let state = at(Some(&superseded), now);
            assert!(!state.may_renew(), "at {now}");
            assert_eq!(state.is_served(), now < 1900, "at {now}");
            assert_eq!(at(None, now), State::Unknown);
            let other = CertificateRow {
                board: BoardId::new("acme.c").unwrap(),
                ..row()
            };
            assert_eq!(at(Some(&other), now), State::Unknown);
        }
    }

    #[test]
    fn a_zero_grace_renews_nothing_that_is_over() {
        let strict = Policy {
            grace: Duration::ZERO,
            ..POLICY
        };
        assert_eq!(
            judge(&shown(), Some(&row()), strict, 1900).state,
            State::TooLate
        );
        assert_eq!(
            judge(&shown(), Some(&row()), strict, 1899).state,
            State::Due
        );
    }
}
