//! The console's own broker: a Mosquitto with a generated configuration, started, watched,
//! restarted when it ends, and stopped with the console.

mod configuration;

use crate::ca::Ca;
use crate::files::{self, FileError, Mode, Owner};
use coracle_protocol::limits::LIMITS;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use configuration::{REVOKED, acl, configuration, folders, user_for};

/// A `current` message of a full board (64 apps) outgrows `LIMITS.mqtt_message_bytes`; nothing
/// that a board says is larger than this.
pub const MESSAGE_BYTES: usize = 8 * LIMITS.mqtt_message_bytes;

/// After SIGTERM the broker writes its database; a slow disk gets so long.
const STOP: Duration = Duration::from_secs(5);

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A file of it.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not installed.
    #[error(
        "the broker program `{0}` is not installed; run `apt install mosquitto`, or use a broker \
         that is already there with --mqtt-broker"
    )]
    Missing(PathBuf),
    /// Cannot be started.
    #[error("the broker program `{program}` cannot be started: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Ended at once.
    #[error("the broker ended at once ({0}); its messages are in the log above")]
    Ended(String),
    /// A path that its configuration cannot hold.
    #[error("{0}: the broker's configuration cannot hold this path")]
    Path(PathBuf),
}

/// The broker's generated configuration.
#[derive(Debug, Clone)]
pub struct Broker {
    program: PathBuf,
    folder: PathBuf,
    owner: Option<Owner>,
    /// Of the running broker; 0: none.
    pid: Arc<AtomicI32>,
}

/// Has the broker take in a new list of revoked certificates.
#[derive(Debug, Clone)]
pub struct Reload {
    folder: PathBuf,
    owner: Option<Owner>,
    pid: Arc<AtomicI32>,
}

impl Reload {
    /// Writes the list where the broker looks for it, and tells the broker: from then on it refuses whoever shows a
    /// certificate of the list. Connections that stand are not touched by it (mosquitto 2.0).
    pub fn revocations(&self, list: &str) -> Result<(), FileError> {
        write_list(&self.folder, list)?;
        self.tell();
        Ok(())
    }

    /// The same with a new certificate of the server.
    pub fn certificate(&self, ca: &Ca) -> Result<(), FileError> {
        write_server(&self.folder, ca, self.owner)?;
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        let pid = self.pid.load(Ordering::Relaxed);
        if pid > 0 {
            let _ = kill(Pid::from_raw(pid), Signal::SIGHUP);
        }
    }
}

fn write_server(folder: &Path, ca: &Ca, owner: Option<Owner>) -> Result<(), FileError> {
    let read = |path: &Path| fs::read(path).map_err(files::at(path));
    let (certificate, key) = (&ca.server().certificate, &ca.server().key);
    files::write(
        &folder.join("server.crt"),
        &read(certificate)?,
        Mode::Public,
    )?;
    files::write_for(
        &folder.join("server.key"),
        &read(key)?,
        Mode::Private,
        owner,
    )
}

// Serial numbers only: everybody may read it.
fn write_list(folder: &Path, list: &str) -> Result<(), FileError> {
    files::write(&folder.join(REVOKED), list.as_bytes(), Mode::Public)
}

impl Broker {
    /// Writes configuration, ACL, the list of `revoked` certificates and copies of the certificates into `folder`.
    pub fn prepare(
        program: &Path,
        folder: &Path,
        listen: SocketAddr,
        ca: &Ca,
        revoked: &str,
    ) -> Result<Self, BrokerError> {
        let program = find(program).ok_or_else(|| BrokerError::Missing(program.to_owned()))?;
        files::make_dir(folder, 0o700)?;
        let folder = fs::canonicalize(folder).map_err(files::at(folder))?;
        if folder.to_string_lossy().contains('\n') {
            return Err(BrokerError::Path(folder));
        }
        let user = user_for(&folder);
        folders(&folder, user.as_ref())?;
        let owner = user.as_ref().map(|user| user.owner);
        let read = |path: &Path| fs::read(path).map_err(files::at(path));
        let public =
            |name: &str, bytes: &[u8]| files::write(&folder.join(name), bytes, Mode::Public);
        let private = |name: &str, bytes: &[u8]| {
            files::write_for(&folder.join(name), bytes, Mode::Private, owner)
        };
        public("ca.crt", &read(&ca.files().certificate)?)?;
        write_server(&folder, ca, owner)?;
        private("acl", acl().as_bytes())?;
        write_list(&folder, revoked)?;
        // Root's: what it says is done before the broker gives up root.
        let name = user.as_ref().map_or("root", |u| u.name.as_str());
        let text = configuration(&folder, listen, name);
        public("mosquitto.conf", text.as_bytes())?;
        let pid = Arc::default();
        Ok(Self {
            program,
            folder,
            owner,
            pid,
        })
    }

    /// For later revocations.
    pub fn reload(&self) -> Reload {
        Reload {
            folder: self.folder.clone(),
            owner: self.owner,
            pid: self.pid.clone(),
        }
    }

    /// Starts the broker and watches it until `stop`. Returns once it has stayed up for a moment;
    /// the watcher's handle ends when the broker has.
    pub async fn start(
        self,
        stop: CancellationToken,
    ) -> Result<tokio::task::JoinHandle<()>, BrokerError> {
        self.end_left_over().await;
        let mut child = self.spawn()?;
        if let Ok(status) = tokio::time::timeout(Duration::from_millis(300), child.wait()).await {
            let text = status.map_or_else(|e| e.to_string(), |s| s.to_string());
            return Err(BrokerError::Ended(text));
        }
        Ok(tokio::spawn(self.watch(child, stop)))
    }

