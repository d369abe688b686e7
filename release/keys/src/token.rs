//! Keys in a token: the private half never leaves it, and signs in there (PKCS#11 v3.0, CKM_EDDSA). The only room
//! that knows cryptoki.

mod error;
mod open;

use super::pin;
use super::uri::Pkcs11Uri;
use coracle_protocol::key::PublicKey;
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
pub use error::TokenError;
use std::fmt::Write;

/// Names the library when the URI does not.
pub const MODULE: &str = "CORACLE_PKCS11_MODULE";

/// `edwards25519`, as PKCS#11 v3.0 writes the curve (section 2.3.5): a PrintableString.
const CURVE: [u8; 14] = *b"\x13\x0cedwards25519";

/// An open token.
struct Token {
    session: Session,
    name: String,
}

/// A key in a token, ready to sign.
pub struct TokenKey {
    token: Token,
    key: ObjectHandle,
    public: PublicKey,
}

impl TokenKey {
    /// Finds the key.
    pub fn open(uri: &Pkcs11Uri) -> Result<Self, TokenError> {
        let token = Token::open(uri, false)?;
        let (key, name) = token.one_key(uri)?;
        let public = token.public_of(key, &name)?;
        Ok(Self { token, key, public })
    }

    /// Makes a key in the token.
    pub fn generate(uri: &Pkcs11Uri) -> Result<Self, TokenError> {
        let label = uri
            .object
            .clone()
            .ok_or_else(|| TokenError::NoLabel(Box::new(uri.clone())))?;
        let token = Token::open(uri, true)?;
        if let Some(there) = token.keys(uri)?.first() {
            return Err(TokenError::Exists {
                token: token.name.clone(),
                key: token.name_of(*there),
            });
        }
        let id = uri.id.clone().unwrap_or_else(|| label.clone().into_bytes());
        let named = [
            Attribute::Label(label.into_bytes()),
            Attribute::Id(id),
            Attribute::Token(true),
        ];
        let mut public = vec![
            Attribute::Verify(true),
            Attribute::EcParams(CURVE.to_vec()),
            Attribute::Private(false),
        ];
        let mut private = vec![
            Attribute::Sign(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
        ];
        public.extend(named.clone());
        private.extend(named);
        let made =
            token
                .session
                .generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private);
        let (public, key) = made.map_err(|e| token.failed("make a key", &e))?;
        let name = token.name_of(key);
        let public = token.public_in(&[public], &name)?;
        Ok(Self { token, key, public })
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Which token, for people.
    pub fn token(&self) -> &str {
        &self.token.name
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        let signed = self.token.session.sign(&mechanism, self.key, message);
        signed.map_err(|e| self.token.failed("sign", &e))
    }
}

impl Token {
    /// Private keys that match.
    fn keys(&self, uri: &Pkcs11Uri) -> Result<Vec<ObjectHandle>, TokenError> {
        let mut wanted = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
        wanted.extend(
            uri.object
                .clone()
                .map(|label| Attribute::Label(label.into_bytes())),
        );
        wanted.extend(uri.id.clone().map(Attribute::Id));
        let found = self.session.find_objects(&wanted);
        found.map_err(|e| self.failed("look for keys", &e))
    }

    fn one_key(&self, uri: &Pkcs11Uri) -> Result<(ObjectHandle, String), TokenError> {
        let found = self.keys(uri)?;
        if let [key] = found[..] {
            let name = self.name_of(key);
            let kind = self.session.get_attributes(key, &[AttributeType::KeyType]);
            let kind = kind.map_err(|e| self.failed("tell the kind of a key", &e))?;
            return match kind[..] {
                [Attribute::KeyType(KeyType::EC_EDWARDS)] => Ok((key, name)),
                _ => Err(TokenError::Kind {
                    token: self.name.clone(),
                    key: name,
                }),
            };
        }
        let any = [Attribute::Class(ObjectClass::PRIVATE_KEY)];
        let all = self.session.find_objects(&any).unwrap_or_default();
        let names: Vec<String> = all.iter().take(20).map(|key| self.name_of(*key)).collect();
        Err(TokenError::Keys {
            count: found.len(),
            token: self.name.clone(),
            uri: Box::new(uri.clone()),
            there: listed(&names),
        })
    }

