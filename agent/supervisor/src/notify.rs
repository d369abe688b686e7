//! What systemd is told, when it asked (sd_notify(3)): READY=1, STOPPING=1, and WATCHDOG=1 from the
//! supervisor's own loop, so that a loop that hangs gets the board's service restarted.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager's socket, or nobody.
#[derive(Debug)]
pub struct Notify {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// By `NOTIFY_SOCKET` and `WATCHDOG_USEC` of the environment.
    pub fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let address = match name.as_bytes() {
                [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
                path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
            };
            let socket = UnixDatagram::unbound().ok()?;
            socket.connect_addr(&address.ok()?).ok()?;
            // A manager that does not read must not stall the board.
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        });
        let microseconds = std::env::var("WATCHDOG_USEC")
            .ok()
            .and_then(|text| text.parse().ok());
        Self {
            watchdog: microseconds
                .filter(|_| socket.is_some())
                .map(|us: u64| (Duration::from_micros(us) / 2).max(Duration::from_secs(1))),
            socket,
        }
    }

    /// How often [`Notify::alive`] is wanted.
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The socket is open and the apps are on their way.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// The loop goes round.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// The supervisor goes; apps stay.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    fn say(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(text.as_bytes())
        {
            tracing::debug!(%error, text, "the service manager does not listen");
        }
    }
}
