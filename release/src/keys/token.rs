//! Keys in a token: the private half never leaves it, and signs in there (PKCS#11 v3.0, CKM_EDDSA). The only room
//! that knows cryptoki.

use super::pin;
use super::uri::Pkcs11Uri;
use coracle_protocol::key::{KeyError, PublicKey};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use std::fmt::Write;
use std::path::PathBuf;

/// Names the library when the URI does not.
pub const MODULE: &str = "CORACLE_PKCS11_MODULE";

/// `edwards25519`, as PKCS#11 v3.0 writes the curve (section 2.3.5): a PrintableString.
const CURVE: [u8; 14] = *b"\x13\x0cedwards25519";

/// Why a key in a token can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No library is named.
    #[error(
        "`{0}` does not say which library speaks to the token: add ?module-path=/usr/lib/softhsm/libsofthsm2.so \
         (or yours), or name it in {MODULE}"
    )]
    NoModule(Box<Pkcs11Uri>),
    /// The library.
    #[error("the PKCS#11 library `{module}`: {fault}")]
    Module {
        /// Its path.
        module: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// None, or several.
    #[error("{count} tokens match `{uri}`, and one must; the library `{module}` has {there}")]
    Tokens {
        /// How many.
        count: usize,
        /// What was asked for.
        uri: Box<Pkcs11Uri>,
        /// The library.
        module: PathBuf,
        /// Which there are.
        there: String,
    },
    /// It does not sign as is needed here.
    #[error("{token} knows no Ed25519 (CKM_EDDSA): another token is needed, or a key file")]
    NoEd25519 {
        /// Which.
        token: String,
    },
    /// The PIN.
    #[error("{token} does not open: {fault}")]
    Login {
        /// Which.
        token: String,
        /// What is wrong, and what to do.
        fault: String,
    },
    /// The PIN's source.
    #[error("{0}")]
    Pin(#[from] pin::PinError),
    /// None, or several.
    #[error("{count} private keys of {token} match `{uri}`, and one must; it has {there}")]
    Keys {
        /// How many.
        count: usize,
        /// The token.
        token: String,
        /// What was asked for.
        uri: Box<Pkcs11Uri>,
        /// Which there are.
        there: String,
    },
    /// Not of the kind that signs documents.
    #[error("key {key} of {token} is not Ed25519")]
    Kind {
        /// The token.
        token: String,
        /// The key.
        key: String,
    },
    /// Nobody can tell the public half.
    #[error(
        "{token} shows no public half of key {key}: import the public key object beside it, with the same id"
    )]
    NoPublic {
        /// The token.
        token: String,
        /// The key.
        key: String,
    },
    /// What it shows as one.
    #[error("the public half of key {key} of {token}")]
    Public {
        /// The token.
        token: String,
        /// The key.
        key: String,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// A key of that name is there.
    #[error("{token} has a private key {key} already; choose another object=LABEL")]
    Exists {
        /// The token.
        token: String,
        /// The key.
        key: String,
    },
    /// A key without a name would not be found again.
    #[error("a new key needs a label: add object=LABEL to `{0}`")]
    NoLabel(Box<Pkcs11Uri>),
    /// Anything else.
    #[error("{token} cannot {what}: {fault}")]
    Failed {
        /// The token.
        token: String,
        /// What was tried.
        what: &'static str,
        /// What the library said.
        fault: String,
    },
}

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
    fn open(uri: &Pkcs11Uri, writable: bool) -> Result<Self, TokenError> {
        let module = uri
            .module_path
            .clone()
            .or_else(|| std::env::var_os(MODULE).map(PathBuf::from))
            .ok_or_else(|| TokenError::NoModule(Box::new(uri.clone())))?;
        let in_module = |error: Error| TokenError::Module {
            module: module.clone(),
            fault: error.to_string(),
        };
        let library = Pkcs11::new(&module).map_err(in_module)?;
        let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        library.initialize(arguments).map_err(in_module)?;
        let (slot, info) = one_token(&library, uri, &module)?;
        let name = described(slot, &info);
        let mechanisms = library.get_mechanism_list(slot).map_err(in_module)?;
        if !mechanisms.contains(&MechanismType::EDDSA) {
            return Err(TokenError::NoEd25519 { token: name });
        }
        let session = match writable {
            true => library.open_rw_session(slot),
            false => library.open_ro_session(slot),
        };
        let session = session.map_err(in_module)?;
        let token = Self { session, name };
        if info.login_required() {
            token.login(uri, &info)?;
        }
        Ok(token)
    }

    fn login(&self, uri: &Pkcs11Uri, info: &TokenInfo) -> Result<(), TokenError> {
        let refused = |fault: String| TokenError::Login {
            token: self.name.clone(),
            fault,
        };
        if info.user_pin_locked() {
            return Err(refused(
                "its PIN is locked; the token's own tool unlocks it with the SO PIN".into(),
            ));
        }
        // A reader with keys of its own asks by itself.
        let pin = match info.protected_authentication_path() {
            true => None,
            false => Some(pin::of(uri, &self.name)?.into()),
        };
        match self.session.login(UserType::User, pin.as_ref()) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Error::Pkcs11(RvError::PinIncorrect, _)) => {
                let few = match info.user_pin_count_low() || info.user_pin_final_try() {
                    true => ", and few tries are left before it locks",
                    false => "; after a few wrong ones the token locks",
                };
                Err(refused(format!("the PIN is wrong{few}")))
            }
            Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(refused(
                "its PIN is locked; the token's own tool unlocks it with the SO PIN".into(),
            )),
            Err(error) => Err(refused(error.to_string())),
        }
    }

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

    /// From the public key object of the same id, or label where there is none, or from the private one where the token shows it there.
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

