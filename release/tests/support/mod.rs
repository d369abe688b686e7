//! A folder with keys, a root and images, and the program run in it.

#![allow(dead_code)] // each test file uses its part

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// 2025-06-15T15:06:40Z, in the past, so that it holds the files' times too.
pub const NOW: u64 = 1_750_000_000;

pub struct Place {
    dir: tempfile::TempDir,
}

pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("an exit code"),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }
    /// It failed with `code`, and said all of `words` on one line.
    pub fn failed(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for word in words {
            assert!(
                self.err.contains(word),
                "`{}` does not say `{word}`",
                self.err
            );
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}

impl Place {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    /// The program with these arguments, words separated by spaces.
    pub fn run(&self, line: &str) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_coracle-release"))
            .current_dir(self.dir.path())
            .env("SOURCE_DATE_EPOCH", NOW.to_string())
            .env("CORACLE_BOARD_KEYS", self.path("board-keys.json"))
            .args(line.split_whitespace())
            .output()
            .unwrap();
        Ran::of(output)
    }

    /// Keys of every role, and a root that two of three signed.
    pub fn with_keys() -> Self {
        let this = Self::new();
        for (role, name) in [
            ("root", "root-a"),
            ("root", "root-b"),
            ("root", "root-c"),
            ("release", "release"),
            ("deploy", "deploy"),
            ("offline-deploy", "offline"),
        ] {
            this.run(&format!("keys new --role {role} --output {name}.pk8"))
                .ok();
        }
        this.run(
            "root create --output root.json --root-key root-a.pk8.pub root-b.pk8.pub root-c.pk8.pub \
             --root-threshold 2 --release-key release.pk8.pub --deploy-key deploy.pk8.pub \
             --offline-deploy-key offline.pk8.pub",
        )
        .ok();
        this.run("root sign --key root-a.pk8 root.json").ok();
        this.run("root sign --key root-b.pk8 root.json").ok();
        this
    }

    /// `shop/web:1` in `old`, `shop/web:1` and `:2` in `images`: two layers, of which the second differs.
    pub fn with_images(self) -> Self {
        write_files(&self);
        self.build("old", "app-1", "shop/web:1", "zstd");
        self.build("images", "app-1", "shop/web:1", "zstd");
        self.build("images", "app-2", "shop/web:2", "zstd");
        self
    }

    pub fn build(&self, layout: &str, app: &str, tag: &str, compression: &str) {
        self.run(&format!(
            "image build --rootfs base --layer {app} --owner 0:0 --platform linux/amd64 \
             --entrypoint /bin/web --env PORT=8080 --user 1000:1000 --workdir /srv --expose 8080/tcp --compression {compression} \
             --output {layout} --tag {tag}"
        ))
        .ok();
    }

    /// A release of `image` in `file`, signed.
    pub fn with_release(&self, version: &str, image: &str) -> PathBuf {
        let name = format!("release-{version}");
        self.write(&format!("{name}.toml"), release_toml(version, image));
        self.run(&format!(
            "release create {name}.toml --images images --key release.pk8 --root root.json \
             --platform linux/amd64 --output {name}.json"
        ))
        .ok();
        self.path(&format!("{name}.json"))
    }
}

fn write_files(place: &Place) {
    place.write("base/etc/motd", "hello\n");
    place.write("base/lib/libc.so", noise(1, 200_000));
    let mut program = noise(2, 300_000);
    place.write("app-1/bin/web", &program);
    program[1000..1010].copy_from_slice(b"0123456789");
    place.write("app-2/bin/web", &program);
    // Whatever the umask is, the layers are the same.
    for (path, mode) in [
        ("base", 0o755),
        ("base/etc", 0o755),
        ("base/etc/motd", 0o644),
        ("base/lib", 0o755),
        ("base/lib/libc.so", 0o644),
        ("app-1", 0o755),
        ("app-1/bin", 0o755),
        ("app-1/bin/web", 0o755),
        ("app-2", 0o755),
        ("app-2/bin", 0o755),
        ("app-2/bin/web", 0o755),
    ] {
        fs::set_permissions(place.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Bytes that do not compress (xorshift, Marsaglia 2003).
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

pub fn release_toml(version: &str, image: &str) -> String {
    format!(
        "product = \"shop\"\nversion = \"{version}\"\nrelease_counter = 1\nexpires = \"90d\"\n\
         hardware = [\"qemux86-64\"]\n\n[[apps]]\nname = \"web\"\nimage = \"{image}\"\n\n\
         [apps.limits]\nmemory = \"64MiB\"\ncpu_millis = 500\npids = 32\n"
    )
}

/// Names in a folder, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Ends with the test.
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Debian's docker-registry on `port`, as `settings` has it.
pub fn docker_registry(place: &Place, port: u16, settings: &str) -> Server {
    place.write("registry.yml", settings);
    let child = Command::new("docker-registry")
        .args(["serve"])
        .arg(place.path("registry.yml"))
        .stdout(File::create(place.path("registry.log")).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .expect("this test needs docker-registry");
    let server = Server(child);
    let end = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "docker-registry does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

/// As [`docker_registry`], open to everybody of this machine.
pub fn open_registry(place: &Place, more: &str) -> (Server, String) {
    let port = free_port();
    let settings = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{more}",
        place.path("stored").display()
    );
    let server = docker_registry(place, port, &settings);
    (server, format!("127.0.0.1:{port}"))
}

/// What skopeo writes.
pub fn skopeo(arguments: &[&str]) -> Ran {
    let output = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .output()
        .expect("this test needs skopeo");
    Ran::of(output)
}

/// In the folder of the test.
pub fn openssl(place: &Place, arguments: &str) {
    let output = Command::new("openssl")
        .current_dir(place.path(""))
        .args(arguments.split_whitespace())
        .output()
        .expect("this test needs openssl");
    Ran::of(output).ok();
}
