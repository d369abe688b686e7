//! Keys in a token: the private half never leaves it, and signs in there (PKCS#11 v3.0). The only room
//! that knows cryptoki.
//!
//! | file | what it holds |
//! |---|---|
//! | [`Kind`] | what PKCS#11 calls the kinds of keys |
//! | `library` | the library, one for all keys, and what is open in it |
//! | `open` | the one token that a URI means, and its PIN |
//! | [`P256Key`] | a key that signs certificates; [`TokenKey`] signs documents |

mod error;
mod kind;
mod library;
mod open;
mod p256;

use super::pin;
use super::uri::Pkcs11Uri;
use coracle_protocol::key::PublicKey;
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
pub use error::TokenError;
pub use kind::Kind;
use library::Held;
pub use open::spare_tries;
pub use p256::P256Key;
use std::fmt::Write;

/// Names the library when the URI does not.
pub const MODULE: &str = "CORACLE_PKCS11_MODULE";

/// An open token.
struct Token {
    session: Session,
    name: String,
}

/// A key in a token, ready to sign.
pub struct TokenKey {
    held: Held,
    key: ObjectHandle,
    public: PublicKey,
}

impl TokenKey {
    /// Finds the key.
    pub fn open(uri: &Pkcs11Uri) -> Result<Self, TokenError> {
        Self::of(find(uri, Kind::Ed25519)?)
    }

    /// Makes a key in the token.
    pub fn generate(uri: &Pkcs11Uri) -> Result<Self, TokenError> {
        Self::of(make(uri, Kind::Ed25519)?)
    }

    fn of((held, key, point): (Held, ObjectHandle, Vec<u8>)) -> Result<Self, TokenError> {
        let bytes = <[u8; 32]>::try_from(point).unwrap_or_default();
        let public = PublicKey::from_bytes(bytes).map_err(|source| TokenError::Public {
            token: held.name().to_owned(),
            source,
        })?;
        Ok(Self { held, key, public })
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Which token, for people.
    pub fn token(&self) -> &str {
        self.held.name()
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        self.held.within(|token| {
            let signed = token.session.sign(&mechanism, self.key, message);
            signed.map_err(|e| token.failed("sign", &e))
        })
    }
}

/// The one key that `uri` means, and its public half.
fn find(uri: &Pkcs11Uri, kind: Kind) -> Result<(Held, ObjectHandle, Vec<u8>), TokenError> {
    let (held, (key, public)) = Held::open(uri, kind, false, |token| {
        let (key, name) = token.one_key(uri, kind)?;
        Ok((key, token.public_of(key, kind, &name)?))
    })?;
    Ok((held, key, public))
}

/// A new key, which the token never shows, and its public half.
fn make(uri: &Pkcs11Uri, kind: Kind) -> Result<(Held, ObjectHandle, Vec<u8>), TokenError> {
    let label = uri.object.clone();
    let label = label.ok_or_else(|| TokenError::NoLabel(Box::new(uri.clone())))?;
    let (held, ()) = Held::open(uri, kind, true, |token| match token.keys(uri)?.first() {
        Some(there) => Err(TokenError::Exists {
            token: token.name.clone(),
            key: token.name_of(*there),
        }),
        None => Ok(()),
    })?;
    let (key, public) = held.within(|token| token.generate(uri, kind, &label))?;
    Ok((held, key, public))
}

impl Token {
    fn generate(
        &self,
        uri: &Pkcs11Uri,
        kind: Kind,
        label: &str,
    ) -> Result<(ObjectHandle, Vec<u8>), TokenError> {
        let id = uri.id.clone().unwrap_or_else(|| label.into());
        let named = [
            Attribute::Label(label.into()),
            Attribute::Id(id),
            Attribute::Token(true),
        ];
        let mut public = vec![
            Attribute::Verify(true),
            Attribute::EcParams(kind.curve().to_vec()),
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
        let made = self
            .session
            .generate_key_pair(&kind.made_by(), &public, &private);
        let (public, key) = made.map_err(|e| self.failed("make a key", &e))?;
        let public = self.public_in(&[public], kind, &self.name_of(key))?;
        Ok((key, public))
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

    fn one_key(&self, uri: &Pkcs11Uri, kind: Kind) -> Result<(ObjectHandle, String), TokenError> {
        let found = self.keys(uri)?;
        if let [key] = found[..] {
            let name = self.name_of(key);
            return match self.is_of(key, kind)? {
                true => Ok((key, name)),
                false => Err(TokenError::Kind {
                    token: self.name.clone(),
                    key: name,
                    wanted: kind,
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

    /// Of what a token does not show nothing is said.
    fn is_of(&self, key: ObjectHandle, kind: Kind) -> Result<bool, TokenError> {
        let shown = self.session.get_attributes(key, &[AttributeType::KeyType]);
        let shown = shown.map_err(|e| self.failed("tell the kind of a key", &e))?;
        let is = matches!(shown[..], [Attribute::KeyType(found)] if found == kind.key_type());
        let curve = self.session.get_attributes(key, &[AttributeType::EcParams]);
        let other = match curve.as_deref() {
            Ok([Attribute::EcParams(curve)]) => kind == Kind::P256 && curve != kind.curve(),
            _ => false,
        };
        Ok(is && !other)
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
    fn public_of(&self, key: ObjectHandle, kind: Kind, name: &str) -> Result<Vec<u8>, TokenError> {
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
        self.public_in(&places, kind, name)
    }

    /// From the first of these objects that shows it.
    fn public_in(
        &self,
        places: &[ObjectHandle],
        kind: Kind,
        name: &str,
    ) -> Result<Vec<u8>, TokenError> {
        for place in places.iter().copied() {
            let shown = self
                .session
                .get_attributes(place, &[AttributeType::EcPoint]);
            let Ok([Attribute::EcPoint(point)]) = shown.as_deref() else {
                continue;
            };
            if let Some(bytes) = kind.point_of(point) {
                return Ok(bytes);
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
