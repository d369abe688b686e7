//! A PKCS#11 library, loaded once for all keys: to it a process is one application, and what one key does to it
//! happens to the others.

use super::{Kind, MODULE, Token, TokenError};
use crate::uri::Pkcs11Uri;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

static LOADED: Mutex<BTreeMap<PathBuf, Shared>> = Mutex::new(BTreeMap::new());

type Shared = Arc<Mutex<Library>>;

/// A loaded library.
pub(super) struct Library {
    pub(super) path: PathBuf,
    pub(super) context: Pkcs11,
    /// Whether it is initialised.
    begun: bool,
    /// Counts its beginnings: sessions of an earlier one are over, and their numbers may be those of others now.
    beginning: u64,
    /// Tokens that refused a PIN, by serial number: another try could lock them, so that is a person's.
    pub(super) refused: BTreeMap<String, String>,
}

/// An open token, for as long as its library is not begun anew.
pub(super) struct Held {
    library: Shared,
    beginning: u64,
    token: Option<Token>,
    name: String,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    /// Opens the token and looks for something in it. What fails in a library that is in use already is tried once more
    /// with the library begun anew: few see otherwise that a token was away and is there again.
    pub(super) fn open<T>(
        uri: &Pkcs11Uri,
        kind: Kind,
        writable: bool,
        look: impl Fn(&Token) -> Result<T, TokenError>,
    ) -> Result<(Self, T), TokenError> {
        let shared = of(uri)?;
        let mut library = lock(&shared);
        let attempt = |library: &mut Library| -> Result<_, TokenError> {
            let token = Token::open(library, uri, kind, writable)?;
            let found = look(&token)?;
            Ok((token, found))
        };
        let in_use = library.begun;
        library.begin()?;
        let opened = match attempt(&mut library) {
            Err(error)
                if in_use && error.may_pass() && !matches!(error, TokenError::Spared { .. }) =>
            {
                library.begin_anew()?;
                attempt(&mut library)
            }
            other => other,
        };
        let (token, found) = opened?;
        let held = Self {
            beginning: library.beginning,
            library: shared.clone(),
            name: token.name.clone(),
            token: Some(token),
        };
        Ok((held, found))
    }

    /// Which token, for people.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Does something in it.
    pub(super) fn within<T>(
        &self,
        work: impl FnOnce(&Token) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let library = lock(&self.library);
        match &self.token {
            Some(token) if library.beginning == self.beginning => work(token),
            _ => Err(TokenError::Anew {
                token: self.name.clone(),
            }),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let library = lock(&self.library);
        let token = self.token.take();
        if library.beginning != self.beginning {
            // Closing it could close another's.
            std::mem::forget(token);
        }
    }
}

impl Library {
    fn begin(&mut self) -> Result<(), TokenError> {
        if !self.begun {
            let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
            let begun = self.context.initialize(arguments);
            begun.map_err(|error| at(&self.path, &error))?;
            self.begun = true;
            self.beginning += 1;
        }
        Ok(())
    }

    fn begin_anew(&mut self) -> Result<(), TokenError> {
        // One that cannot end is not initialised either: the next step says so.
        let _ = self.context.clone().finalize();
        self.begun = false;
        self.beginning += 1;
        self.begin()
    }
}

/// The library that `uri` names.
fn of(uri: &Pkcs11Uri) -> Result<Shared, TokenError> {
    let path = uri
        .module_path
        .clone()
        .or_else(|| std::env::var_os(MODULE).map(PathBuf::from))
        .ok_or_else(|| TokenError::NoModule(Box::new(uri.clone())))?;
    let mut loaded = lock(&LOADED);
    if let Some(library) = loaded.get(&path) {
        return Ok(library.clone());
    }
    let context = Pkcs11::new(&path).map_err(|error| at(&path, &error))?;
    let library = Arc::new(Mutex::new(Library {
        path: path.clone(),
        context,
        begun: false,
        beginning: 0,
        refused: BTreeMap::new(),
    }));
    loaded.insert(path, library.clone());
    Ok(library)
}

pub(super) fn at(path: &Path, error: &cryptoki::error::Error) -> TokenError {
    TokenError::Module {
        module: path.to_owned(),
        fault: error.to_string(),
    }
}
