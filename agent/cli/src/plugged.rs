//! `usb plugged`: what udev calls when a stick comes. Root opens the device and looks at nothing in it: the file system that
//! a stranger wrote is read by coracled's user, who could not read any other disk.

use crate::args::Place;
use crate::client::Client;
use crate::failure::Failure;
use crate::result::Desk;
use crate::stick::{Medium, MediumError};
use crate::usb;
use coracle_board_support::account;
use coracle_board_support::config::StickPolicy;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Uid};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Why a stick was not looked at.
#[derive(Debug, thiserror::Error)]
pub enum PluggedError {
    /// The device.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// No account to read it with.
    #[error("there is no user `{0}` to read the stick as ([agent] user in coracle.toml)")]
    NoUser(String),
    /// A system call.
    #[error("cannot {what}: {source}")]
    System {
        what: &'static str,
        #[source]
        source: nix::Error,
    },
}

/// Takes what the stick brings, unless the site wants a person to do it or it is none of ours.
pub async fn apply(client: &Client, place: &Place, device: &Path) -> Result<(), Failure> {
    let config = place.config()?;
    if config.plugged == StickPolicy::Ignore {
        return usb::say(&format!(
            "{} is left alone ([usb] plugged in coracle.toml); `coracle usb apply` takes it",
            device.display()
        ));
    }
    usb::quit_on_panic();
    let open = |path: &Path| {
        File::open(path).map_err(|source| PluggedError::Open {
            path: path.to_owned(),
            source,
        })
    };
    // A stick after the other. The supervisor's folder is open to root alone, so that nobody else holds it for ever.
    let turn = Flock::lock(open(&config.supervisor_dir())?, FlockArg::LockExclusive)
        .map_err(|(_, source)| system("wait for another stick")(source))?;
    let file = open(device)?;
    // It too is root's, until it writes.
    let desk = Desk::of_device(place, device, config.hardware_root.clone());
    if Uid::effective().is_root() {
        become_user(&config.user)?;
    }
    let medium = match Medium::of_device(file, device) {
        Err(MediumError::NoIndex { path }) => {
            return usb::say(&format!("{} is no stick of Coracle", path.display()));
        }
        other => other?,
    };
    usb::say(&format!("{}: a stick of Coracle", device.display()))?;
    usb::install(client, &medium, desk).await?;
    drop(turn);
    Ok(())
}

fn system(what: &'static str) -> impl Fn(nix::Error) -> PluggedError {
    move |source| PluggedError::System { what, source }
}

/// Each capability goes with the last user id that was root's.
pub fn become_user(name: &str) -> Result<(), PluggedError> {
    let user = account::look_up(Path::new("/"), name)
        .ok()
        .flatten()
        .ok_or_else(|| PluggedError::NoUser(name.to_owned()))?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    nix::unistd::setgroups(&[gid]).map_err(system("leave root's groups"))?;
    nix::unistd::setresgid(gid, gid, gid).map_err(system("change the group"))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(system("change the user"))
}
