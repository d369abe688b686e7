//! From an error to words and an exit code: the one place that decides both.

use crate::board_keys::BoardKeyError;
use crate::console::ConsoleError;
use crate::deploy::Ended;
use coracle_protocol::verify::Refusal;
use std::error::Error;
use std::fmt;

/// It could not be done.
pub const FAILED: u8 = 1;
/// The command line makes no sense.
pub const USAGE: u8 = 2;
/// Refused: by trust, here or on a board.
pub const REFUSED: u8 = 3;
/// No console there.
pub const UNREACHABLE: u8 = 4;

/// Why the program ends.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    source: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// The command line makes no sense in a way that only shows later.
    pub fn usage(words: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            source: words.into().into(),
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let source: Box<dyn Error + Send + Sync> = Box::new(error);
        let mut code = FAILED;
        let mut next: Option<&(dyn Error + 'static)> = Some(source.as_ref());
        while let Some(error) = next {
            let changed = error.downcast_ref::<BoardKeyError>();
            if error.is::<Refusal>() || matches!(changed, Some(BoardKeyError::Changed(_))) {
                code = REFUSED;
            } else if let Some(console) = error.downcast_ref::<ConsoleError>() {
                code = console.exit_code();
            } else if let Some(ended) = error.downcast_ref::<Ended>() {
                code = ended.exit_code();
            }
            next = error.source();
        }
        Self { code, source }
    }
}

/// The error and what caused it, on one line. A cause that the error already says is left out.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.source.to_string();
        f.write_str(&said)?;
        let mut next = self.source.source();
        while let Some(error) = next {
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            next = error.source();
        }
        Ok(())
    }
}