    async fn watch(self, mut child: Child, stop: CancellationToken) {
        let mut pause = Duration::from_millis(500);
        loop {
            let since = std::time::Instant::now();
            tokio::select! {
                status = child.wait() => {
                    self.pid.store(0, Ordering::Relaxed);
                    let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                    tracing::warn!(status, "the broker ended; it is started again");
                }
                () = stop.cancelled() => {
                    self.end(&mut child).await;
                    return;
                }
            }
            if since.elapsed() > Duration::from_secs(60) {
                pause = Duration::from_millis(500);
            }
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
                pause = (pause * 2).min(Duration::from_secs(30));
                match self.spawn() {
                    Ok(next) => {
                        child = next;
                        break;
                    }
                    Err(error) => tracing::error!(%error, "the broker cannot be started"),
                }
            }
        }
    }

    async fn end(&self, child: &mut Child) {
        self.pid.store(0, Ordering::Relaxed);
        if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if tokio::time::timeout(STOP, child.wait()).await.is_err() {
            tracing::warn!("the broker did not stop in time; it is killed");
            let _ = child.kill().await;
        }
        let _ = fs::remove_file(self.pid_file());
    }

    fn spawn(&self) -> Result<Child, BrokerError> {
        let start = |source| BrokerError::Start {
            program: self.program.clone(),
            source,
        };
        let mut child = Command::new(&self.program)
            .arg("-c")
            .arg(self.folder.join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // The terminal's Ctrl-C is for the console, which then stops the broker itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        let pid = child.id().unwrap_or_default();
        // At once: a list that is written meanwhile is told to it.
        self.pid
            .store(i32::try_from(pid).unwrap_or(0), Ordering::Relaxed);
        files::write(&self.pid_file(), pid.to_string().as_bytes(), Mode::Private)?;
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    tracing::info!(target: "mosquitto", "{line}");
                }
            });
        }
        Ok(child)
    }

    // A console that was killed leaves its broker behind, which holds the port. It is ours only if
    // that process runs with our configuration file.
    async fn end_left_over(&self) {
        let Ok(text) = fs::read_to_string(self.pid_file()) else {
            return;
        };
        let Ok(pid) = text.trim().parse::<i32>() else {
            return;
        };
        let ours = self.folder.join("mosquitto.conf");
        let runs_ours = || {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                line.split(|b| *b == 0)
                    .any(|arg| arg == ours.as_os_str().as_encoded_bytes())
            })
        };
        if !runs_ours() {
            return;
        }
        tracing::warn!(
            pid,
            "a broker of an earlier run is still there; it is stopped"
        );
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        for _ in 0..50 {
            if !runs_ours() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("console.pid")
    }
}

/// Where the program is, when it is installed.
pub fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    // Debian keeps it in /usr/sbin, which is not on every PATH.
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_how_to_get_it() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(
            &dir.path().join("pki"),
            "localhost",
            Duration::from_secs(60),
        )
        .unwrap();
        let error = Broker::prepare(
            Path::new("no-such-broker"),
            dir.path(),
            "127.0.0.1:1".parse().unwrap(),
            &ca,
            "",
        )
        .unwrap_err();
        assert!(
            error.to_string().contains("apt install mosquitto"),
            "{error}"
        );
    }

    #[test]
    fn the_broker_s_user_writes_its_messages_and_nothing_that_root_reads() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let pki = dir.path().join("pki");
        let ca = Ca::open(&pki, "localhost", Duration::from_secs(60)).unwrap();
        let folder = dir.path().join("mosquitto");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("broker.db"), "messages").unwrap();
        let user = user_for(&folder).map(|user| user.owner);
        let me = fs::metadata("/proc/self").unwrap().uid();
        assert!(
            me != 0 || user.is_some(),
            "this test needs mosquitto: apt install mosquitto"
        );
        if let Some(user) = user {
            // As an older version left it.
            std::os::unix::fs::chown(&folder, Some(user.uid), Some(user.gid)).unwrap();
        }
        let listen = "127.0.0.1:1".parse().unwrap();
        let broker = Broker::prepare(Path::new("/bin/true"), &folder, listen, &ca, "old").unwrap();
        broker.reload().revocations("new").unwrap();
        let of = |name: &str| {
            let found = fs::metadata(folder.join(name)).unwrap();
            (found.uid(), found.mode() & 0o777)
        };
        let theirs = user.map_or(me, |user| user.uid);
        for name in ["mosquitto.conf", "revoked.crl", "ca.crt", "server.crt"] {
            assert_eq!(of(name), (me, 0o644), "{name}");
        }
        for name in ["acl", "server.key"] {
            assert_eq!(of(name), (theirs, 0o600), "{name}");
        }
        assert_eq!(of("data"), (theirs, 0o700));
        assert_eq!(of("").0, me);
        assert_eq!(of("").1 & 0o022, 0);
        assert_eq!(
            fs::read_to_string(folder.join("revoked.crl")).unwrap(),
            "new"
        );
        if user.is_some() {
            assert_eq!(
                fs::read_to_string(folder.join("data/broker.db")).unwrap(),
                "messages"
            );
        }
    }
}
