//! dpkg itself installs the agent's package in a root of its own, brings a newer one and takes it away: who is told to start and
//! stop, and what stays. Programs, init's tools and the user's are stand-ins that write down how they were called.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const CALLED: &str = "#!/bin/sh\necho \"${0##*/} $*\" >> /called\n";
const USERADD: &str = "#!/bin/sh\necho \"${0##*/} $*\" >> /called\necho coracle:x:900:900::/var/lib/coracle:/usr/sbin/nologin >> /etc/passwd\n";
const GROUPADD: &str =
    "#!/bin/sh\necho \"${0##*/} $*\" >> /called\necho tss:x:901: >> /etc/group\n";
const GETENT: &str = "#!/bin/sh\ngrep -q \"^$2:\" \"/etc/$1\"\n";

fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{said}\n{failed}");
    said
}

/// A root with a shell and no systemd.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        for folder in [
            "bin",
            "dev",
            "etc",
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
        ] {
            fs::create_dir_all(root.at(folder)).unwrap();
        }
        fs::write(root.at("var/lib/dpkg/status"), "").unwrap();
        fs::write(root.at("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"];
        let busybox = busybox.into_iter().find(|path| Path::new(path).exists());
        let busybox = busybox.expect("busybox-static is needed: apt-get install busybox-static");
        fs::copy(busybox, root.at("bin/busybox")).unwrap();
        for name in ["sh", "grep"] {
            symlink("busybox", root.at("bin").join(name)).unwrap();
        }
        program(&root.at("usr/bin/getent"), GETENT);
        fs::write(root.at("etc/group"), "root:x:0:\n").unwrap();
        program(&root.at("usr/sbin/useradd"), USERADD);
        program(&root.at("usr/sbin/groupadd"), GROUPADD);
        for name in ["invoke-rc.d", "update-rc.d"] {
            program(&root.at("usr/sbin").join(name), CALLED);
        }
        root
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn dpkg(&self, words: &[&str]) -> String {
        let mut command = Command::new("dpkg");
        command.arg("--root").arg(self.0.path());
        command.arg("--log").arg(self.at("dpkg.log"));
        // ca-certificates is not there, nor is any other package.
        run(command.arg("--force-depends").args(words))
    }

    /// Who was called since the last time.
    fn called(&self) -> Vec<String> {
        let text = fs::read_to_string(self.at("called")).unwrap_or_default();
        fs::write(self.at("called"), "").unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn package(output: &Path) -> String {
    let programs = tempfile::tempdir().unwrap();
    program(&programs.path().join("coracle-agent"), CALLED);
    let own = run(Command::new("dpkg").arg("--print-architecture"));
    // The scripts are the same for each; dpkg takes only this machine's.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/debian/build.sh");
    let mut build = Command::new(script);
    run(build.arg(programs.path()).arg(own.trim()).arg(output));
    let mut found = fs::read_dir(output).unwrap();
    let path = found.next().unwrap().unwrap().path();
    path.to_str().unwrap().to_owned()
}

#[test]
fn dpkg_installs_upgrades_and_removes_the_agent_and_leaves_what_is_the_boards() {
    let output = tempfile::tempdir().unwrap();
    let package = package(output.path());
    let root = Root::new();

    let said = root.dpkg(&["--install", &package]);
    assert!(said.contains("/etc/coracle/root.json"), "{said}");
    // Nothing is started without a trust root, and everything at the boot after there is one.
    let called = root.called();
    let user = "useradd --system --user-group --no-create-home --home-dir /var/lib/coracle --shell /usr/sbin/nologin coracle";
    let boots = [
        "update-rc.d coracle-supervisor defaults",
        "update-rc.d coracled defaults",
    ];
    let made = [user, "groupadd --system tss"];
    assert_eq!(called, [&made[..], &boots[..]].concat());
    for link in [
        "usr/sbin/coracle-supervisor",
        "usr/bin/coracled",
        "usr/bin/coracle",
    ] {
        let program = fs::canonicalize(root.at(link)).unwrap();
        assert_eq!(program.file_name().unwrap(), "coracle-agent", "{link}");
    }

    let settings = root.at("etc/coracle/coracle.toml");
    let text = fs::read_to_string(&settings).unwrap() + "# the site's\n";
    fs::write(&settings, &text).unwrap();
    fs::write(root.at("etc/coracle/root.json"), "{}").unwrap();
    fs::create_dir_all(root.at("var/lib/coracle/volumes")).unwrap();
    root.dpkg(&["--install", &package]);
    let restarts = [
        "invoke-rc.d coracle-supervisor restart",
        "invoke-rc.d coracled restart",
    ];
    // Neither a second user, nor the end of the apps.
    assert_eq!(root.called(), [boots, restarts].concat());
    assert_eq!(fs::read_to_string(&settings).unwrap(), text);

    root.dpkg(&["--remove", "coracle-agent"]);
    assert_eq!(
        root.called(),
        [
            "invoke-rc.d coracled stop",
            "invoke-rc.d coracle-supervisor stop",
            "coracle-supervisor stop-all",
        ]
    );
    assert!(settings.exists() && !root.at("usr/bin/coracle-agent").exists());

    root.dpkg(&["--purge", "coracle-agent"]);
    assert!(!settings.exists());
    for left in ["etc/coracle/root.json", "var/lib/coracle/volumes"] {
        assert!(root.at(left).exists(), "{left}");
    }
}
