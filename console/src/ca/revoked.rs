//! The list of certificates that were taken back (RFC 5280, section 5), and the certificate by which the console
//! takes a board's place at the broker, so that the broker drops the board's connection.

use super::{Ca, CaError, KeyPair, hex, named};
use crate::store::RevokedCertificate;
use coracle_protocol::names::BoardId;
use rcgen::{
    CertificateRevocationListParams, ExtendedKeyUsagePurpose, KeyIdMethod, RevokedCertParams,
    SerialNumber,
};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

/// For the moment in which a board's place is taken; a broker's clock may differ.
const STAND_IN: Duration = Duration::hours(1);

impl Ca {
    /// PEM of the list. `number` goes up with each. Like certificates it begins in 1970, for brokers whose clock is
    /// behind. A broker that finds its list too old turns everybody away, and a copy of it may lie with a broker that
    /// nobody looks after: it is good for as long as the CA, whatever the console's clock says.
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
            next_update: self.not_after()?,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let signed = params.signed_by(&self.issuer);
        let signed = signed.map_err(|error| self.issuer.key().told(error))?;
        Ok(signed.pem()?)
    }

    fn not_after(&self) -> Result<OffsetDateTime, CaError> {
        let (_, pem) = parse_x509_pem(self.certificate_pem().as_bytes()).map_err(of_ca)?;
        let certificate = pem.parse_x509().map_err(of_ca)?;
        Ok(certificate.validity().not_after.to_datetime())
    }

    /// What the lists of this CA hold, of all that are in the file: a broker's file may have another CA's beside them.
    ///
    /// # Errors
    /// Without one that this CA signed.
    pub fn read_revocation_list(&self, file: &[u8]) -> Result<Vec<RevokedCertificate>, CaError> {
        let (_, ours) = parse_x509_pem(self.certificate_pem().as_bytes()).map_err(of_ca)?;
        let ours = ours.parse_x509().map_err(of_ca)?;
        let key = &ours.public_key().subject_public_key.data;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key);
        let (mut revoked, mut lists) = (Vec::new(), 0);
        for pem in Pem::iter_from_buffer(file) {
            let pem = pem.map_err(of_list)?;
            let (_, list) = CertificateRevocationList::from_der(&pem.contents).map_err(of_list)?;
            let signed = key.verify(list.tbs_cert_list.as_ref(), &list.signature_value.data);
            if list.issuer().as_raw() != ours.subject().as_raw() || signed.is_err() {
                continue;
            }
            lists += 1;
            let entries = list.iter_revoked_certificates();
            revoked.extend(entries.map(|one| RevokedCertificate {
                serial: hex(one.raw_serial()),
                at: u64::try_from(one.revocation_date.timestamp()).unwrap_or(0),
            }));
        }
        match lists {
            0 => Err(of_list("no list that this CA signed is in it")),
            _ => Ok(revoked),
        }
    }

    /// Certificate and key, PEM, of the console in the place of `board`. Kept in memory only.
    pub fn stand_in(&self, board: &BoardId) -> Result<(String, String), CaError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let mut params = self.params(board.as_str(), &[], usage, STAND_IN)?;
        params.distinguished_name = named(board.as_str());
        let certificate = self.sign(&params, &key)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn of_ca(why: impl std::fmt::Display) -> CaError {
    CaError::Unreadable {
        what: "its certificate",
        why: why.to_string(),
    }
}

fn of_list(why: impl std::fmt::Display) -> CaError {
    CaError::Unreadable {
        what: "the list of revoked certificates",
        why: why.to_string(),
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
    use x509_parser::prelude::Pem;

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
        // What it says is read again, by its own CA alone.
        let read = ca.read_revocation_list(text.as_bytes()).unwrap();
        assert_eq!(
            (read[0].serial.as_str(), read[0].at),
            ("41ff", 1_800_000_000)
        );
        let other = tempfile::tempdir().unwrap();
        let other = Ca::open(other.path(), "127.0.0.1", life).unwrap();
        let error = other.read_revocation_list(text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("this CA signed"), "{error}");
        // The empty list is a list too: a broker cannot start without one.
        assert!(ca.revocation_list(&[], 8).unwrap().contains("X509 CRL"));
    }

    #[test]
    fn the_list_is_good_for_as_long_as_its_ca_by_whichever_clock() {
        let dir = tempfile::tempdir().unwrap();
        let life = std::time::Duration::from_secs(60);
        Ca::open(dir.path(), "127.0.0.1", life).unwrap();
        // As if this clock were forty years behind that of the CA's first day.
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let key = KeyPair::from_pem(&read("ca.key")).unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = named("Coracle fleet later");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        params.key_usages = vec![
            rcgen::KeyUsagePurpose::KeyCertSign,
            rcgen::KeyUsagePurpose::CrlSign,
        ];
        params.not_after = rcgen::date_time_ymd(2091, 2, 3);
        let later = params.self_signed(&key).unwrap().pem();
        std::fs::write(dir.path().join("ca.crt"), later).unwrap();
        let ca = Ca::open(dir.path(), "127.0.0.1", life).unwrap();
        let text = ca.revocation_list(&[], 1).unwrap();
        let (_, pem) = parse_x509_pem(text.as_bytes()).unwrap();
        let (_, list) = CertificateRevocationList::from_der(&pem.contents).unwrap();
        let end = list.next_update().unwrap().to_datetime();
        assert_eq!(end, rcgen::date_time_ymd(2091, 2, 3));
    }
}
