//! `coracle-console token`: API tokens, also while the console runs.

use crate::clock::now;
use crate::files::{self, FileError, Mode};
use crate::secrets::{self, NoRandom};
use crate::settings::{State, TokenCommand};
use crate::store::{Identity, Role, Store, StoreError};

/// Why a token could not be made or deleted.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The random source.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The name is in use.
    #[error("a token named `{0}` is there already; delete it first, or choose another name")]
    Taken(String),
    /// No such name.
    #[error("there is no token named `{0}`; `coracle-console token list` shows those that are")]
    Unknown(String),
    /// Not a name.
    #[error("a token's name has 1 to 64 characters")]
    Name,
}

/// Runs the subcommand; what it prints.
pub async fn run(command: TokenCommand) -> Result<String, TokenError> {
    let state = match &command {
        TokenCommand::New { state, .. }
        | TokenCommand::List { state }
        | TokenCommand::Delete { state, .. } => State {
            root: state.clone(),
        },
    };
    let store = Store::open(&state.database()).await?;
    let output = match command {
        TokenCommand::New {
            name, read_only, ..
        } => {
            let role = if read_only {
                Role::ReadOnly
            } else {
                Role::Admin
            };
            new(&store, &name, role).await?
        }
        TokenCommand::List { .. } => {
            let tokens = store.tokens().await?;
            tokens
                .iter()
                .map(|who| {
                    let role = match who.role {
                        Role::Admin => "admin",
                        Role::ReadOnly => "read-only",
                    };
                    format!("{}\t{role}", who.name)
                })
                .collect::<Vec<_>>()
                .join("\n")
        }
        TokenCommand::Delete { name, .. } => {
            if !store.delete_token(&name).await? {
                return Err(TokenError::Unknown(name));
            }
            format!("deleted {name}")
        }
    };
    store.close().await;
    Ok(output)
}

/// Makes a token; the only time that it is seen.
pub async fn new(store: &Store, name: &str, role: Role) -> Result<String, TokenError> {
    if !(1..=64).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Err(TokenError::Name);
    }
    let token = secrets::token()?;
    let who = Identity {
        name: name.to_owned(),
        role,
    };
    if !store.add_token(&secrets::hash(&token), &who, now()).await? {
        return Err(TokenError::Taken(name.to_owned()));
    }
    Ok(token)
}

/// The first token, in STATE/admin.token, when there is none at all. The file comes first: a token
/// that nobody can read would lock the operator out.
pub async fn first(store: &Store, state: &State) -> Result<(), TokenError> {
    if !store.tokens().await?.is_empty() {
        return Ok(());
    }
    let token = secrets::token()?;
    let path = state.admin_token();
    files::write(&path, format!("{token}\n").as_bytes(), Mode::Private)?;
    let who = Identity {
        name: "admin".into(),
        role: Role::Admin,
    };
    store.add_token(&secrets::hash(&token), &who, now()).await?;
    tracing::info!(file = %path.display(), "the first API token was made");
    Ok(())
}