fn one_token(
    library: &Pkcs11,
    uri: &Pkcs11Uri,
    module: &std::path::Path,
) -> Result<(Slot, TokenInfo), TokenError> {
    let slots = library.get_slots_with_initialized_token();
    let slots = slots.map_err(|error| TokenError::Module {
        module: module.to_owned(),
        fault: error.to_string(),
    })?;
    let all: Vec<(Slot, TokenInfo)> = slots
        .into_iter()
        .filter_map(|slot| Some((slot, library.get_token_info(slot).ok()?)))
        .collect();
    let fits = |wanted: &Option<String>, found: &str| {
        wanted
            .as_deref()
            .is_none_or(|wanted| wanted == found.trim_end())
    };
    let matching: Vec<&(Slot, TokenInfo)> = all
        .iter()
        .filter(|(slot, info)| {
            uri.slot.is_none_or(|wanted| wanted == slot.id())
                && fits(&uri.token, info.label())
                && fits(&uri.serial, info.serial_number())
                && fits(&uri.manufacturer, info.manufacturer_id())
                && fits(&uri.model, info.model())
        })
        .collect();
    if let [(slot, info)] = matching[..] {
        return Ok((*slot, info.clone()));
    }
    let names: Vec<String> = all
        .iter()
        .take(20)
        .map(|(slot, info)| described(*slot, info))
        .collect();
    Err(TokenError::Tokens {
        count: matching.len(),
        uri: Box::new(uri.clone()),
        module: module.to_owned(),
        there: listed(&names),
    })
}

/// ``` token `label` (serial 12ab, slot 3) ```
fn described(slot: Slot, info: &TokenInfo) -> String {
    format!(
        "token `{}` (serial {}, slot {})",
        visible(info.label().trim_end().as_bytes()),
        visible(info.serial_number().trim_end().as_bytes()),
        slot.id()
    )
}

fn listed(names: &[String]) -> String {
    match names.is_empty() {
        true => "none".into(),
        false => names.join(", "),
    }
}

fn visible(bytes: &[u8]) -> String {
    crate::console::visible(&String::from_utf8_lossy(bytes))
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
