//! Users of apps: whether an app's root is nobody on the board, and which of the board's ids it gets then.
//!
//! Image, writable layer and volumes keep the ids of inside on disk (see `coracle_runtime::namespaces`), so that nothing is
//! converted when an app gets a range, loses it or gets another one. Folders of the board that a release binds keep the
//! board's owners: there an app's root is a stranger.

mod ranges;

pub use ranges::{RangeError, Ranges};

use crate::apps::user::User;
use crate::settings::Settings;
use coracle_board_support::config::Config;
use coracle_board_support::profile::{IDS_PER_APP, Isolation, UserNamespaces};
use coracle_protocol::release::{App, DiskOn, NetworkMode, Release};
use coracle_protocol::report::AppUsers;
use coracle_runtime::Failure;
use coracle_runtime::namespaces::{IdRange, try_range};

/// What this board does about users.
#[derive(Debug, Clone)]
pub struct UsersPolicy {
    /// As the profile says.
    pub wanted: UserNamespaces,
    /// First of the board's ids that apps get.
    pub first: u32,
    /// Whether an app whose writable layer is on the disk can have its own; tried at start.
    on_disk: Result<(), String>,
    /// The same with a writable layer in memory.
    in_memory: Result<(), String>,
    /// The disk was full, which says nothing of what it can do.
    is_open: bool,
}

impl UsersPolicy {
    /// Tries what the kernel and the state folder's file system can do.
    pub fn of(config: &Config, isolation: &Isolation) -> Self {
        let first = isolation.first_id.get();
        let range = IdRange {
            first,
            count: IDS_PER_APP,
        };
        let mut is_open = false;
        let mut tried = |in_memory| {
            if isolation.user_namespaces == UserNamespaces::Off {
                return Err("it was not tried".to_owned());
            }
            // In memory it needs nothing of the disk.
            let folder = match in_memory {
                true => config.supervisor_dir(),
                false => config.containers_dir(),
            };
            match try_range(&folder, in_memory, range) {
                // What apps of this board have had they get: none is the board's root because its disk is full.
                Err(why) if is_of_a_full_disk(&why) => {
                    is_open = true;
                    match ranges::are_given(&config.ids_file()) {
                        true => Ok(()),
                        false => Err(why.to_string()),
                    }
                }
                other => other.map_err(|why| why.to_string()),
            }
        };
        let policy = Self {
            wanted: isolation.user_namespaces,
            first,
            on_disk: tried(false),
            in_memory: tried(true),
            is_open,
        };
        match (policy.wanted, &policy.on_disk) {
            (UserNamespaces::Off, _) => tracing::info!("apps' users are the board's"),
            (_, Ok(())) => tracing::info!(first, "apps have users of their own"),
            (wanted, Err(why)) => {
                let wanted = wanted.as_str();
                tracing::warn!(wanted, why, "apps' users are the board's");
            }
        }
        policy
    }

    /// The disk was full, so that it was not shown.
    pub fn is_open(&self) -> bool {
        self.is_open
    }
}

fn is_of_a_full_disk(why: &Failure) -> bool {
    [libc::ENOSPC, libc::EDQUOT].contains(&why.errno)
}

/// Whose an app's users are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// Its own.
    Own,
    /// The board's, and why.
    Boards(String),
}

/// What has to be and cannot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct UsersRefused {
    /// A kernel that could would change it.
    pub kernel: bool,
    reason: String,
}

