//! The files that the broker reads, and the user that reads them.

use super::MESSAGE_BYTES;
use crate::ca::CONSOLE;
use crate::files::{self, FileError, Owner};
use coracle_protocol::topics::{PREFIX, ROOT_NOTICE, Topic};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// The one folder that the broker writes.
const DATA: &str = "data";
const MESSAGES: &str = "broker.db";

/// The file with the list of revoked certificates.
pub(super) const REVOKED: &str = "revoked.crl";

pub(super) fn configuration(folder: &Path, listen: SocketAddr, user: &str) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    let (ca, certificate, key) = (at("ca.crt"), at("server.crt"), at("server.key"));
    let (acl, revoked, data) = (at("acl"), at(REVOKED), at(DATA));
    format!(
        "# Written by coracle-console at each start; changes are lost.
user {user}
per_listener_settings false
listener {port} {ip}
cafile {ca}
certfile {certificate}
keyfile {key}
crlfile {revoked}
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {acl}
persistence true
persistence_location {data}/
persistence_file {MESSAGES}
autosave_interval 60
message_size_limit {MESSAGE_BYTES}
max_queued_messages 10000
max_inflight_messages 20
max_keepalive 600
persistent_client_expiration 90d
log_dest stderr
log_type error
log_type warning
connection_messages false
",
        port = listen.port(),
        ip = listen.ip(),
    )
}

// `%u` is the common name of the client's certificate: one pattern keeps all boards apart.
pub(super) fn acl() -> String {
    let mut text = format!("user {CONSOLE}\ntopic readwrite {PREFIX}/#\n\n");
    let mut line = |way: &str, topic: Topic| {
        text.push_str(&format!("pattern {way} {PREFIX}/%u/{}\n", topic.level()));
    };
    for topic in Topic::TO_BOARDS {
        line("read", topic);
    }
    for topic in Topic::BY_BOARDS {
        line("write", topic);
    }
    text.push_str(&format!("pattern read {ROOT_NOTICE}\n"));
    text
}

pub(super) struct User {
    pub(super) name: String,
    pub(super) owner: Owner,
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

// Mosquitto opens its files after it has given up root, so that the user must reach them.
pub(super) fn user_for(folder: &Path) -> Option<User> {
    if !is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let user = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| *n == "mosquitto")?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(User {
            name: name.to_owned(),
            owner: Owner { uid, gid },
        })
    })?;
    let reached = folder
        .ancestors()
        .skip(1)
        .all(|f| fs::metadata(f).is_ok_and(|m| m.permissions().mode() & 0o001 != 0));
    if !reached {
        tracing::warn!(
            folder = %folder.display(),
            "the broker runs as root: user mosquitto cannot reach its folder (chmod o+x its parents)"
        );
        return None;
    }
    Some(user)
}

/// The broker's folders. Root writes what is in the outer one, at each revocation too, and starts a broker as root by
/// what it finds there: so it is root's, and the broker's user writes its messages in one of its own.
pub(super) fn folders(folder: &Path, user: Option<&User>) -> Result<(), FileError> {
    let data = folder.join(DATA);
    if !is_root() {
        return files::make_dir(&data, 0o700);
    }
    let root = Owner { uid: 0, gid: 0 };
    let mode = if user.is_some() { 0o755 } else { 0o700 };
    files::give_dir(folder, root, mode)?;
    files::give_dir(&data, user.map_or(root, |user| user.owner), 0o700)?;
    // An older version kept them in the outer one.
    let (from, to) = (folder.join(MESSAGES), data.join(MESSAGES));
    match fs::symlink_metadata(&from).is_ok_and(|found| found.is_file()) && !to.exists() {
        true => fs::rename(&from, &to).map_err(files::at(&to)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_reads_what_it_is_told_and_writes_only_the_rest() {
        assert_eq!(
            acl(),
            "user console\ntopic readwrite coracle/v1/#\n\n\
             pattern read coracle/v1/%u/desired\n\
             pattern read coracle/v1/%u/command\n\
             pattern write coracle/v1/%u/current\n\
             pattern write coracle/v1/%u/feedback\n\
             pattern write coracle/v1/%u/presence\n\
             pattern write coracle/v1/%u/telemetry\n\
             pattern write coracle/v1/%u/command-result\n\
             pattern read coracle/v1/fleet/root\n"
        );
    }
}
