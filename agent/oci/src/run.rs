//! `run`: create and start, and unless detached also wait and delete.

use std::os::unix::net::UnixStream;

use crate::args::Create;
use crate::config::Config;
use crate::create::{Terminal, create};
use crate::failure::{Doing, Failure};
use crate::foreground::{self, Signals};
use crate::id::ContainerId;
use crate::journal::Journal;
use crate::store::Store;
use crate::{delete, start};

pub fn run(
    store: &Store,
    id: &ContainerId,
    config: &Config,
    options: &Create,
    journal: &Journal,
) -> Result<i32, Failure> {
    let socket = options.console_socket.as_deref();
    if options.detach {
        let terminal = socket.map_or(Terminal::None, Terminal::Socket);
        create(store, id, config, options, terminal, journal)?;
        start_or_delete(store, id, journal)?;
        return Ok(0);
    }

    let (terminal, held) = match socket {
        Some(path) => (Terminal::Socket(path), None),
        None => {
            let (here, there) = UnixStream::pair().doing("making a socket pair")?;
            (Terminal::Held(there), Some(here))
        }
    };
    // Before there is a child whose end could be missed.
    let signals = Signals::hold()?;
    let created = create(store, id, config, options, terminal, journal)?;
    let shows = config.wants_terminal();
    let master = match &held {
        Some(here) if shows => Some(foreground::receive_master(here)?),
        _ => None,
    };
    start_or_delete(store, id, journal)?;
    let code = foreground::wait(created.pid, &signals, master)?;
    if !options.keep {
        delete::delete(store, id, true, journal)?;
    }
    Ok(code)
}

fn start_or_delete(store: &Store, id: &ContainerId, journal: &Journal) -> Result<(), Failure> {
    start::start(store, id, journal).inspect_err(|_| {
        if let Err(second) = delete::delete(store, id, true, journal) {
            journal.warn(&format!("cleaning up: {second}"));
        }
    })
}
