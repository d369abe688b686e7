//! The values that coracle.toml may hold. Each type is checked while it is read, so that a wrong
//! value is reported with its line, and so that whoever holds one need not check again.

mod choice;
mod downloads;
mod endpoint;
mod names;
mod network;
mod window;

pub use choice::{KeyHome, LocalPolicy, LogLevel, ProfileChoice, StickPolicy};
pub use downloads::{MeteredPolicy, Rate};
pub use endpoint::{BrokerUrl, ConsoleUrl, ProxyUrl};
pub use names::{LinkName, PlainName};
pub use network::{Mtu, Subnet};
pub use window::{HoursUp, UnknownTime, Window, Zone};
