//! What an engineer makes before a board is involved: keys, root, images, releases.

use crate::console::Console;
use crate::service::run;
use crate::world::World;
use crate::{measure, rootfs};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The engineer's folder.
pub struct Engineer {
    dir: PathBuf,
    root: PathBuf,
    release_program: PathBuf,
}

impl Engineer {
    /// Root 2-of-3, release, deploy and offline-deploy keys, and `root.json`; the deploy key may command boards too.
    pub fn make_keys(world: &World, tell: &dyn Fn(&str)) -> Result<Self> {
        let dir = world.dir().join("engineer");
        std::fs::create_dir_all(&dir)?;
        let this = Self {
            root: dir.join("root.json"),
            release_program: world.program_path("coracle-release"),
            dir,
        };
        for (role, name) in [
            ("root", "root-1"),
            ("root", "root-2"),
            ("root", "root-3"),
            ("release", "release"),
            ("deploy", "deploy"),
            ("offline-deploy", "offline-deploy"),
        ] {
            run(this
                .release("keys")
                .args(["new", "--role", role, "--output"])
                .arg(this.key(name)))?;
        }
        let public = |name: &str| this.dir.join(format!("{name}.pk8.pub"));
        run(this
            .release("root")
            .arg("create")
            .arg("--output")
            .arg(&this.root)
            .arg("--root-key")
            .args([public("root-1"), public("root-2"), public("root-3")])
            .args(["--root-threshold", "2"])
            .arg("--release-key")
            .arg(public("release"))
            .arg("--deploy-key")
            .arg(public("deploy"))
            .arg("--command-key")
            .arg(public("deploy"))
            .arg("--offline-deploy-key")
            .arg(public("offline-deploy")))?;
        for name in ["root-1", "root-2"] {
            run(this
                .release("root")
                .arg("sign")
                .arg("--key")
                .arg(this.key(name))
                .arg(&this.root))?;
        }
        tell("root.json: 2 of 3 root keys signed; roles release, deploy, command, offline-deploy");
        Ok(this)
    }

