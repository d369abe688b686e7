//! systemd's own calls (org.freedesktop.systemd1(5)).

use std::path::PathBuf;
use std::time::Duration;

use super::bus::{Bus, BusError, Peer};
use super::message::{Body, Call, Value};
use crate::failure::Failure;

/// For all that one command asks of systemd, its jobs too. runc has the same for a job.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a bus is, unless the variable says otherwise.
const BUS: &str = "/run/dbus/system_bus_socket";
const BUS_VARIABLE: &str = "DBUS_SYSTEM_BUS_ADDRESS";

/// systemd's own, for boards without a bus.
const PRIVATE: &str = "/run/systemd/private";

const NAME: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
pub const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const SCOPE: &str = "org.freedesktop.systemd1.Scope";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

const ENDS: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
    interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// How a job ends that did what was wanted.
const DONE: &str = "done";

#[derive(Debug)]
pub struct Manager {
    bus: Bus,
    peer: Peer,
}

type Properties<'a> = [(&'static str, Value)];

impl Manager {
    pub fn connect() -> Result<Manager, Failure> {
        Manager::connect_to(&peers()?, PATIENCE)
    }

    /// The first who listens.
    pub fn connect_to(peers: &[Peer], patience: Duration) -> Result<Manager, Failure> {
        let mut absent = Vec::new();
        for peer in peers {
            match Bus::connect(peer, patience) {
                Ok(bus) => {
                    let peer = peer.clone();
                    return Ok(Manager { bus, peer });
                }
                Err(error @ BusError::Absent(_)) => {
                    absent.push(format!("{}: {error}", peer.path().display()));
                }
                Err(error) => {
                    return Err(Failure::Systemd(format!(
                        "{}: {error}",
                        peer.path().display()
                    )));
                }
            }
        }
        Err(Failure::Systemd(format!(
            "{}. --systemd-cgroup needs systemd as the first process; without it set the engine's cgroup manager to cgroupfs",
            absent.join("; ")
        )))
    }

    /// Its number; 0 where it tells none.
    pub fn version(&mut self) -> Result<u32, Failure> {
        let text = self.property(OBJECT, MANAGER, "Version")?;
        let digits: String = text
            .chars()
            .skip_while(|c| !c.is_ascii_digit())
            .take_while(char::is_ascii_digit)
            .collect();
        Ok(digits.parse().unwrap_or(0))
    }

    /// Waits until the scope is there.
    pub fn start_scope(&mut self, unit: &str, properties: &Properties<'_>) -> Result<(), Failure> {
        let body = || {
            Body::default()
                .text(unit)
                .text("fail")
                .properties(properties)
                .no_units()
        };
        self.subscribe(unit)?;
        match self.job("StartTransientUnit", unit, &body()) {
            // What failed under this name is in the way until it is forgotten. What runs stays.
            Err(BusError::Refused { name, .. }) if name == format!("{NAME}.UnitExists") => {
                let _ = self.manager("ResetFailedUnit", &Body::default().text(unit));
                self.job("StartTransientUnit", unit, &body())
            }
            other => other,
        }
        .map_err(|error| self.failed("starting", unit, &error))
    }

    /// Where it is, below the top of the cgroups.
    pub fn control_group(&mut self, unit: &str) -> Result<String, Failure> {
        self.property(&object(unit), SCOPE, "ControlGroup")
    }

    /// Until systemd is restarted, or the scope ends. Has been done when this is.
    pub fn set(&mut self, unit: &str, properties: &Properties<'_>) -> Result<(), Failure> {
        let body = Body::default().text(unit).flag(true).properties(properties);
        self.manager("SetUnitProperties", &body)
            .map_err(|error| self.failed("changing", unit, &error))?;
        // It writes what it was told to the cgroup after it has answered, and before it hears the next question.
        self.control_group(unit).map(drop)
    }

