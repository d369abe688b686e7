//! From whoever started the daemon to a user without a capability. What needs root is done first:
//! the folders, and docker.sock in the run folder.

use crate::disk::{self, DiskError, at};
use coracle_board_support::account::{self, Account};
use coracle_board_support::config::Config;
use nix::unistd::{Gid, Uid};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Why the daemon cannot run as it should.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// A folder or the socket.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// No such account.
    #[error(
        "there is no user `{0}` in /etc/passwd; make it (`useradd --system --no-create-home {0}`) or name another in coracle.toml, [agent] user"
    )]
    NoUser(String),
    /// It is root.
    #[error("[agent] user is `{0}`, which is root; name another, or start with --allow-root")]
    UserIsRoot(String),
    /// Somebody answers on the socket.
    #[error("{} is in use: another coracled runs with this configuration", .0.display())]
    InUse(PathBuf),
    /// A system call.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: nix::Error,
    },
}

/// Makes the folders, binds docker.sock and becomes the daemon's user. Started by another user than
/// root it makes what it may and keeps its user. `allow_root` keeps root.
pub fn prepare(config: &Config, allow_root: bool) -> Result<UnixListener, PrivilegeError> {
    let root = Uid::effective().is_root();
    let account = if root && !allow_root {
        let user = account(&config.user)?;
        if user.uid == 0 {
            return Err(PrivilegeError::UserIsRoot(config.user.clone()));
        }
        Some(user)
    } else {
        None
    };
    disk::make_folder(&config.run_dir, 0o755)?;
    disk::make_folder(&config.state_dir, 0o755)?;
    let blobs = config.store_dir().join("blobs");
    let folders = [
        (config.store_dir(), 0o755),
        (blobs.clone(), 0o755),
        (blobs.join("sha256"), 0o755),
        (config.identity_dir(), 0o700),
        (config.spool_dir(), 0o700),
        (config.spool_dir().join("feedback"), 0o700),
    ];
    for (folder, mode) in &folders {
        disk::make_folder(folder, *mode)?;
        give(folder, account.as_ref())?;
    }
    let socket = config.docker_socket();
    let listener = bind(&socket)?;
    give(&socket, account.as_ref())?;
    if let Some(user) = &account {
        become_user(user)?;
        tracing::info!(user = %user.name, "dropped privileges");
    }
    set("set no_new_privs", nix::sys::prctl::set_no_new_privs())?;
    Ok(listener)
}

fn account(name: &str) -> Result<Account, PrivilegeError> {
    let etc = Path::new("/etc");
    let found = account::look_up(Path::new("/"), name).map_err(at("look up the user in", etc))?;
    found.ok_or_else(|| PrivilegeError::NoUser(name.to_owned()))
}

fn give(path: &Path, account: Option<&Account>) -> Result<(), PrivilegeError> {
    match account {
        Some(user) => Ok(
            std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid))
                .map_err(at("give to the daemon's user", path))?,
        ),
        None => Ok(()),
    }
}

/// Binds the socket, mode 0660. One that nobody answers on is left from a daemon that was killed.
fn bind(path: &Path) -> Result<UnixListener, PrivilegeError> {
    if UnixStream::connect(path).is_ok() {
        return Err(PrivilegeError::InUse(path.to_owned()));
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(at("remove the old socket", path)(e).into());
        }
        _ => {}
    }
    // Nobody else may connect between bind and chmod.
    let old = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path).map_err(at("listen on", path));
    nix::sys::stat::umask(old);
    let listener = listener?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
        .map_err(at("set the mode of", path))?;
    listener
        .set_nonblocking(true)
        .map_err(at("listen on", path))?;
    Ok(listener)
}

/// Groups, then group, then user; each capability goes with the last user id that was root's
/// (capabilities(7), "Effect of user ID changes on capabilities").
fn become_user(user: &Account) -> Result<(), PrivilegeError> {
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    set("set the groups", nix::unistd::setgroups(&groups))?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set("set the group", nix::unistd::setresgid(gid, gid, gid))?;
    set("set the user", nix::unistd::setresuid(uid, uid, uid))?;
    debug_assert!(Uid::effective() == uid && Gid::effective() == gid);
    Ok(())
}

fn set<T>(what: &'static str, result: nix::Result<T>) -> Result<T, PrivilegeError> {
    result.map_err(|source| PrivilegeError::System { what, source })
}
