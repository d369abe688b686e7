//! A wrapped key as PEM: `TSS2 PRIVATE KEY`, which the TPM providers of OpenSSL read too
//! (draft-bottomley-tpm2-keys: TPMKey of type id-loadablekey).

use super::wire::{self, OWNER, Read};
use crate::identity::der::{element, tlv};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN TSS2 PRIVATE KEY-----";
const END: &str = "-----END TSS2 PRIVATE KEY-----";
/// id-loadablekey, 2.23.133.10.1.3; then that the key has no password.
const KIND: &[u8] = b"\x06\x06\x67\x81\x05\x0a\x01\x03\xa0\x03\x01\x01\xff";

/// Whether a PEM text holds a wrapped key.
pub(in crate::identity) fn is_wrapped(pem: &[u8]) -> bool {
    pem.windows(BEGIN.len())
        .any(|part| part == BEGIN.as_bytes())
}

pub(super) fn write(public: &[u8], private: &[u8]) -> String {
    let mut body = KIND.to_vec();
    body.extend(tlv(0x02, &OWNER.to_be_bytes()));
    for half in [public, private] {
        let mut sized = Vec::new();
        wire::sized(&mut sized, half);
        body.extend(tlv(0x04, &sized));
    }
    let mut text = format!("{BEGIN}\n");
    let base64 = STANDARD.encode(tlv(0x30, &body));
    for (at, character) in base64.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text + "\n" + END + "\n"
}

/// The public half and the wrapped private one.
pub(super) fn read(pem: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once(BEGIN)?;
    let (base64, _) = rest.split_once(END)?;
    let base64: String = base64
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .collect();
    let der = STANDARD.decode(base64).ok()?;
    let (body, after) = element(&der, 0x30)?;
    let (parent, body) = element(body.strip_prefix(KIND)?, 0x02)?;
    let (public, body) = element(body, 0x04)?;
    let (private, rest) = element(body, 0x04)?;
    let fits = parent == OWNER.to_be_bytes() && rest.is_empty() && after.is_empty();
    fits.then_some((half(public)?, half(private)?))
}

fn half(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut read = Read(bytes);
    let content = read.sized()?.to_vec();
    read.0.is_empty().then_some(content)
}
