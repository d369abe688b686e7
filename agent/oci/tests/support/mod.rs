//! A throw-away bundle with busybox, and the built binary to run it with.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

pub mod criu;
pub mod engine;
pub mod room;
pub mod systemd;

/// `CORACLE_RUNTIME` names it where the tests do not run on the machine that built them.
pub fn runtime() -> PathBuf {
    std::env::var_os("CORACLE_RUNTIME")
        .map_or(env!("CARGO_BIN_EXE_coracle-runtime").into(), PathBuf::from)
}

/// A bundle, a folder of states, and containers that all end with it.
pub struct Bundle {
    folder: tempfile::TempDir,
    pub config: Value,
}

/// What a command has said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A folder below the top of the cgroups, in a hierarchy that limits memory.
pub fn cgroup(path: &str) -> PathBuf {
    let (v1, v2) = ("/sys/fs/cgroup/memory", "/sys/fs/cgroup");
    let top = if Path::new(v1).exists() { v1 } else { v2 };
    Path::new(top).join(path)
}

/// Ids are cgroups too, which all tests share.
fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Bundle {
    /// Runs `script` in a shell.
    pub fn new(script: &str) -> Bundle {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make containers and must run as root"
        );
        let busybox = Path::new("/bin/busybox");
        assert!(
            busybox.exists(),
            "these tests need /bin/busybox, statically linked: apt-get install busybox-static"
        );
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("rootfs");
        for name in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir_all(root.join(name)).expect("a folder");
        }
        let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        fs::set_permissions(root.join("tmp"), open_to_all).expect("a mode");
        fs::copy(busybox, root.join("bin/busybox")).expect("busybox");
        for applet in [
            "sh", "cat", "echo", "ls", "true", "sleep", "id", "grep", "touch", "mkdir", "mount",
            "pwd", "env", "test", "stat", "kill", "hostname", "wc", "readlink", "head", "dd",
            "tty", "stty", "ip", "ping", "mknod", "mkfifo", "umount", "ln",
        ] {
            symlink("busybox", root.join("bin").join(applet)).expect("a link");
        }
        let example = folder.path().join("example");
        fs::create_dir(&example).expect("a folder");
        let made = Command::new(runtime())
            .args(["spec", "-b"])
            .arg(&example)
            .status()
            .expect("the runtime");
        assert!(made.success());
        let text = fs::read(example.join("config.json")).expect("an example");
        let mut config: Value = serde_json::from_slice(&text).expect("JSON");
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        config["root"]["readonly"] = json!(false);
        // Raising a hard limit needs a capability that a test machine's root may lack.
        config["process"]["rlimits"] = json!([]);
        Bundle { folder, config }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn root(&self) -> PathBuf {
        self.path("rootfs")
    }

    /// A name that no other test has.
    pub fn id(&self) -> String {
        format!("coracle-test-{}-{}", std::process::id(), unique())
    }

    pub fn save(&self) {
        fs::write(self.path("config.json"), self.config.to_string()).expect("config.json");
    }

    /// The binary with its states in this bundle.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(runtime());
        command
            .arg("--root")
            .arg(self.path("states"))
            .args(args)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    pub fn runtime(&self, args: &[&str]) -> Said {
        said(self.command(args).output().expect("the runtime"))
    }

    /// The same, and it must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let said = self.runtime(args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said.out
    }

    /// The same, and it must fail. Answers the message.
    pub fn refused(&self, args: &[&str]) -> String {
        let said = self.runtime(args);
        assert_eq!(said.code, 1, "{args:?}: {said:?}");
        said.err
    }

    /// Config as it is now, to its end.
    pub fn run(&self) -> Said {
        self.save();
        self.runtime(&["run", &self.id()])
    }

    /// Created and started; its output goes to `out`.
    pub fn start(&self, id: &str) {
        self.save();
        self.create(id);
        self.ok(&["start", id]);
    }

    pub fn create(&self, id: &str) {
        self.save();
        let out = fs::File::create(self.path("out")).expect("a file");
        let status = self
            .command(&["create", id])
            .stdout(out)
            .status()
            .expect("the runtime");
        assert!(status.success(), "create {id}");
    }

    pub fn out(&self) -> String {
        fs::read_to_string(self.path("out")).expect("output")
    }

    pub fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.ok(&["state", id])).expect("a state")
    }

    pub fn status(&self, id: &str) -> String {
        self.state(id)["status"]
            .as_str()
            .expect("a status")
            .to_owned()
    }

    pub fn wait_for(&self, id: &str, status: &str) {
        wait_until(&format!("{id} {status}"), || self.status(id) == status);
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let list = self.runtime(&["list", "-q"]);
        for id in list.out.lines() {
            self.runtime(&["delete", "--force", id]);
        }
    }
}

pub fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Tells that a test makes no sense on this machine: `make boards` holds a list of where that is right. Past what libtest
/// keeps to itself, and on a line that nothing else has begun.
pub fn not_here(test: &str, reason: &str) {
    let line = format!("\ntest {test} ... not here: {reason}\n");
    std::io::stdout()
        .write_all(line.as_bytes())
        .expect("standard output");
}

/// Ten seconds are enough for anything here.
pub fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Everything below a folder, by name.
pub fn names_below(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// A text and the descriptor beside it.
pub fn receive_descriptor(socket: &UnixStream) -> (String, OwnedFd) {
    let mut text = vec![0; 4096];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut slices = [std::io::IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::empty(),
    )
    .expect("a message");
    let fd = message
        .cmsgs()
        .expect("its parts")
        .find_map(|part| match part {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        })
        .expect("a descriptor");
    let count = message.bytes;
    text.truncate(count);
    // SAFETY: the message has brought it, and nobody else owns it.
    #[allow(unsafe_code, reason = "nix hands out numbers")]
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    (String::from_utf8(text).expect("text"), fd)
}
