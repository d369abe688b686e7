//! The supervisor executes itself anew, in place. After an upgrade the new program has the same process number, so that the
//! apps are its children still and the kernel tells it, and nobody else, how they end: on kernels before 6.15 that is the only
//! way to know (see [`crate::adopt`]).

pub use coracle_board_support::program::Program;

/// What comes after a supervisor's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    End,
    /// The same process executes the program that is now under its name.
    Anew,
}