    /// ``` `label` (id 01) ```
    fn name_of(&self, key: ObjectHandle) -> String {
        let asked = [AttributeType::Label, AttributeType::Id];
        let mut text = String::new();
        for attribute in self.session.get_attributes(key, &asked).unwrap_or_default() {
            let _ = match attribute {
                Attribute::Label(label) => write!(text, "`{}`", visible(&label)),
                Attribute::Id(id) => write!(text, " (id {})", hex(&id)),
                _ => Ok(()),
            };
        }
        text
    }

    /// From the public key object of the same id, or of the same label where there is no id, or from the private one where
    /// the token shows it there.
    fn public_of(&self, key: ObjectHandle, name: &str) -> Result<PublicKey, TokenError> {
        let same = self
            .session
            .get_attributes(key, &[AttributeType::Id, AttributeType::Label]);
        let mut same = same.unwrap_or_default();
        same.retain(|attribute| match attribute {
            Attribute::Id(bytes) | Attribute::Label(bytes) => !bytes.is_empty(),
            _ => false,
        });
        let has_id = same.iter().any(|a| matches!(a, Attribute::Id(_)));
        let mut ways = vec![same.clone()];
        // Two keys may have one label: where there is an id, the label alone names none.
        ways.extend(
            same.into_iter()
                .filter(|a| !has_id || matches!(a, Attribute::Id(_)))
                .map(|attribute| vec![attribute]),
        );
        let mut places = Vec::new();
        for mut wanted in ways.into_iter().filter(|way| !way.is_empty()) {
            wanted.push(Attribute::Class(ObjectClass::PUBLIC_KEY));
            places.extend(self.session.find_objects(&wanted).unwrap_or_default());
        }
        places.push(key);
        self.public_in(&places, name)
    }

    /// From the first of these objects that shows it.
    fn public_in(&self, places: &[ObjectHandle], name: &str) -> Result<PublicKey, TokenError> {
        for place in places.iter().copied() {
            let shown = self
                .session
                .get_attributes(place, &[AttributeType::EcPoint]);
            let Ok([Attribute::EcPoint(point)]) = shown.as_deref() else {
                continue;
            };
            if let Some(bytes) = point_of(point) {
                return PublicKey::from_bytes(bytes).map_err(|source| TokenError::Public {
                    token: self.name.clone(),
                    key: name.to_owned(),
                    source,
                });
            }
        }
        Err(TokenError::NoPublic {
            token: self.name.clone(),
            key: name.to_owned(),
        })
    }

    fn failed(&self, what: &'static str, error: &Error) -> TokenError {
        TokenError::Failed {
            token: self.name.clone(),
            what,
            fault: error.to_string(),
        }
    }
}

fn listed(names: &[String]) -> String {
    match names.is_empty() {
        true => "none".into(),
        false => names.join(", "),
    }
}

/// What a token says, fit for a terminal.
fn visible(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = text.chars().filter(|c| !c.is_control());
    shown.take(1000).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// CKA_EC_POINT: an OCTET STRING, a BIT STRING as some write it, or the 32 bytes alone (PKCS#11 v3.0 and v2.40 differ).
fn point_of(point: &[u8]) -> Option<[u8; 32]> {
    let bytes = match (point.len(), point) {
        (34, [0x04, 0x20, rest @ ..]) => rest,
        (35, [0x03, 0x21, 0x00, rest @ ..]) => rest,
        // Which may begin with the same bytes.
        (_, all) => all,
    };
    bytes.try_into().ok()
}