    /// Waits until the scope is gone. One that is not there is what was wanted.
    pub fn stop(&mut self, unit: &str) -> Result<(), Failure> {
        self.subscribe(unit)?;
        let body = Body::default().text(unit).text("replace");
        match self.job("StopUnit", unit, &body) {
            Err(error) if !is_missing(&error) => return Err(self.failed("stopping", unit, &error)),
            _ => {}
        }
        match self.manager("ResetFailedUnit", &Body::default().text(unit)) {
            Err(error) if !is_missing(&error) => Err(self.failed("forgetting", unit, &error)),
            _ => Ok(()),
        }
    }

    fn subscribe(&mut self, unit: &str) -> Result<(), Failure> {
        match self.peer {
            Peer::Systemd(_) => Ok(()),
            Peer::Bus(_) => {
                let subscribed = self.bus.subscribe(ENDS);
                subscribed.map_err(|error| self.failed("watching", unit, &error))
            }
        }
    }

    /// A call that makes a job, to its end.
    fn job(&mut self, member: &str, unit: &str, body: &Body) -> Result<(), BusError> {
        let answer = self.manager(member, body)?;
        let mut arguments = answer.arguments("o").map_err(BusError::Nonsense)?;
        let job = arguments.text().map_err(BusError::Nonsense)?;
        let result = self.bus.wait_for_job(&answer.sender, job)?;
        if result == DONE {
            return Ok(());
        }
        Err(BusError::Refused {
            name: result,
            text: format!("its job did not end well; see journalctl -u {unit}"),
        })
    }

    fn manager(&mut self, member: &str, body: &Body) -> Result<super::message::Message, BusError> {
        let to = Call {
            destination: NAME,
            path: OBJECT,
            interface: MANAGER,
            member,
        };
        self.bus.call(&to, body)
    }

    fn property(&mut self, path: &str, interface: &str, name: &str) -> Result<String, Failure> {
        let to = Call {
            destination: NAME,
            path,
            interface: PROPERTIES,
            member: "Get",
        };
        let body = Body::default().text(interface).text(name);
        let read = self.bus.call(&to, &body).and_then(|answer| {
            let text = answer
                .arguments("v")
                .and_then(|mut value| value.variant_text());
            Ok(text.map_err(BusError::Nonsense)?.to_owned())
        });
        read.map_err(|error| self.failed("asking for", name, &error))
    }

    fn failed(&self, what: &str, of: &str, error: &BusError) -> Failure {
        Failure::Systemd(format!(
            "{what} {of}: {}: {error}",
            self.peer.path().display()
        ))
    }
}

fn is_missing(error: &BusError) -> bool {
    matches!(error, BusError::Refused { name, .. } if name == "org.freedesktop.systemd1.NoSuchUnit")
}

/// The path of a unit's object: what is neither letter nor digit, and a digit in front, by its number (sd_bus_path_encode(3)).
fn object(unit: &str) -> String {
    let escaped = unit.bytes().enumerate().map(|(at, byte)| match byte {
        b'0'..=b'9' if at > 0 => char::from(byte).to_string(),
        b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
        other => format!("_{other:02x}"),
    });
    format!("{OBJECT}/unit/{}", escaped.collect::<String>())
}

fn peers() -> Result<Vec<Peer>, Failure> {
    match std::env::var(BUS_VARIABLE) {
        Ok(address) if !address.is_empty() => Ok(vec![Peer::Bus(socket(&address)?)]),
        _ => Ok(vec![Peer::Bus(BUS.into()), Peer::Systemd(PRIVATE.into())]),
    }
}

/// The first path in an address (D-Bus specification, "Server Addresses"), such as `unix:path=/run/dbus/system_bus_socket`.
fn socket(address: &str) -> Result<PathBuf, Failure> {
    let path = address.split(';').find_map(|one| {
        let values = one.strip_prefix("unix:")?.split(',');
        values
            .filter_map(|value| value.strip_prefix("path="))
            .next()
    });
    match path {
        Some(path) if path.starts_with('/') && !path.contains('%') => Ok(path.into()),
        _ => Err(Failure::Systemd(format!(
            "{BUS_VARIABLE}={address:?} has no unix:path=/… without escapes"
        ))),
    }
}

#[cfg(test)]
mod tests;
