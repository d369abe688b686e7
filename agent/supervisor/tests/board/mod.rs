//! A board for tests: the real supervisor in a network namespace of its own, with its own folders and
//! cgroup, and a test that plays engineer, console and daemon at once.

// Each test file uses its own part of it.
#![allow(dead_code)]

pub mod attacks;
pub mod orders;

use coracle_digest::Sha256Digest;
use coracle_images::Limits;
use coracle_images::build::{Build, Compression, build};
use coracle_images::decompress::tar_stream;
use coracle_images::layout::{LayerType, Layout, Platform, RunConfig};
use coracle_protocol::deploy::{AssignmentRole, DEPLOY_TYPE, Delta, Deploy, Target};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::key::SigningKey;
use coracle_protocol::local::{
    Answer, AppAction, Call, Event, LayerSource, Message, Needs, Request, Status,
};
use coracle_protocol::names::{AppName, BoardId, HardwareClass, ProductName};
use coracle_protocol::release::{
    App, AppLimits, Blob, Health, Image, Layer, Network, NetworkMode, NetworkSpec, Probe,
    RELEASE_TYPE, Release, Restart,
};
use coracle_protocol::report::{AppStatus, Phase};
use coracle_protocol::root::{ROOT_TYPE, Role, RoleKeys, Root};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A supervisor with a resolv.conf of its own.
const OWN_RESOLV_CONF: &str =
    "mount --bind \"$1\" /etc/resolv.conf; program=$0; shift; exec \"$program\" \"$@\"";

/// A supervisor whose root file system cannot be written; what follows the program's name is its folder.
const READ_ONLY_ROOT: &str = "mount --make-rprivate /
for own in \"$1\" /run; do mount --rbind \"$own\" \"$own\"; done
mount -o remount,bind,ro /
program=$0; shift; exec \"$program\" \"$@\"";

/// A program for which some system calls are not there: a filter says ENOSYS. `16:7:1`: only with 7 as the second argument.
const WITHOUT_CALLS: &str = "
import ctypes, os, struct, sys
code = [(0x20, 0, 0, 0)]
for call in sys.argv[1].split(','):
    call, argument, index = (call + '::').split(':')[:3]
    no = [(0x06, 0, 0, 0x50000 | 38)]
    if argument:
        at = 16 + 8 * int(index) + (0 if sys.byteorder == 'little' else 4)
        no = [(0x20, 0, 0, at), (0x15, 0, 1, int(argument))] + no + [(0x20, 0, 0, 0)]
    code += [(0x15, 0, len(no), int(call))] + no
code += [(0x06, 0, 0, 0x7fff0000)]
length = len(code)
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *one) for one in code))
program = ctypes.create_string_buffer(struct.pack('HL', length, ctypes.addressof(code)))
if ctypes.CDLL(None, use_errno=True).prctl(22, 2, program, 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[2], sys.argv[2:])
";

/// mount_setattr, by the same number on every architecture: without it there are no id-mapped mounts.
pub const MOUNT_SETATTR: u32 = 442;

/// The program under test; `CORACLE_SUPERVISOR` names it where the tests do not run on the machine that built them.
pub fn supervisor() -> PathBuf {
    std::env::var_os("CORACLE_SUPERVISOR").map_or(
        env!("CARGO_BIN_EXE_coracle-supervisor").into(),
        PathBuf::from,
    )
}

pub const BOARD: &str = "acme.test-1";

pub struct Keys {
    pub root: SigningKey,
    pub release: SigningKey,
    pub deploy: SigningKey,
}

pub struct Board {
    pub dir: tempfile::TempDir,
    pub name: String,
    pub keys: Keys,
    pub hardware: HardwareClass,
    /// System calls that the next supervisor's kernel does not have.
    pub without_calls: Vec<u32>,
    /// The same, of requests of ioctl.
    pub without_requests: Vec<u32>,
    /// Protocols of sockets that the kernel does not have, for the next start.
    pub without_protocols: Vec<i32>,
    /// Whether nothing but its folder, `/run` and the kernel's own can be written by the next supervisor.
    pub read_only_root: bool,
    /// Of the next release.
    pub networks: Vec<NetworkSpec>,
    /// None: it has this machine's network.
    netns: Option<String>,
    supervisor: Option<Child>,
    next: u64,
}

pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// SIGKILL.
pub fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Board {
    /// A board with a running supervisor that knows its name.
    pub fn start() -> Self {
        Self::unenrolled().enrolled()
    }

    /// One whose folders lie below `folder` and which has this machine's network: for a virtual board, which is the test's
    /// alone. `site` is its board.toml.
    pub fn start_on(folder: &Path, site: &str) -> Self {
        let name = Self::next_name();
        let dir = tempfile::Builder::new().prefix(&name).tempdir_in(folder);
        Self::made(name, dir.unwrap(), None, site).enrolled()
    }

    /// The one that [`Board::start_on`] left below `folder` when the machine was reset, its supervisor not started. A reset
    /// empties its run folder; the keys are others than before, so that nothing new can be signed for it.
    pub fn after_reset(folder: &Path) -> Option<Self> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut found = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("cortest-sup-"));
        let folder_name = found.next()?;
        // A temporary folder is made, never found.
        let aside = folder.join("aside");
        std::fs::rename(folder.join(&folder_name), &aside).unwrap();
        let mut as_before = tempfile::Builder::new();
        as_before.prefix(&folder_name).rand_bytes(0);
        let dir = as_before.tempdir_in(folder).unwrap();
        std::fs::remove_dir(dir.path()).unwrap();
        std::fs::rename(&aside, dir.path()).unwrap();
        std::fs::remove_dir_all(dir.path().join("run")).unwrap();
        let text = std::fs::read_to_string(dir.path().join("etc/coracle.toml")).unwrap();
        let instance = text
            .lines()
            .find_map(|line| line.strip_prefix("instance = "));
        let key = || SigningKey::generate().unwrap().0;
        Some(Self {
            name: instance.unwrap().trim_matches('"').to_owned(),
            dir,
            netns: None,
            keys: Keys {
                root: key(),
                release: key(),
                deploy: key(),
            },
            hardware: HardwareClass::new("unknown").unwrap(),
            without_calls: vec![],
            without_requests: vec![],
            without_protocols: vec![],
            read_only_root: false,
            networks: vec![],
            supervisor: None,
            next: 1,
        })
    }

    fn enrolled(self) -> Self {
        let mut board = self;
        let request = Request::Identity {
            board: BoardId::new(BOARD).unwrap(),
        };
        assert_eq!(board.ask(request), Answer::Done);
        board.hardware = HardwareClass::new(&board.status().board.hardware).unwrap();
        board
    }

    fn next_name() -> String {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes containers and namespaces: run it as root"
        );
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        format!("cortest-sup-{}-{number}", std::process::id())
    }

    pub fn unenrolled() -> Self {
        let name = Self::next_name();
        // The first one makes a mount of /run/netns; two at once hide each other's namespace below theirs.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        run(Command::new("ip").args(["netns", "add", &name]));
        drop(turn);
        run(Command::new("ip").args(["-n", &name, "link", "set", "lo", "up"]));
        let dir = tempfile::Builder::new().prefix(&name).tempdir().unwrap();
        // eth0 and on may carry networks, lan0 and on may be an app's.
        let site = "[network]\nparents = [\"eth?\"]\ninterfaces = [\"lan?\"]\n";
        Self::made(name.clone(), dir, Some(name), site)
    }

    fn made(name: String, dir: tempfile::TempDir, netns: Option<String>, site: &str) -> Self {
        let key = || SigningKey::generate().unwrap().0;
        let keys = Keys {
            root: key(),
            release: key(),
            deploy: key(),
        };
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        std::fs::write(etc.join("root.json"), root(&keys).to_json()).unwrap();
        let text = format!(
            "[agent]\ninstance = \"{name}\"\nstate_dir = \"{0}/state\"\nrun_dir = \"{0}/run\"\nuser = \"daemon\"\n\
             cgroup_parent = \"{name}\"\n[network]\nbridge = \"cor0\"\nsubnet = \"172.31.0.0/16\"\n[log]\nlevel = \"debug\"\n",
            dir.path().display()
        );
        std::fs::write(etc.join("coracle.toml"), text).unwrap();
        std::fs::write(etc.join("board.toml"), site).unwrap();
        let mut board = Self {
            dir,
            netns,
            name,
            keys,
            hardware: HardwareClass::new("unknown").unwrap(),
            without_calls: vec![],
            without_requests: vec![],
            without_protocols: vec![],
            read_only_root: false,
            networks: vec![],
            supervisor: None,
            next: 1,
        };
        board.start_supervisor();
        board
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("etc/coracle.toml")
    }
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }
    fn log_file(&self) -> std::fs::File {
        let mut options = std::fs::File::options();
        options
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap()
    }

    fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let Some(netns) = &self.netns else {
            return Command::new(program);
        };
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{netns}"))
            .arg("--")
            .arg(program);
        command
    }

    pub fn start_supervisor(&mut self) {
        self.spawn_supervisor();
        self.wait_for_socket();
    }

    /// The same, with its program elsewhere.
    pub fn start_supervisor_of(&mut self, program: &Path) {
        let mut command = self.inside(program);
        command.arg("--config").arg(self.config());
        command.current_dir(self.dir.path());
        let command = command.stdin(Stdio::null()).stderr(self.log_file());
        self.supervisor = Some(command.spawn().unwrap());
    }

    /// One that does not come up: how it ends.
    pub fn start_and_wait_for_its_end(&mut self) -> ExitStatus {
        self.spawn_supervisor();
        self.wait_for_the_supervisors_end()
    }

    /// By itself.
    pub fn wait_for_the_supervisors_end(&mut self) -> ExitStatus {
        let mut child = self.supervisor.take().unwrap();
        let status = wait_for("its end", Duration::from_secs(60), || {
            child.try_wait().unwrap()
        });
        let _ = std::fs::remove_file(self.socket());
        status
    }

    fn spawn_supervisor(&mut self) {
        let log = self.log_file();
        let calls = self.without_calls.iter().map(u32::to_string);
        let requests = self.without_requests.iter();
        let requests = requests.map(|request| format!("{}:{request}:1", libc::SYS_ioctl));
        let protocols = self.without_protocols.iter();
        let protocols = protocols.map(|protocol| format!("{}:{protocol}:2", libc::SYS_socket));
        let calls: Vec<String> = calls.chain(requests).chain(protocols).collect();
        let mut command = match self.resolv_conf().exists() {
            false if !calls.is_empty() => {
                let mut command = self.inside("python3");
                command.args(["-c", WITHOUT_CALLS, &calls.join(",")]);
                command.arg(supervisor());
                command
            }
            false if self.read_only_root => {
                let mut command = self.inside("unshare");
                command.args(["--mount", "sh", "-ec", READ_ONLY_ROOT]);
                command.arg(supervisor()).arg(self.dir.path());
                command
            }
            false => self.inside(supervisor()),
            true => {
                let mut command = self.inside("unshare");
                command.args(["--mount", "sh", "-ec", OWN_RESOLV_CONF]);
                command.arg(supervisor());
                command.arg(self.resolv_conf());
                command
            }
        };
        command.arg("--config").arg(self.config());
        // Where a core dump would go.
        command.current_dir(self.dir.path());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.supervisor = Some(child);
    }

    fn wait_for_socket(&mut self) {
        let socket = self.socket();
        wait_for("the supervisor's socket", Duration::from_secs(20), || {
            if let Some(status) = self.supervisor.as_mut().unwrap().try_wait().unwrap() {
                panic!("the supervisor ended with {status}:\n{}", self.log());
            }
            UnixStream::connect(&socket).ok()
        });
    }

    /// The program under test with `arguments`, once a line comes into its standard input.
    pub fn held_program(&self, arguments: &[&str]) -> Child {
        let mut command = self.inside("sh");
        command.args(["-c", "read -r go; exec \"$@\" </dev/null", "sh"]);
        command.arg(supervisor()).args(arguments);
        command.arg("--config").arg(self.config());
        command.stdin(Stdio::piped()).stderr(self.log_file());
        command.spawn().unwrap()
    }

    /// Such a program is the board's supervisor from now on.
    pub fn take_supervisor(&mut self, child: Child) {
        self.supervisor = Some(child);
    }

    pub fn supervisor_pid(&self) -> u32 {
        self.supervisor.as_ref().unwrap().id()
    }

    /// SIGKILL, as a crash would.
    pub fn kill_supervisor(&mut self) {
        let mut child = self.supervisor.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // A connection attempt must not meet the dead one's socket.
        let _ = std::fs::remove_file(self.socket());
    }

    /// SIGTERM, as at the end of a day.
    pub fn end_supervisor(&mut self) {
        let mut child = self.supervisor.take().unwrap();
        let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap();
        let _ = std::fs::remove_file(self.socket());
    }

    /// A fault of the program, where the board writes core dumps of whatever size.
    pub fn crash_supervisor(&mut self) -> ExitStatus {
        let mut child = self.supervisor.take().unwrap();
        let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
        let unlimited = rustix::process::Rlimit {
            current: None,
            maximum: None,
        };
        rustix::process::prlimit(Some(pid), rustix::process::Resource::Core, unlimited).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
        let status = child.wait().unwrap();
        let _ = std::fs::remove_file(self.socket());
        status
    }

    /// As after a crash.
    pub fn restart_supervisor(&mut self) {
        self.kill_supervisor();
        self.start_supervisor();
    }

    pub fn stop_all(&mut self) {
        if self.supervisor.is_some() {
            self.kill_supervisor();
        }
        let mut command = self.inside(supervisor());
        run(command.arg("stop-all").arg("--config").arg(self.config()));
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/supervisor.sock")
    }
    pub fn client(&self) -> Client {
        Client::new(UnixStream::connect(self.socket()).unwrap())
    }
    /// None while one supervisor goes and the next one comes.
    pub fn try_client(&self) -> Option<Client> {
        let stream = UnixStream::connect(self.socket()).ok()?;
        Some(Client::new(stream))
    }
    pub fn ask(&self, request: Request) -> Answer {
        self.client().ask(request)
    }
    pub fn watch(&self) -> Client {
        let mut client = self.client();
        assert_eq!(client.ask(Request::Watch), Answer::Done);
        client
    }
    /// None while one supervisor goes and the next one comes.
    pub fn try_status(&self) -> Option<Status> {
        let mut client = self.try_client()?;
        let id = client.try_send(Request::Status).ok()?;
        match client.message()? {
            Message::Reply(reply) if reply.id == id => match reply.answer {
                Answer::Status(status) => Some(status),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    pub fn status(&self) -> Status {
        match self.ask(Request::Status) {
            Answer::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }
    pub fn app(&self, name: &str) -> Option<AppStatus> {
        let apps = self.status().current?.apps;
        apps.into_iter().find(|app| app.name.as_str() == name)
    }
    pub fn control(&self, app: &str, action: AppAction) -> Answer {
        self.ask(Request::Control {
            app: AppName::new(app).unwrap(),
            action,
            uid: 0,
        })
    }

    /// Asks `url` from the board's own network.
    pub fn get(&self, url: &str) -> Option<String> {
        let output = self
            .inside("curl")
            .args(["-s", "--max-time", "2", url])
            .output()
            .unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a program of the container of an app, in its network and with its files.
    pub fn run_in(&self, app: &str, args: &[&str]) -> (bool, String) {
        let pid = self.app(app).and_then(|app| app.pid).expect("it runs");
        let mut command = Command::new("nsenter");
        command.args([
            "-t",
            &pid.to_string(),
            "--net",
            "--mount",
            "--",
            "/bin/busybox",
        ]);
        // A proxy of whoever runs the tests is none of the app's.
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.to_lowercase().ends_with("_proxy"))
        {
            command.env_remove(name);
        }
        let output = command.args(args).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    fn resolv_conf(&self) -> PathBuf {
        self.dir.path().join("resolv.conf")
    }

    /// The resolv.conf that the next supervisor sees; in place, so that a running one sees it too.
    pub fn set_resolv_conf(&self, text: &str) {
        std::fs::write(self.resolv_conf(), text).unwrap();
    }

    /// Listens on the board's own network.
    pub fn listen_udp(&self, address: &str) -> std::net::UdpSocket {
        let path = format!("/run/netns/{}", self.netns());
        let address = address.to_owned();
        let thread = std::thread::spawn(move || {
            let netns = std::fs::File::open(path).unwrap();
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(netns.as_fd(), kind).unwrap();
            std::net::UdpSocket::bind(address).unwrap()
        });
        thread.join().unwrap()
    }

    /// Listens on an abstract unix socket of the board's own network.
    pub fn listen_abstract(&self, name: &str) -> UnixListener {
        let path = format!("/run/netns/{}", self.netns());
        let name = name.to_owned();
        let thread = std::thread::spawn(move || {
            let netns = std::fs::File::open(path).unwrap();
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(netns.as_fd(), kind).unwrap();
            let address = SocketAddr::from_abstract_name(name).unwrap();
            UnixListener::bind_addr(&address).unwrap()
        });
        thread.join().unwrap()
    }

    /// Links of the board's network namespace.
    pub fn links(&self) -> String {
        run(Command::new("ip").args(["-n", self.netns(), "-br", "link"]))
    }
    /// The board gets a route there, as from a new uplink.
    pub fn route(&self, to: &str) {
        run(Command::new("ip").args(["-n", self.netns(), "route", "add", to, "dev", "lo"]));
    }
    /// Runs `ip` there.
    pub fn ip(&self, arguments: &str) -> String {
        run(Command::new("ip")
            .args(["-n", self.netns()])
            .args(arguments.split(' ')))
    }
    /// The board's own network namespace.
    pub fn netns(&self) -> &str {
        self.netns.as_deref().expect("a network of its own")
    }
    pub fn queues(&self) -> String {
        run(self.inside("tc").args(["qdisc", "show"]))
    }
    pub fn tables(&self) -> String {
        run(self.inside("nft").args(["list", "tables"]))
    }

    /// Folders of our cgroup, over all hierarchies.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap();
        hierarchies
            .map(|entry| entry.unwrap().path().join(&self.name))
            .chain([Path::new("/sys/fs/cgroup").join(&self.name)])
            .filter(|path| path.is_dir())
            .collect()
    }

    /// Of the first of these files that the app's cgroup has; an empty name is the board's own folder.
    pub fn cgroup_file(&self, app: &str, names: &[&str]) -> Option<String> {
        let folders = self.cgroups();
        let mut files = folders
            .iter()
            .flat_map(|folder| names.iter().map(move |name| folder.join(app).join(name)));
        let text = files.find_map(|file| std::fs::read_to_string(file).ok())?;
        Some(text.trim().to_owned())
    }

    /// An image of `rootfs`, its blobs in the daemon's store.
    pub fn image(&self, rootfs: &Path, config: RunConfig) -> Image {
        let layout = Layout::create(self.dir.path().join("images"), &Limits::default()).unwrap();
        let mut wanted = Build::new(rootfs, config, Platform::linux("amd64", None));
        wanted.compression = Compression::Zstd(1);
        let built = build(&wanted, &layout).unwrap();
        let store = self.state().join("store/blobs/sha256");
        std::fs::create_dir_all(&store).unwrap();
        for digest in built
            .layers
            .iter()
            .map(|layer| layer.descriptor.digest)
            .chain([built.config.digest])
        {
            std::fs::copy(layout.store().path(&digest), store.join(digest.hex())).unwrap();
        }
        let blob = |descriptor: &coracle_images::layout::Descriptor| Blob {
            digest: descriptor.digest,
            size: descriptor.size,
        };
        Image {
            name: "test/app:1".into(),
            manifest: blob(&built.manifest),
            config: blob(&built.config),
            layers: built
                .layers
                .iter()
                .map(|layer| Layer {
                    media_type: layer.descriptor.media_type.clone(),
                    digest: layer.descriptor.digest,
                    size: layer.descriptor.size,
                    diff_id: layer.diff_id,
                    unpacked_size: layer.tar_bytes,
                    entries: Some(layer.entries),
                })
                .collect(),
        }
    }

    /// The uncompressed tar of an image's first layer.
    pub fn tar(&self, image: &Image) -> Vec<u8> {
        let layer = &image.layers[0];
        let blob = self.store_blob(layer.digest);
        let kind = LayerType::from_media_type(&layer.media_type).unwrap();
        let file = std::fs::File::open(blob).unwrap();
        let mut tar = Vec::new();
        tar_stream(file, kind, &Limits::default())
            .read_to_end(&mut tar)
            .unwrap();
        tar
    }

    /// Where the daemon's store has a blob.
    pub fn store_blob(&self, digest: Sha256Digest) -> PathBuf {
        self.state().join("store/blobs/sha256").join(digest.hex())
    }

    /// A release of `apps` and its assignment to this board, under the next counters.
    pub fn documents(&mut self, version: &str, apps: Vec<App>) -> (Release, Deploy) {
        let number = self.next;
        self.next += 1;
        let release = Release {
            spec_version: 1,
            critical: vec![],
            product: ProductName::new("shop").unwrap(),
            version: version.into(),
            epoch: 1,
            release_counter: number,
            issued_at: now(),
            expires: now() + 86_400,
            hardware: BTreeSet::from([self.hardware.clone()]),
            networks: self.networks.clone(),
            agent: None,
            apps,
        };
        let deploy = self.deploy_of(&release, number);
        (release, deploy)
    }

    pub fn deploy_of<L: Serialize>(&self, release: &Release<L>, seq: u64) -> Deploy {
        let payload = serde_json::to_vec(release).unwrap();
        Deploy {
            spec_version: 1,
            critical: vec![],
            role: AssignmentRole::Deploy,
            target: Target::Boards(BTreeSet::from([BoardId::new(BOARD).unwrap()])),
            release: Blob {
                digest: Sha256Digest::of(&payload),
                size: payload.len() as u64,
            },
            epoch: 1,
            seq,
            issued_at: now(),
            expires: now() + 86_400,
            deltas: Vec::<Delta>::new(),
            site: BTreeMap::new(),
            secrets: vec![],
            result: false,
        }
    }

    pub fn offer<L: Serialize>(
        &self,
        activity: &str,
        release: &Release<L>,
        deploy: &Deploy,
    ) -> Answer {
        self.offer_signed(
            activity,
            sign(RELEASE_TYPE, release, &self.keys.release),
            sign(DEPLOY_TYPE, deploy, &self.keys.deploy),
        )
    }

    pub fn offer_signed(&self, activity: &str, release: Envelope, deploy: Envelope) -> Answer {
        self.ask(Request::Offer {
            activity: activity.into(),
            deploy,
            release,
        })
    }

    pub fn needs<L: Serialize>(
        &self,
        activity: &str,
        release: &Release<L>,
        deploy: &Deploy,
    ) -> Needs {
        match self.offer(activity, release, deploy) {
            Answer::Needs(needs) => needs,
            other => panic!("{other:?}\n{}", self.log()),
        }
    }

    pub fn stage(&self, activity: &str, diff_id: Sha256Digest, from: LayerSource) -> Answer {
        self.ask(Request::Stage {
            activity: activity.into(),
            diff_id,
            from,
        })
    }

    /// Every layer that is lacking, from its full blob.
    pub fn stage_all(&self, activity: &str, needs: &Needs) {
        for layer in &needs.layers {
            let answer = self.stage(activity, layer.diff_id, LayerSource::Full);
            assert_eq!(answer, Answer::Done, "{}", self.log());
        }
    }

    pub fn activate(&self, activity: &str) -> Answer {
        self.ask(Request::Activate {
            activity: activity.into(),
        })
    }

    /// Offer, stage, activate, and it is kept.
    #[track_caller]
    pub fn commit(&mut self, version: &str, apps: Vec<App>) {
        assert_eq!(self.deploy(version, apps), (Phase::Committed, None));
    }

    /// Offer, stage, activate; what it ended as, and why.
    pub fn deploy(&mut self, version: &str, apps: Vec<App>) -> (Phase, Option<String>) {
        let (release, deploy) = self.documents(version, apps);
        self.carry_out(version, &release, &deploy)
    }

    pub fn carry_out<L: Serialize>(
        &self,
        activity: &str,
        release: &Release<L>,
        deploy: &Deploy,
    ) -> (Phase, Option<String>) {
        let needs = self.needs(activity, release, deploy);
        self.stage_all(activity, &needs);
        let mut events = self.watch();
        assert_eq!(self.activate(activity), Answer::Done, "{}", self.log());
        self.end_of(&mut events, activity)
    }

    pub fn end_of(&self, events: &mut Client, of: &str) -> (Phase, Option<String>) {
        loop {
            match events.event() {
                Some(Event::Deployment {
                    activity,
                    phase,
                    reason,
                    ..
                }) if phase.is_end() => {
                    assert_eq!(activity, of);
                    return (phase, reason);
                }
                Some(_) => {}
                None => panic!("the events ended without an end:\n{}", self.log()),
            }
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("supervisor's log:\n{}", self.log());
        }
        if let Some(mut child) = self.supervisor.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let mut command = self.inside(supervisor());
        let ended = command
            .arg("stop-all")
            .arg("--config")
            .arg(self.config())
            .output();
        if !ended.as_ref().is_ok_and(|ended| ended.status.success()) {
            eprintln!("what ran on this board may be left: {ended:?}");
        }
        if let Some(netns) = &self.netns {
            let _ = Command::new("ip").args(["netns", "delete", netns]).output();
        }
    }
}

pub fn sign(kind: &str, document: &impl Serialize, key: &SigningKey) -> Envelope {
    let mut envelope = Envelope::unsigned(kind, &serde_json::to_vec(document).unwrap());
    envelope.sign(key).unwrap();
    envelope
}

/// The root document with this version, with an epoch for releases and assignments.
pub fn root_document(keys: &Keys, version: u64, epoch: u64) -> Root {
    let of = |key: &SigningKey| RoleKeys {
        keys: vec![key.public().key_id()],
        threshold: 1,
        epoch,
    };
    let all = [&keys.root, &keys.release, &keys.deploy];
    Root {
        spec_version: 1,
        critical: vec![],
        version,
        issued_at: now(),
        expires: now() + 86_400,
        keys: all
            .iter()
            .map(|key| (key.public().key_id(), key.public()))
            .collect(),
        roles: BTreeMap::from([
            (Role::Root, of(&keys.root)),
            (Role::Release, of(&keys.release)),
            (Role::Deploy, of(&keys.deploy)),
        ]),
    }
}

fn root(keys: &Keys) -> Envelope {
    sign(ROOT_TYPE, &root_document(keys, 1, 1), &keys.root)
}

/// The daemon's side of the socket.
pub struct Client {
    stream: UnixStream,
    next: u64,
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        stream
            .set_read_timeout(Some(Duration::from_secs(240)))
            .unwrap();
        Self { stream, next: 1 }
    }

    pub fn send(&mut self, request: Request) -> u64 {
        self.try_send(request).unwrap()
    }

    fn try_send(&mut self, request: Request) -> std::io::Result<u64> {
        let id = self.next;
        self.next += 1;
        let json = serde_json::to_vec(&Call { id, request }).unwrap();
        self.stream.write_all(&(json.len() as u32).to_be_bytes())?;
        self.stream.write_all(&json)?;
        Ok(id)
    }

    /// None when the supervisor has gone. Events that come before the answer are passed over.
    pub fn try_ask(&mut self, request: Request) -> Option<Answer> {
        let id = self.try_send(request).ok()?;
        loop {
            match self.message()? {
                Message::Reply(reply) if reply.id == id => return Some(reply.answer),
                _ => {}
            }
        }
    }

    /// What the daemon does on each connection: it watches, and asks for the status. Nothing is lost of what it is told.
    pub fn try_watch(&mut self) -> Option<()> {
        self.try_send(Request::Watch).ok()?;
        self.try_send(Request::Status).ok()?;
        matches!(self.message()?, Message::Reply(_)).then_some(())
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn message(&mut self) -> Option<Message> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut json = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut json).ok()?;
        Some(serde_json::from_slice(&json).unwrap())
    }

    pub fn ask(&mut self, request: Request) -> Answer {
        self.send(request);
        self.answer()
    }

    /// To the call that was sent last.
    pub fn answer(&mut self) -> Answer {
        loop {
            match self.message() {
                Some(Message::Reply(reply)) => {
                    assert_eq!(reply.id + 1, self.next);
                    return reply.answer;
                }
                Some(Message::Event(_)) => {}
                None => panic!("the supervisor hung up"),
            }
        }
    }

    pub fn event(&mut self) -> Option<Event> {
        loop {
            match self.message()? {
                Message::Event(event) => return Some(event),
                Message::Reply(_) => {}
            }
        }
    }
}

/// Busybox, a user `web`, and a page.
pub fn rootfs(board: &Board, page: &str) -> PathBuf {
    let root = board.dir.path().join(format!(
        "rootfs-{}",
        Sha256Digest::of(page.as_bytes()).hex()
    ));
    for folder in ["bin", "etc", "tmp", "www", "proc", "sys", "dev"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("busybox-static is needed: apt-get install busybox-static");
    std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "httpd", "sleep", "cat", "id", "echo", "wget", "true", "false", "test", "nslookup",
        "ip", "nc", "rm",
    ] {
        let link = root.join("bin").join(applet);
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink("busybox", link).unwrap();
        }
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:web:/www:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nweb:x:1000:\n").unwrap();
    std::fs::write(root.join("www/index.html"), page).unwrap();
    // Two versions differ in what is in them alone.
    for file in ["bin/busybox", "etc/passwd", "etc/group", "www/index.html"] {
        let file = std::fs::File::open(root.join(file)).unwrap();
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        file.set_modified(time).unwrap();
    }
    root
}

/// KiB that a process has written to, if there is one.
pub fn own_kib(pid: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// One that has no network and ends at once.
pub fn quiet(image: &Image, name: &str, script: &str) -> App {
    let mut app = app(image, script);
    app.name = AppName::new(name).unwrap();
    app.network.mode = NetworkMode::None;
    app.stop_grace_seconds = 0;
    app
}

/// An app `web` of that image which runs `script`.
pub fn app(image: &Image, script: &str) -> App {
    App {
        name: AppName::new("web").unwrap(),
        image: image.clone(),
        depends_on: Default::default(),
        update_lock: None,
        strategy: Default::default(),
        both_write: Default::default(),
        hooks: Default::default(),
        logs: Default::default(),
        args: vec!["/bin/sh".into(), "-c".into(), script.into()],
        init: false,
        env: BTreeMap::from([("GREETING".into(), "hello".into())]),
        secrets: Default::default(),
        site_settable: Default::default(),
        limits: AppLimits {
            memory_bytes: 32 << 20,
            cpu_millis: 300,
            pids: 20,
            ..AppLimits::default()
        },
        network: Network::default(),
        volumes: vec![],
        data_version: 1,
        tmpfs: vec![],
        binds: vec![],
        devices: vec![],
        read_only_root: false,
        user_namespace: None,
        health: None,
        restart: Restart::Always,
        trial_seconds: 1,
        critical: false,
        priority: 50,
        actions: vec![],
        stop_grace_seconds: 2,
    }
}

pub fn http_health(port: u16) -> Health {
    Health {
        probe: Probe::Http {
            port,
            path: "/".into(),
        },
        interval_ms: 200,
        timeout_ms: 1000,
        retries: 3,
        start_period_ms: 1000,
    }
}