/// Decides for an app of a release; `user` is who it runs as, where the image is known.
pub fn decide(app: &App, user: Option<&User>, board: &UsersPolicy) -> Result<Users, UsersRefused> {
    let refused = |kernel, reason: String| Err(UsersRefused { kernel, reason });
    let must = match (board.wanted, app.user_namespace) {
        (UserNamespaces::Off, Some(true)) => {
            let text = "the release says user_namespace = true, and the board's profile isolation.user_namespaces = \"off\"";
            return refused(false, text.to_owned());
        }
        (UserNamespaces::Off, _) => {
            let text = "the board's profile says isolation.user_namespaces = \"off\"";
            return Ok(Users::Boards(text.to_owned()));
        }
        (UserNamespaces::Required, Some(false)) => {
            let text = "the release says user_namespace = false, and the board's profile isolation.user_namespaces = \"required\"";
            return refused(false, text.to_owned());
        }
        (UserNamespaces::Auto, Some(false)) => {
            return Ok(Users::Boards(
                "the release says user_namespace = false".to_owned(),
            ));
        }
        (UserNamespaces::Required, _) => Some("the board's profile requires it"),
        (UserNamespaces::Auto, Some(true)) => Some("the release requires it"),
        (UserNamespaces::Auto, None) => None,
    };
    let obstacle = obstacle(app, user, board);
    match (must, obstacle) {
        (Some(who), Some((kernel, why))) => refused(
            kernel,
            format!("it cannot have users of its own, and {who}: {why}"),
        ),
        (None, Some((_, why))) => Ok(Users::Boards(why)),
        (Some(_), None) => Ok(Users::Own),
        (None, None) => Ok(match app.binds.first() {
            // What the board has given away, to write or to read, it has given to its own root, as long as nobody says otherwise.
            Some(bind) => Users::Boards(format!(
                "it has the board's folder `{}`; with user_namespace = true its root would be a stranger there",
                bind.source
            )),
            None => Users::Own,
        }),
    }
}

/// What stands against it, and whether that is the kernel.
fn obstacle(app: &App, user: Option<&User>, board: &UsersPolicy) -> Option<(bool, String)> {
    if app.network.mode == NetworkMode::Host {
        return Some((false, "it uses the board's network".to_owned()));
    }
    let in_memory = app.limits.disk_on == DiskOn::Memory && !app.read_only_root;
    // Its image and its volumes are on the disk all the same.
    let able = match (&board.on_disk, in_memory) {
        (Ok(()), true) => &board.in_memory,
        (on_disk, _) => on_disk,
    };
    if let Err(why) = able {
        let text = format!("{why} (`coracle board check` says what is missing)");
        return Some((true, text));
    }
    let user = user?;
    let mut ids = [user.uid, user.gid].into_iter().chain(user.groups.clone());
    let beyond = ids.find(|id| *id >= IDS_PER_APP)?;
    let text =
        format!("it runs as user or group {beyond}, and an app has {IDS_PER_APP} of its own");
    Some((false, text))
}

/// Apps of a release that cannot have the users that they must have; whether a kernel could change all of it.
pub fn refused(release: &Release, settings: &Settings) -> (bool, Vec<String>) {
    let mut kernel = true;
    let mut problems = Vec::new();
    for app in &release.apps {
        if let Err(why) = decide(app, None, &settings.users) {
            kernel &= why.kernel;
            problems.push(format!("app `{}`: {why}", app.name));
        }
    }
    (kernel, problems)
}

/// The ids that a process has of the board's, when its users are its own.
pub fn of_process(pid: i32) -> Option<IdRange> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).ok()?;
    parse(&text)
}

/// One line with a range from 0 on (user_namespaces(7)); the board's own users are all of them from 0 on.
fn parse(map: &str) -> Option<IdRange> {
    let mut numbers = map.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(0)), Some(Ok(first)), Some(Ok(count))) if first != 0 => {
            Some(IdRange { first, count })
        }
        _ => None,
    }
}

/// As the status says it, of an app that runs.
pub fn status(range: Option<IdRange>, planned: Option<&Users>) -> AppUsers {
    match (range, planned) {
        (Some(range), _) => AppUsers::Own {
            first: range.first,
            count: range.count,
        },
        (None, Some(Users::Boards(because))) => AppUsers::Board {
            because: because.clone(),
        },
        (None, _) => AppUsers::Board {
            because: "it was started before it could have its own: `coracle restart` changes that"
                .to_owned(),
        },
    }
}

#[cfg(test)]
mod tests;
