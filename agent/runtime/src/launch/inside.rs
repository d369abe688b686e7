//! What the caller does inside the child, between the steps that are ours.

use std::os::fd::{OwnedFd, RawFd};

use crate::failure::{Failure, Step};

/// Runs in the container's first process, which is a copy of the calling one: what it changes does not come back. An
/// error ends the launch.
pub trait Inside {
    /// Descriptors of the caller's that both functions need. All others are closed.
    fn descriptors(&self) -> Vec<RawFd> {
        Vec::new()
    }

    /// In the container's namespaces, its mounts made, and the host's files still in view.
    ///
    /// # Errors
    /// What ends the launch.
    fn before_root(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// The root is the container's, and so are the mounts; the process is still root with all that it had. Answers where
    /// failures are to be reported from now on, when it is not the caller of the launch any more.
    ///
    /// # Errors
    /// What ends the launch.
    fn before_program(&self) -> Result<Option<OwnedFd>, Failure> {
        Ok(None)
    }

    /// Confined as the program is: its users, capabilities, filter and user are in force. The last moment before it.
    ///
    /// # Errors
    /// What ends the launch.
    fn as_program(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// What whoever answers for system calls is told of this process.
    fn listener_message(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// The short form, for a caller that only has a network to set up.
pub(super) struct Network<'a>(pub(super) &'a dyn Fn() -> Result<(), String>);

impl Inside for Network<'_> {
    fn before_root(&self) -> Result<(), Failure> {
        (self.0)().map_err(|reason| Failure::refused(Step::Network, reason))
    }
}
