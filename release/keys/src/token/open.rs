//! From a URI to an open token: the library, the one token that matches, and its PIN.

use super::{MODULE, Token, TokenError, listed, pin, visible};
use crate::uri::Pkcs11Uri;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::session::UserType;
use cryptoki::slot::{Slot, TokenInfo};
use std::path::{Path, PathBuf};

impl Token {
    pub(super) fn open(uri: &Pkcs11Uri, writable: bool) -> Result<Self, TokenError> {
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
}

fn one_token(
    library: &Pkcs11,
    uri: &Pkcs11Uri,
    module: &Path,
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
