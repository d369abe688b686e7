//! The console's registry with the programs that people have: what each sends there comes back to it as the same image.

mod fleet;

use coracle_tests::service::{Service, run, wait_for};
use fleet::{Fleet, program};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// An image of two layers, packed by gzip as every client reads them, and a registry.
struct Scene {
    dir: tempfile::TempDir,
    fleet: Fleet,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fleet = Fleet::start(dir.path(), &[]);
        for (file, text) in [("base/etc/motd", "hello\n"), ("app/srv/text", "text\n")] {
            let file = dir.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let scene = Self { dir, fleet };
        run(program("coracle-release")
            .args(["image", "build", "--owner", "0:0", "--entrypoint", "/srv"])
            .args(["--compression", "gzip", "--platform", "linux/amd64"])
            .args(["--tag", "shop/web:1", "--layer"])
            .arg(scene.path("base"))
            .arg("--layer")
            .arg(scene.path("app"))
            .arg("--output")
            .arg(scene.path("images")))
        .unwrap();
        run(program("coracle-release")
            .args(["image", "export", "--tag", "shop/web:1", "--images"])
            .arg(scene.path("images"))
            .arg(scene.archive()))
        .unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As `docker save` writes it.
    fn archive(&self) -> PathBuf {
        self.path("image.tar")
    }

    fn token(&self) -> String {
        let token = std::fs::read_to_string(self.path("console/admin.token")).unwrap();
        token.trim().to_owned()
    }

    fn name(&self, client: &str) -> String {
        format!("127.0.0.1:{}/shop/{client}:1", self.fleet.http)
    }

    fn creds(&self) -> String {
        format!("token:{}", self.token())
    }

    /// Digest of the configuration that the registry has, which is the image's id for every client.
    fn id(&self, client: &str) -> String {
        let manifest = run(Command::new("skopeo")
            .args(["inspect", "--raw", "--tls-verify=false", "--creds"])
            .arg(self.creds())
            .arg(format!("docker://{}", self.name(client))))
        .unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
        bare(manifest["config"]["digest"].as_str().unwrap())
    }
}

/// Without the algorithm, which some clients say and some do not.
fn bare(id: &str) -> String {
    id.trim().trim_start_matches("sha256:").to_owned()
}

/// Both keep images the same way, and push and pull by the same words.
fn pushes_and_pulls(client: &str, load: impl Fn(&Path) -> Vec<String>) {
    let scene = Scene::new();
    let store = tempfile::tempdir().unwrap();
    let ask = |arguments: &[&str]| {
        run(Command::new(client)
            .env("TMPDIR", store.path())
            .arg("--root")
            .arg(store.path().join("images"))
            .arg("--runroot")
            .arg(store.path().join("run"))
            .args(["--storage-driver", "vfs"])
            .args(arguments))
        .unwrap()
    };
    let (name, creds) = (format!("docker://{}", scene.name(client)), scene.creds());
    let load = load(&scene.archive());
    let load: Vec<&str> = load.iter().map(String::as_str).collect();
    ask(&load);
    let images = ask(&["images", "-q", "--no-trunc"]);
    let id = bare(images.lines().next().unwrap());
    let over = ["--tls-verify=false", "--creds", &creds];
    ask(&[&["push"][..], &over, &[&id, &name]].concat());
    assert_eq!(scene.id(client), id);
    ask(&["rmi", "--force", &id]);
    assert_eq!(ask(&["images", "-q"]).trim(), "");
    let pulled = ask(&[&["pull", "-q"][..], &over, &[&name]].concat());
    assert_eq!(bare(&pulled), id, "it came back as another image");
}

#[test]
fn podman_pushes_and_pulls() {
    let load = |archive: &Path| ["load", "-q", "-i", archive.to_str().unwrap()].map(String::from);
    pushes_and_pulls("podman", |archive| load(archive).to_vec());
}

#[test]
fn buildah_pushes_and_pulls() {
    let load = |archive: &Path| {
        let from = format!("docker-archive:{}", archive.display());
        vec!["pull".to_owned(), "-q".to_owned(), from]
    };
    pushes_and_pulls("buildah", load);
}

#[test]
fn skopeo_copies_there_and_back() {
    let scene = Scene::new();
    let name = format!("docker://{}", scene.name("skopeo"));
    let ours = format!("oci:{}:shop/web:1", scene.path("images").display());
    let back = format!("oci:{}:1", scene.path("back").display());
    let copy = |way: &str, from: &str, to: &str| {
        run(Command::new("skopeo")
            .args(["--insecure-policy", "copy", "-q"])
            .args([
                format!("--{way}-tls-verify=false"),
                format!("--{way}-creds"),
            ])
            .arg(scene.creds())
            .args([from, to]))
        .unwrap()
    };
    copy("dest", &ours, &name);
    copy("src", &name, &back);
    let read = |path: &str| {
        let text = std::fs::read_to_string(scene.path("back").join(path)).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let digest = |descriptor: &serde_json::Value| bare(descriptor["digest"].as_str().unwrap());
    let manifest = digest(&read("index.json")["manifests"][0]);
    let manifest = read(&format!("blobs/sha256/{manifest}"));
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
    for layer in manifest["layers"].as_array().unwrap() {
        let blob = format!("blobs/sha256/{}", digest(layer));
        let ours = std::fs::read(scene.path("images").join(&blob)).unwrap();
        let theirs = std::fs::read(scene.path("back").join(&blob)).unwrap();
        assert!(ours == theirs, "{blob} is another layer");
    }
    // A wrong token is no way in.
    let refused = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--creds", "token:wrong"])
        .arg(&name)
        .output()
        .unwrap();
    assert!(!refused.status.success());
}

/// Docker's own engine, started here with folders of its own.
#[test]
fn docker_pushes_and_pulls() {
    let scene = Scene::new();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let socket = format!("unix://{}", at("docker.sock").display());
    let mut command = Command::new("dockerd");
    command
        .arg("--data-root")
        .arg(at("data"))
        .arg("--exec-root")
        .arg(at("exec"))
        .arg("--pidfile")
        .arg(at("pid"))
        .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"])
        .args(["--storage-driver", "vfs", "-H", &socket]);
    let mut daemon = Service::start("dockerd", command, dir.path()).unwrap();
    let docker = |arguments: &[&str]| {
        let mut command = Command::new("docker");
        command
            .env("DOCKER_CONFIG", at("config"))
            .args(["-H", &socket])
            .args(arguments);
        command
    };
    daemon
        .wait_for("dockerd", Duration::from_secs(120), || {
            Ok(docker(&["info"]).output()?.status.success().then_some(()))
        })
        .unwrap();
    let ask = |arguments: &[&str]| run(&mut docker(arguments)).unwrap();
    let name = scene.name("docker");
    let host = name.split('/').next().unwrap();
    ask(&["load", "-q", "-i", scene.archive().to_str().unwrap()]);
    let id = bare(&ask(&["images", "-q", "--no-trunc"]));
    ask(&["login", "-u", "token", "-p", &scene.token(), host]);
    ask(&["tag", &id, &name]);
    ask(&["push", "-q", &name]);
    assert_eq!(scene.id("docker"), id);
    ask(&["rmi", "--force", &id]);
    assert_eq!(ask(&["images", "-q"]).trim(), "");
    ask(&["pull", "-q", &name]);
    assert_eq!(bare(&ask(&["images", "-q", "--no-trunc"])), id);
    // Through a pipe, as people do it: what the engine saves is imported, and what is exported it loads.
    let piped = |script: &str| {
        run(Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .env("DOCKER_CONFIG", at("config"))
            .env("DOCKER_HOST", &socket)
            .env("RELEASE", program("coracle-release").get_program())
            .env("IMAGES", at("images"))
            .env("IMAGE", &name))
        .unwrap()
    };
    piped("docker save $IMAGE | $RELEASE image import - --output $IMAGES --tag shop/saved:1");
    ask(&["rmi", "--force", &id]);
    assert_eq!(ask(&["images", "-q"]).trim(), "");
    piped("$RELEASE image export --images $IMAGES --tag shop/saved:1 - | docker load -q");
    assert_eq!(bare(&ask(&["images", "-q", "--no-trunc"])), id);
    daemon.signal(nix::sys::signal::Signal::SIGTERM).unwrap();
    wait_for("the end of dockerd", Duration::from_secs(60), || {
        Ok(daemon.check_alive().is_err().then_some(()))
    })
    .unwrap();
}