    /// `coracle-release <subcommand>`.
    pub fn release(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.release_program);
        command.arg(subcommand);
        command
    }
    /// A private key.
    pub fn key(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.pk8"))
    }
    /// `root.json`.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// The OCI image layout with all images.
    pub fn images(&self) -> PathBuf {
        self.dir.join("images")
    }
    /// The layout with version 1 only: what a stick takes as the base of its deltas.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `shop/web:1` on the older and `shop/web:2` on the newer Python that Debian offers, and the tiny static app.
    pub fn build_images(&self, world: &World, tell: &dyn Fn(&str)) -> Result<()> {
        let cache = std::env::temp_dir().join("coracle-demo-cache");
        std::fs::create_dir_all(&cache)?;
        let versions = rootfs::python_versions()?;
        let (newer, older) = (
            versions[0].clone(),
            versions.last().context("no version")?.clone(),
        );
        tell(&format!("python3.11 {older} → {newer}, from Debian"));
        let libraries = told(tell, "fetching Debian packages", || {
            rootfs::libraries(&cache)
        })?;
        for (tag, python) in [("1", &older), ("2", &newer)] {
            let python = told(tell, "fetching Debian packages", || {
                rootfs::python(&cache, python)
            })?;
            let app = self.dir.join(format!("app-{tag}"));
            std::fs::create_dir_all(app.join("srv"))?;
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/examples/web/app.py");
            std::fs::copy(source, app.join("srv/app.py")).context(source)?;
            let mut build = self.release("image");
            build
                .arg("build")
                .arg("--layer")
                .arg(&libraries)
                .arg("--layer")
                .arg(&python)
                .arg("--layer")
                .arg(&app)
                .args([
                    "--entrypoint",
                    "/usr/bin/python3.11",
                    "--entrypoint",
                    "/srv/app.py",
                ])
                .args([
                    "--env",
                    "PYTHONUNBUFFERED=1",
                    "--env",
                    "PYTHONDONTWRITEBYTECODE=1",
                    "--env",
                    "PORT=8080",
                ])
                .args([
                    "--user",
                    "1000:1000",
                    "--workdir",
                    "/srv",
                    "--expose",
                    "8080/tcp",
                ])
                .arg("--output")
                .arg(self.images())
                .args(["--tag", &format!("shop/web:{tag}")]);
            told(tell, &format!("packing shop/web:{tag}"), || run(&mut build))?;
        }
        let hello = self.dir.join("hello");
        std::fs::create_dir_all(&hello)?;
        std::fs::copy(world.static_example(), hello.join("hello"))?;
        run(self
            .release("image")
            .arg("build")
            .arg("--layer")
            .arg(&hello)
            .args(["--entrypoint", "/hello"])
            .args(["--env", "PORT=9000"])
            .arg("--output")
            .arg(self.images())
            .args(["--tag", "shop/hello:1"]))?;
        for tag in ["shop/web:1", "shop/web:2", "shop/hello:1"] {
            let source = format!("oci:{}:{tag}", self.images().display());
            let text = run(Command::new("skopeo").args(["inspect", "--raw", &source]))?;
            let seen: serde_json::Value = serde_json::from_str(&text)?;
            let layers = seen["layers"]
                .as_array()
                .context("no layers in the manifest")?;
            let bytes: u64 = layers.iter().filter_map(|l| l["size"].as_u64()).sum();
            tell(&format!(
                "{tag}: skopeo reads {} layers, {} packed",
                layers.len(),
                measure::human(bytes)
            ));
        }
        Ok(())
    }

    /// Pushes the images that a release names, and the release.
    pub fn push(&self, console: &Console, release: &Path) -> Result<()> {
        run(console
            .release("push")
            .arg("--images")
            .arg(self.images())
            .arg(release))
        .map(drop)
    }

    /// A signed release: `web` from `image`, and `hello`.
    pub fn create_release(
        &self,
        version: &str,
        counter: u64,
        image: &str,
        healthy: bool,
    ) -> Result<PathBuf> {
        self.create_release_with(version, counter, image, healthy, &[])
    }

    /// The same, and `web` has secrets.
    pub fn create_release_with(
        &self,
        version: &str,
        counter: u64,
        image: &str,
        healthy: bool,
        secrets: &[&str],
    ) -> Result<PathBuf> {
        let text = format!(
            r#"product = "shop"
version = "{version}"
release_counter = {counter}
expires = "90d"
hardware = ["qemux86-64"]

[[apps]]
name = "web"
image = "{image}"
trial_seconds = 5
secrets = {secrets:?}

[apps.env]
APP_VERSION = "{version}"
HEALTHY = "{}"

[apps.limits]
memory = "64MiB"
cpu_millis = 500
pids = 32
io_write_per_second = "8MiB"

[apps.network]
mode = "bridge"
ports = [{{ host = 8080, container = 8080 }}]

[apps.health]
probe = {{ http = {{ port = 8080, path = "/healthz" }} }}
interval_ms = 500
timeout_ms = 1000
retries = 3
start_period_ms = 2000

[[apps]]
name = "hello"
image = "shop/hello:1"
trial_seconds = 5

[apps.env]
APP_VERSION = "{version}"

[apps.limits]
memory = "8MiB"
cpu_millis = 100
pids = 8

[apps.network]
mode = "bridge"
ports = [{{ host = 9000, container = 9000 }}]
"#,
            u8::from(healthy)
        );
        self.sign_release(version, &text)
    }

    /// A signed release of so many small apps.
    pub fn create_release_of_many(
        &self,
        version: &str,
        counter: u64,
        apps: usize,
    ) -> Result<PathBuf> {
        let mut text = format!(
            "product = \"shop\"\nversion = \"{version}\"\nrelease_counter = {counter}\nexpires = \"90d\"\nhardware = [\"qemux86-64\"]\n"
        );
        for number in 0..apps {
            text.push_str(&format!(
                "\n[[apps]]\nname = \"hello-{number}\"\nimage = \"shop/hello:1\"\ntrial_seconds = 2\n\n[apps.limits]\nmemory = \"8MiB\"\n\
                 cpu_millis = 50\npids = 8\ndisk = \"1MiB\"\n\n[apps.network]\nmode = \"bridge\"\n"
            ));
        }
        self.sign_release(version, &text)
    }

    /// A signed release of this release.toml.
    pub fn sign_release(&self, version: &str, text: &str) -> Result<PathBuf> {
        let toml = self.file(&format!("release-{version}.toml"));
        std::fs::write(&toml, text)?;
        let output = self.file(&format!("release-{version}.json"));
        run(self
            .release("release")
            .arg("create")
            .arg(&toml)
            .arg("--images")
            .arg(self.images())
            .arg("--key")
            .arg(self.key("release"))
            .arg("--output")
            .arg(&output))?;
        Ok(output)
    }
}

/// Runs `work` and tells what it was and how long it took.
fn told<T>(tell: &dyn Fn(&str), what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = std::time::Instant::now();
    let result = work();
    tell(&format!("{what}: {:.1} s", start.elapsed().as_secs_f32()));
    result
}
