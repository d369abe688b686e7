//! From a URI to an open token: the one that matches, and its PIN.

use super::library::{Library, at};
use super::{Kind, Token, TokenError, listed, pin, visible};
use crate::uri::Pkcs11Uri;
use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::session::UserType;
use cryptoki::slot::{Slot, TokenInfo};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

static SPARED: AtomicBool = AtomicBool::new(false);

/// For a service, which its keeper starts again and again: a PIN that was wrong last time is not tried. Whoever has put
/// it right logs in once by hand.
pub fn spare_tries() {
    SPARED.store(true, Ordering::Relaxed);
}

impl Token {
    pub(super) fn open(
        library: &mut Library,
        uri: &Pkcs11Uri,
        kind: Kind,
        writable: bool,
    ) -> Result<Self, TokenError> {
        let path = library.path.clone();
        let in_module = |error: Error| at(&path, &error);
        let (slot, info) = one_token(&library.context, uri, &path)?;
        let name = described(slot, &info);
        let mechanisms = library.context.get_mechanism_list(slot);
        if !mechanisms.map_err(in_module)?.contains(&kind.signs_by()) {
            return Err(TokenError::NoSuchKind { token: name, kind });
        }
        let session = match writable {
            true => library.context.open_rw_session(slot),
            false => library.context.open_ro_session(slot),
        };
        let session = session.map_err(in_module)?;
        let token = Self { session, name };
        if info.login_required() {
            token.login(library, uri, &info)?;
        }
        Ok(token)
    }

    fn login(
        &self,
        library: &mut Library,
        uri: &Pkcs11Uri,
        info: &TokenInfo,
    ) -> Result<(), TokenError> {
        let refused = |fault: String| TokenError::Login {
            token: self.name.clone(),
            fault,
        };
        // One PIN opens all keys of a token: what it refused for one is not tried for the next.
        if let Some(fault) = library.refused.get(info.serial_number()) {
            return Err(refused(format!(
                "{fault}; it was not tried again, and is not before the next start"
            )));
        }
        if info.user_pin_locked() {
            return Err(refused(
                "its PIN is locked; the token's own tool unlocks it with the SO PIN".into(),
            ));
        }
        if info.user_pin_final_try() {
            return Err(refused(
                "one try is left before its PIN locks: log in once with the token's own tool"
                    .into(),
            ));
        }
        if SPARED.load(Ordering::Relaxed) && info.user_pin_count_low() {
            return Err(TokenError::Spared {
                token: self.name.clone(),
            });
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
                let fault = format!("the PIN is wrong{few}");
                let serial = info.serial_number().to_owned();
                library.refused.insert(serial, fault.clone());
                Err(refused(fault))
            }
            Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(refused(
                "its PIN is locked; the token's own tool unlocks it with the SO PIN".into(),
            )),
            Err(error) => Err(refused(error.to_string())),
        }
    }
}

fn one_token(
    library: &Pkcs11,
    uri: &Pkcs11Uri,
    module: &Path,
) -> Result<(Slot, TokenInfo), TokenError> {
    let slots = library.get_slots_with_initialized_token();
    let slots = slots.map_err(|error| at(module, &error))?;
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
