//! The list of certificates that were taken back (RFC 5280, section 5), and the certificate by which the console
//! takes a board's place at the broker, so that the broker drops the board's connection.

use super::{Ca, CaError, KeyPair, named};
use crate::store::RevokedCertificate;
use coracle_protocol::names::BoardId;
use rcgen::{
    CertificateRevocationListParams, ExtendedKeyUsagePurpose, KeyIdMethod, RevokedCertParams,
    SerialNumber,
};
use time::{Duration, OffsetDateTime};

/// A broker that finds its list too old turns everybody away, and a copy of it may lie with a broker that nobody
/// looks after: it is good for as long as the CA may be.
const LIST_YEARS: i64 = 25;
/// For the moment in which a board's place is taken; a broker's clock may differ.
const STAND_IN: Duration = Duration::hours(1);

impl Ca {
    /// PEM of the list. `number` goes up with each. Like certificates it begins in 1970, for brokers whose clock is
    /// behind.
    pub fn revocation_list(
        &self,
        revoked: &[RevokedCertificate],
        number: u64,
    ) -> Result<String, CaError> {
        let time = |at: u64| {
            let at = i64::try_from(at).unwrap_or(0);
            OffsetDateTime::from_unix_timestamp(at).unwrap_or(OffsetDateTime::UNIX_EPOCH)
        };
        let revoked_certs = revoked
            .iter()
            .map(|one| RevokedCertParams {
                serial_number: SerialNumber::from_slice(&bytes(&one.serial)),
                revocation_time: time(one.at),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: OffsetDateTime::UNIX_EPOCH,
            next_update: OffsetDateTime::now_utc() + Duration::days(LIST_YEARS * 365),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.pem()?)
    }

    /// Certificate and key, PEM, of the console in the place of `board`. Kept in memory only.
    pub fn stand_in(&self, board: &BoardId) -> Result<(String, String), CaError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let mut params = self.params(board.as_str(), &[], usage, STAND_IN)?;
        params.distinguished_name = named(board.as_str());
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn bytes(serial: &str) -> Vec<u8> {
    let even = match serial.len() % 2 {
        0 => serial.to_owned(),
        _ => format!("0{serial}"),
    };
    (0..even.len() / 2)
        .filter_map(|i| u8::from_str_radix(even.get(2 * i..2 * i + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, Pem};
    use x509_parser::revocation_list::CertificateRevocationList;

    #[test]
    fn the_list_names_what_was_revoked_and_never_gets_too_old() {
        let dir = tempfile::tempdir().unwrap();
        let life = std::time::Duration::from_secs(60);
        let ca = Ca::open(dir.path(), "127.0.0.1", life).unwrap();
        let one = RevokedCertificate {
            serial: "41ff".into(),
            at: 1_800_000_000,
        };
        let text = ca.revocation_list(&[one], 7).unwrap();
        let pem = Pem::iter_from_buffer(text.as_bytes())
            .next()
            .unwrap()
            .unwrap();
        let (_, list) = CertificateRevocationList::from_der(&pem.contents).unwrap();
        let serials: Vec<String> = list
            .iter_revoked_certificates()
            .map(|r| crate::certificates::hex(r.raw_serial()))
            .collect();
        assert_eq!(serials, ["41ff"]);
        assert_eq!(list.crl_number().unwrap().to_string(), "7");
        assert_eq!(list.last_update().timestamp(), 0);
        let end = list.next_update().unwrap().timestamp();
        assert!(end - OffsetDateTime::now_utc().unix_timestamp() > 20 * 365 * 86_400);
        // The empty list is a list too: a broker cannot start without one.
        assert!(ca.revocation_list(&[], 8).unwrap().contains("X509 CRL"));
    }
}
