//! `/etc/hosts`, `hostname` and `resolv.conf` of an app: files of the board that are mounted into it.
//!
//! The app has them open as well, and may do with them what the owner of a file may: put a lease on one,
//! say, which keeps others waiting at open (fcntl(2), F_SETLEASE; 45 s by default). So they are opened
//! without waiting: an app that wants to hold the supervisor up only loses its neighbours' names.

use crate::apps::plan::Plan;
use crate::disk::{About, DiskError};
use crate::settings::Settings;
use coracle_network::{Endpoint, names};
use coracle_protocol::release::NetworkMode;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What is mounted over the image's own.
pub const NAMES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Writes all three below `place/etc`.
pub fn write(place: &Path, plan: &Plan, endpoint: Option<&Endpoint>) -> Result<(), DiskError> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let name = plan.name.as_str();
    let texts = match plan.network {
        NetworkMode::Host => [
            read("/etc/hosts"),
            read("/etc/hostname"),
            read("/etc/resolv.conf"),
        ],
        NetworkMode::None | NetworkMode::Bridge => {
            let mut host = read("/etc/resolv.conf");
            if names::only_loopback_resolvers(&host) {
                host = read(names::SYSTEMD_RESOLVED_UPSTREAM);
            }
            [
                names::hosts(name, endpoint.map(|endpoint| endpoint.ip), &[]),
                names::hostname(name),
                names::resolv_conf(&host, &[]),
            ]
        }
    };
    for (file, text) in NAMES.iter().zip(texts) {
        rewrite(&place.join("etc").join(file), &text)?;
    }
    Ok(())
}

/// `/etc/hosts` of an app that is on the bridge, with the others that are there too.
pub fn write_hosts(
    settings: &Settings,
    name: &str,
    own: Ipv4Addr,
    others: &[(&str, Ipv4Addr)],
) -> Result<(), DiskError> {
    let place = settings.config.containers_dir().join(name);
    let text = names::hosts(name, Some(own), others);
    rewrite(&place.join("etc/hosts"), &text)
}

/// In place, never renamed: the app has bound this very file by then.
fn rewrite(path: &Path, text: &str) -> Result<(), DiskError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .about("write", path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

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
