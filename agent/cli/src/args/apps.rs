//! Commands about one app.

use super::words::Words;
use super::{Action, Command, Logs, UsageError};

impl Words {
    pub(super) fn control(
        &mut self,
        name: &'static str,
        action: Action,
    ) -> Result<Command, UsageError> {
        let app = self.app(name)?;
        self.end(name, Command::Control { action, app })
    }

    /// Which signals there are the supervisor knows.
    pub(super) fn kill(&mut self) -> Result<Command, UsageError> {
        let app = self.app("kill")?;
        let signal = self.signal.take().unwrap_or_else(|| "KILL".to_owned());
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '+';
        if signal.is_empty() || !signal.chars().all(is_word) {
            return Err(UsageError::Signal(signal));
        }
        self.end("kill", Command::Kill { app, signal })
    }

    pub(super) fn logs(&mut self) -> Result<Command, UsageError> {
        let logs = Logs {
            app: self.app("logs")?,
            follow: std::mem::take(&mut self.follow),
            timestamps: std::mem::take(&mut self.timestamps),
            tail: self.tail.take().flatten(),
        };
        self.end("logs", Command::Logs(logs))
    }
}
