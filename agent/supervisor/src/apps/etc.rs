//! `/etc/hosts`, `hostname` and `resolv.conf` of an app: files of the board that are mounted into it.
//!
//! The app has them open as well, and may do with them what the owner of a file may: put a lease on one,
//! say, which keeps others waiting at open (fcntl(2), F_SETLEASE; 45 s by default). So they are opened
//! without waiting: an app that wants to hold the supervisor up only loses its neighbours' names.

use crate::apps::places::NamesPlan;
use crate::apps::plan::Plan;
use crate::disk::{About, DiskError};
use crate::settings::Settings;
use coracle_network::{Attachment, names};
use coracle_protocol::release::{ExtraHost, NetworkMode};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What is mounted over the image's own.
pub const NAMES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Writes all three below `place/etc`. `servers` are the resolvers that it asks; the board's when there are none.
pub fn write(
    place: &Path,
    plan: &Plan,
    places: &[Attachment],
    servers: &[IpAddr],
) -> Result<(), DiskError> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let name = plan.name.as_str();
    let texts = match plan.network {
        NetworkMode::Host => [
            read("/etc/hosts"),
            read("/etc/hostname"),
            read("/etc/resolv.conf"),
        ],
        NetworkMode::None | NetworkMode::Bridge | NetworkMode::Container => [
            hosts(name, places, &plan.names, Vec::new()),
            names::hostname(name),
            names::resolv_conf(&boards_resolv_conf(), servers, &plan.names.search),
        ],
    };
    for (file, text) in NAMES.iter().zip(texts) {
        rewrite(&place.join("etc").join(file), &text)?;
    }
    Ok(())
}

/// Makes those that are missing, empty: what is to be mounted has to be there before it is known what is in it.
pub fn make(place: &Path) -> Result<(), DiskError> {
    NAMES.iter().try_for_each(|file| {
        let path = place.join("etc").join(file);
        open(&path, OpenOptions::new().write(true).create(true))
            .map(drop)
            .about("make", &path)
    })
}

/// The board's resolv.conf, or what stands behind it where it names only a stub on loopback.
fn boards_resolv_conf() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let text = read("/etc/resolv.conf");
    match names::only_loopback_resolvers(&text) {
        true => read(names::SYSTEMD_RESOLVED_UPSTREAM),
        false => text,
    }
}

/// Whom an app asks: the resolver of the first of its networks that leads out and has one, or of the first that has one;
/// that one passes on to `dns` or the board's. Without a resolver, `dns`; but an app with a list of places to go finds no
/// names without it, so that it is sent there all the same.
pub fn servers(plan: &NamesPlan, places: &[Attachment], answering: &[String]) -> Vec<IpAddr> {
    let may_ask =
        |place: &&Attachment| answering.contains(&place.network) || place.endpoint.egress.is_some();
    let mut all = places.iter().filter(may_ask);
    let outward = all.clone().find(|place| place.endpoint.default_route);
    match outward.or_else(|| all.next()) {
        Some(place) => vec![place.endpoint.gateway.into()],
        None => plan.dns.clone(),
    }
}

/// `/etc/hosts` of an app, with the others that are on its networks.
pub fn write_hosts(
    settings: &Settings,
    plan: &Plan,
    places: &[Attachment],
    others: Vec<(&str, IpAddr)>,
) -> Result<(), DiskError> {
    let place = settings.config.containers_dir().join(&plan.slot);
    let text = hosts(plan.name.as_str(), places, &plan.names, others);
    rewrite(&place.join("etc/hosts"), &text)
}

fn hosts<'a>(
    name: &'a str,
    places: &[Attachment],
    plan: &'a NamesPlan,
    others: Vec<(&'a str, IpAddr)>,
) -> String {
    let own = places.first().map(|place| place.endpoint.ip);
    let more = places.iter().skip(1);
    let mut lines: Vec<(&str, IpAddr)> =
        more.map(|place| (name, place.endpoint.ip.into())).collect();
    // The board, and not a wire's router.
    let bridges = places.iter().filter(|place| place.endpoint.wire.is_none());
    let mut gateways = bridges.map(|place| place.endpoint.gateway);
    let gateway = gateways.find(|ip| !ip.is_unspecified()).map(IpAddr::V4);
    lines.extend(plan.hosts.iter().filter_map(|(name, host)| {
        let ip = match host {
            ExtraHost::Address(ip) => Some(*ip),
            ExtraHost::HostGateway => gateway,
        };
        Some((name.as_str(), ip?))
    }));
    lines.extend(others);
    names::hosts(name, own, &lines)
}

/// In place, never renamed: the app has bound this very file by then. One that says it already stays as it is, and the flash
/// with it.
fn rewrite(path: &Path, text: &str) -> Result<(), DiskError> {
    if says(path, text).unwrap_or(false) {
        return Ok(());
    }
    open(
        path,
        OpenOptions::new().write(true).create(true).truncate(true),
    )
    .and_then(|mut file| file.write_all(text.as_bytes()))
    .about("write", path)
}

fn says(path: &Path, text: &str) -> std::io::Result<bool> {
    let mut there = Vec::with_capacity(text.len() + 1);
    open(path, OpenOptions::new().read(true))?
        .take(text.len() as u64 + 1)
        .read_to_end(&mut there)?;
    Ok(there == text.as_bytes())
}

fn open(path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    options
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn a_file_that_says_it_already_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        rewrite(&path, "one\n").unwrap();
        let then = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let age = || {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.set_modified(then).unwrap();
        };
        let modified = || path.metadata().unwrap().modified().unwrap();
        age();
        rewrite(&path, "one\n").unwrap();
        assert_eq!(modified(), then);
        for text in ["one\ntwo\n", "one\n", "on"] {
            age();
            rewrite(&path, text).unwrap();
            assert_ne!(modified(), then, "{text:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn an_app_with_a_lease_on_its_hosts_file_keeps_nobody_waiting() {
        use std::io::{BufRead, BufReader};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        rewrite(&path, "old\n").unwrap();
        // A lease is broken for its own process too, but only another one's is a fair test.
        let script = "import fcntl,signal,sys,time; signal.signal(signal.SIGIO, signal.SIG_IGN); \
             f=open(sys.argv[1]); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_RDLCK); \
             print('held', flush=True); time.sleep(60)";
        let mut app = Command::new("python3")
            .args(["-c", script])
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs python3");
        let mut line = String::new();
        let mut said = BufReader::new(app.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "held\n", "the file system knows no leases");
        let begun = Instant::now();
        let outcome = rewrite(&path, "new\n");
        let took = begun.elapsed();
        app.kill().unwrap();
        app.wait().unwrap();
        assert!(outcome.is_err(), "the lease did not hold");
        assert!(took < Duration::from_secs(2), "{took:?}");
        rewrite(&path, "new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
    }
}
