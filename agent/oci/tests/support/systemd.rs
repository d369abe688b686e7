//! A systemd that is the first process, on machines where another is: in namespaces of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Bundle, Said, said};

const SCRIPT: &str = include_str!("systemd.sh");

/// Nothing of the machine's: no unit, and a bus that lets root do everything.
const TARGET: &str = "[Unit]\nDefaultDependencies=no\nWants=dbus.socket\n";
const SOCKET: &str =
    "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n";
const BUS: &str = r#"<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/></policy></busconfig>"#;

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Bus,
    Itself,
}

pub struct Systemd {
    unshare: Child,
    pid: u32,
    group: String,
    _folder: tempfile::TempDir,
}

/// This machine's, or a virtual board's.
fn program(names: &[&str]) -> PathBuf {
    let found = names.iter().map(PathBuf::from).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no {}: apt-get install systemd dbus util-linux", names[0]))
}

impl Systemd {
    pub fn start(by: By) -> Systemd {
        let systemd = program(&[
            "/usr/lib/systemd/systemd",
            "/lib/systemd/systemd",
            "/board/bin/systemd",
        ]);
        let folder = tempfile::tempdir().expect("a folder");
        let units = folder.path().join("units");
        fs::create_dir(&units).expect("a folder");
        let unit = |name: &str, text: &str| fs::write(units.join(name), text).expect("a unit");
        unit("coracle.target", TARGET);
        if by == By::Bus {
            let daemon = program(&["/usr/bin/dbus-daemon", "/board/bin/dbus-daemon"]);
            let config = folder.path().join("bus.conf");
            fs::write(&config, BUS).expect("a file");
            unit("dbus.socket", SOCKET);
            let service = format!(
                "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\nType=notify\nNotifyAccess=main\n\
                 ExecStart={} --config-file={} --address=systemd: --nofork --nopidfile --systemd-activation\n",
                daemon.display(),
                config.display()
            );
            unit("dbus.service", &service);
        }
        // busybox's shell would take one of its own.
        let unshare = program(&["/usr/bin/unshare", "/board/bin/unshare"]);
        let group = format!("coracle-systemd-{}-{}", std::process::id(), super::unique());
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let unshare = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .args([folder.path(), &systemd, Path::new(&group), &unshare])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("a shell");
        let mut started = Systemd {
            pid: 0,
            unshare,
            group,
            _folder: folder,
        };
        started.settle();
        started
    }

    fn settle(&mut self) {
        let of = self.unshare.id();
        let children = format!("/proc/{of}/task/{of}/children");
        let is_unshare =
            || fs::read_to_string(format!("/proc/{of}/comm")).is_ok_and(|name| name == "unshare\n");
        wait_until("namespaces", || {
            is_unshare() && fs::read_to_string(&children).is_ok_and(|text| !text.is_empty())
        });
        let first = fs::read_to_string(&children).expect("a list");
        self.pid = first.trim().parse().expect("a number");
        let top = Path::new("/sys/fs/cgroup/cgroup.procs");
        if top.exists() {
            fs::write(top, of.to_string()).expect("the top takes everybody");
        }
        fs::write(self._folder.path().join("go"), "").expect("a file");
        let log = self._folder.path().join("log");
        wait_until("systemd", || {
            let up = self
                .command("systemctl", &["is-active", "coracle.target"])
                .code
                == 0;
            let log = fs::read_to_string(&log).unwrap_or_default();
            assert!(
                Path::new(&format!("/proc/{}", self.pid)).exists(),
                "systemd has ended: {log}"
            );
            up
        });
    }

    /// Where it is the first process.
    fn inside(&self, what: &Path) -> Command {
        let mut command = Command::new(program(&["/usr/bin/nsenter", "/board/bin/nsenter"]));
        let pid = self.pid.to_string();
        command
            .args(["-t", &pid, "-m", "-p", "-C", "-u", "-i"])
            .arg(what)
            .stdin(Stdio::null());
        command
    }

    pub fn command(&self, name: &str, args: &[&str]) -> Said {
        let output = self.inside(Path::new(name)).args(args).output();
        said(output.expect("nsenter"))
    }

    /// The binary with its states in the bundle. What a new container writes goes nowhere.
    pub fn runtime(&self, bundle: &Bundle, args: &[&str]) -> Said {
        let mut command = self.inside(&super::runtime());
        command
            .arg("--root")
            .arg(bundle.path("states"))
            .arg("--log")
            .arg(bundle.path("log"))
            .arg("--systemd-cgroup")
            .args(args);
        let makes = matches!(args[0], "create" | "run");
        if !makes {
            return said(command.output().expect("the runtime"));
        }
        // nsenter changes its folder. The output would be held open for as long as the container runs.
        command.arg("--bundle").arg(bundle.path("."));
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        Said {
            code: status.expect("the runtime").code().unwrap_or(-1),
            out: String::new(),
            err: fs::read_to_string(bundle.path("log")).unwrap_or_default(),
        }
    }

    pub fn ok(&self, bundle: &Bundle, args: &[&str]) -> String {
        let said = self.runtime(bundle, args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said.out
    }

    /// `systemctl show`, one property.
    pub fn shown(&self, unit: &str, property: &str) -> String {
        let said = self.command("systemctl", &["show", "--value", "-p", property, unit]);
        assert_eq!(said.code, 0, "{said:?}");
        said.out.trim_end().to_owned()
    }

    pub fn reload(&self) {
        let said = self.command("systemctl", &["daemon-reload"]);
        assert_eq!(said.code, 0, "{said:?}");
    }

    /// A file of a cgroup of its own; on v1 in the hierarchy of that name.
    pub fn file(&self, hierarchy: &str, path: &str) -> PathBuf {
        let v1 = Path::new("/sys/fs/cgroup").join(hierarchy);
        let top = if v1.exists() {
            v1
        } else {
            "/sys/fs/cgroup".into()
        };
        top.join(&self.group).join(path)
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // With it go all in its pid namespace.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let mut tops = vec![PathBuf::from("/sys/fs/cgroup")];
        let below = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        tops.extend(below.map(|entry| entry.path()));
        for top in tops {
            let group = top.join(&self.group);
            wait_until("the cgroups to go", || {
                remove(&group);
                !group.exists()
            });
        }
    }
}

/// Many processes, on a machine that may be busy with others.
fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !is() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}
