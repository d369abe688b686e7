//! Commands about the board.

use super::words::Words;
use super::{Command, UsageError};

impl Words {
    pub(super) fn usb(&mut self) -> Result<Command, UsageError> {
        let what = "`apply` and a folder or an image, or `plugged` and a device";
        let word = self.plain.pop_front().unwrap_or_default();
        let command = match word.to_str() {
            Some("apply") => Command::UsbApply {
                path: self.path("usb", what)?,
            },
            Some("plugged") => Command::UsbPlugged {
                device: self.path("usb", what)?,
            },
            Some("result") => Command::UsbResult {
                device: self.path("usb", what)?,
            },
            _ => {
                return Err(UsageError::Missing {
                    command: "usb",
                    what,
                });
            }
        };
        self.end("usb", command)
    }

    pub(super) fn update(&mut self) -> Result<Command, UsageError> {
        match self.plain.pop_front() {
            Some(word) if word == "accept" => self.end("update", Command::UpdateAccept),
            _ => Err(UsageError::Missing {
                command: "update",
                what: "`accept`",
            }),
        }
    }

    pub(super) fn store(&mut self) -> Result<Command, UsageError> {
        match self.plain.pop_front() {
            Some(word) if word == "check" => {
                let repair = std::mem::take(&mut self.repair);
                self.listing("store", Command::StoreCheck { repair })
            }
            _ => Err(UsageError::Missing {
                command: "store",
                what: "`check`",
            }),
        }
    }

    /// What cannot be undone asks for a word more than its name.
    pub(super) fn reset(
        &mut self,
        command: &'static str,
        decommission: bool,
    ) -> Result<Command, UsageError> {
        if !std::mem::take(&mut self.yes) {
            let what = "`--yes`: it cannot be undone";
            return Err(UsageError::Missing { command, what });
        }
        // Of a board that leaves its fleet they go all the same.
        let volumes = !decommission && std::mem::take(&mut self.volumes);
        let reset = Command::Reset {
            decommission,
            volumes,
        };
        self.end(command, reset)
    }

    pub(super) fn config(&mut self) -> Result<Command, UsageError> {
        let word = self.plain.pop_front().unwrap_or_default();
        let command = match word.to_str() {
            Some("check") => Command::ConfigCheck,
            Some("schema") => Command::ConfigSchema,
            _ => {
                return Err(UsageError::Missing {
                    command: "config",
                    what: "check or schema",
                });
            }
        };
        self.end("config", command)
    }

    pub(super) fn board(&mut self) -> Result<Command, UsageError> {
        let word = self.plain.pop_front().unwrap_or_default();
        match word.to_str() {
            Some("check") => self.listing("board", Command::BoardCheck),
            Some("show") => self.listing("board", Command::BoardShow),
            Some("schema") => self.listing("board", Command::BoardSchema),
            _ => Err(UsageError::Missing {
                command: "board",
                what: "check, show or schema",
            }),
        }
    }
}
