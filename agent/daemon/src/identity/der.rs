//! DER, element by element, and the one field of a certificate that webpki does not hand out: `notBefore`
//! (RFC 5280 section 4.1.2.5). What it cannot read has no bound.
//! By hand, because the crates that hand it out (x509-parser, x509-cert) bring a dozen others to the board.

/// `notBefore` of a DER certificate, in Unix seconds.
pub fn not_before(certificate: &[u8]) -> Option<u64> {
    let (outer, _) = element(certificate, 0x30)?;
    let (mut body, _) = element(outer, 0x30)?;
    if body.first() == Some(&0xa0) {
        body = element(body, 0xa0)?.1; // version
    }
    body = element(body, 0x02)?.1; // serialNumber
    body = element(body, 0x30)?.1; // signature
    body = element(body, 0x30)?.1; // issuer
    let (validity, _) = element(body, 0x30)?;
    match validity.first()? {
        0x17 => time(element(validity, 0x17)?.0, 2),
        0x18 => time(element(validity, 0x18)?.0, 4),
        _ => None,
    }
}

/// Content of the element of type `tag` at the start, and what follows it.
pub(super) fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 3 {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        length = digits.iter().fold(0, |n, d| n << 8 | usize::from(*d));
        rest = after;
    }
    (found == tag).then(|| rest.split_at_checked(length))?
}

/// An element of less than 64 KiB.
pub(super) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    let begin: &[u8] = match (high, low) {
        (0, 0..=0x7f) => &[tag, low],
        (0, _) => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [begin, content].concat()
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`: DER allows no other form.
fn time(text: &[u8], year_digits: usize) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if text.len() != year_digits + 10 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = text.split_at(year_digits);
    let century = match year_digits {
        2 if year < "50" => "20",
        2 => "19",
        _ => "",
    };
    let part = |n: usize| &rest[2 * n..2 * n + 2];
    let written = format!(
        "{century}{year}-{}-{}T{}:{}:{}Z",
        part(0),
        part(1),
        part(2),
        part(3),
        part(4)
    );
    crate::clock::parse_rfc3339(&written).map(|time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_not_before_of_a_real_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        for (year, unix) in [(2031, 1_927_843_200), (2055, 2_685_225_600)] {
            let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
            params.not_before = rcgen::date_time_ymd(year, 2, 3);
            params.not_after = rcgen::date_time_ymd(2090, 1, 1);
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(not_before(certificate.der()), Some(unix), "{year}");
        }
    }

    #[test]
    fn cut_bytes_have_no_bound_and_do_not_panic() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        for length in 0..certificate.der().len() {
            not_before(&certificate.der()[..length]);
        }
        assert_eq!(not_before(b"\x30\x84\xff\xff\xff\xff"), None);
    }
}
