//! What the console remembers of its broker over its starts: how boards' topics are written, and its own client identifier.

use super::ServeError;
use crate::ca::CONSOLE;
use crate::files::{self, Mode};
use crate::secrets::random_hex;
use crate::settings::State;
use crate::store::Store;
use coracle_protocol::topics::Separator;
use std::path::Path;

fn read(file: &Path) -> Result<Option<String>, ServeError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(files::at(file)(error).into()),
    }
}

/// Under which identifier the console comes. A broker that holds nobody to the identifier of its certificate would end the
/// console's connection for any board that comes under it: there it is one that boards cannot guess.
pub(super) fn identifier(state: &State, separator: Separator) -> Result<String, ServeError> {
    let file = state.mqtt_identifier();
    let kept = match read(&file)?.filter(|kept| !kept.is_empty()) {
        Some(kept) => kept,
        None => {
            let new = format!("{CONSOLE}-{}", random_hex(16)?);
            files::write(&file, new.as_bytes(), Mode::Private)?;
            new
        }
    };
    // Others bind it to the certificate's name.
    Ok(match separator {
        Separator::Dot => CONSOLE.into(),
        Separator::Colon => kept,
    })
}

/// Boards keep what they were told when they enrolled: with another separator none of them would be heard.
pub(super) async fn separator(
    state: &State,
    store: &Store,
    asked: Separator,
) -> Result<(), ServeError> {
    let file = state.topic_separator();
    let text = read(&file)?;
    if text.as_deref() == Some(asked.as_str()) {
        return Ok(());
    }
    // A console of before wrote none, and knew the dot alone.
    let was = match text.as_deref() {
        None => Separator::Dot,
        Some(text) => match text.parse() {
            Ok(was) => was,
            Err(_) => return Err(ServeError::Remembered { file }),
        },
    };
    let boards = store.enrolled_boards().await?;
    if was != asked && boards > 0 {
        return Err(ServeError::SeparatorChanged {
            was,
            asked,
            boards,
            file,
        });
    }
    files::write(&file, asked.as_str().as_bytes(), Mode::Public)?;
    Ok(())
}

#[cfg(test)]
mod tests;
