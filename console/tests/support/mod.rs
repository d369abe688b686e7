//! A console of its own for each test: real process, real Mosquitto, temporary folder, free ports
//! on loopback. HTTP and MQTT by the programs that an operator would use: curl, mosquitto_pub/sub.

#![allow(dead_code)] // Each test file uses its part.

pub mod foreign;
pub mod token;

use coracle_digest::Sha256Digest;
use coracle_images::Limits;
use coracle_images::build::{Build, Compression, build};
use coracle_images::layout::{Layout, Platform, RunConfig};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::enrol::{EnrolAnswer, EnrolmentFile};
use coracle_protocol::key::SigningKey;
use coracle_protocol::release::{RELEASE_TYPE, SignedRelease};
use coracle_protocol::root::{ROOT_TYPE, TrustedRoot};
use coracle_protocol::topics::Separator;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Fails with what to install when a program is missing.
pub fn need(programs: &[(&str, &str)]) {
    for (program, package) in programs {
        let found = Command::new("sh")
            .args(["-c", &format!("PATH=$PATH:/usr/sbin command -v {program}")])
            .output()
            .unwrap();
        assert!(
            found.status.success(),
            "this test needs `{program}`: apt install {package}"
        );
    }
}

/// Below the ports that the kernel gives to whoever connects: until it is used nobody gets it by chance.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static TURN: AtomicU16 = AtomicU16::new(0);
    loop {
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let spread = (std::process::id() as u16).wrapping_mul(31);
        let port = 20_000 + spread.wrapping_add(turn) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub fn wait_for<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    }
}

/// curl with `arguments`.
pub fn curl(arguments: &[&str]) -> Answer {
    let dir = tempfile::tempdir().unwrap();
    let (headers, body) = (dir.path().join("h"), dir.path().join("b"));
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "60", "-w", "%{http_code}", "-D"])
        .arg(&headers)
        .arg("-o")
        .arg(&body)
        .args(arguments)
        .output()
        .unwrap();
    let code = String::from_utf8_lossy(&output.stdout).into_owned();
    Answer {
        status: code
            .parse()
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))),
        headers: fs::read_to_string(headers).unwrap_or_default(),
        body: fs::read(body).unwrap_or_default(),
    }
}

/// Keys, root document, and a console.
pub struct Fleet {
    pub dir: tempfile::TempDir,
    pub http: u16,
    pub boards: u16,
    pub mqtt: u16,
    release_key: SigningKey,
    pub root_key: SigningKey,
    pub root: TrustedRoot,
    console: Option<Child>,
    extra: Vec<String>,
    deploy_key: String,
    environment: Vec<(&'static str, String)>,
}

impl Fleet {
    /// Starts a console and waits until it is ready.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(extra: &[&str]) -> Self {
        let mut fleet = Self::prepare(extra);
        fleet.start_console();
        fleet
    }

    /// Everything but the console.
    pub fn prepare(extra: &[&str]) -> Self {
        need(&[("mosquitto", "mosquitto"), ("curl", "curl")]);
        let dir = tempfile::tempdir().unwrap();
        let (root_key, _) = SigningKey::generate().unwrap();
        let (release_key, _) = SigningKey::generate().unwrap();
        let (deploy_key, deploy_pk8) = SigningKey::generate().unwrap();
        let keys: serde_json::Map<String, Value> = [&root_key, &release_key, &deploy_key]
            .iter()
            .map(|k| (k.public().key_id(), json!(k.public())))
            .collect();
        let role =
            |key: &SigningKey| json!({"keys": [key.public().key_id()], "threshold": 1, "epoch": 1});
        let root = json!({
            "spec_version": 1, "version": 1, "issued_at": 1, "expires": 4_000_000_000_u64,
            "keys": keys,
            "roles": {"root": role(&root_key), "release": role(&release_key), "deploy": role(&deploy_key)},
        });
        let mut envelope = Envelope::unsigned(ROOT_TYPE, root.to_string().as_bytes());
        envelope.sign(&root_key).unwrap();
        fs::write(dir.path().join("root.json"), envelope.to_json()).unwrap();
        fs::write(dir.path().join("deploy.pk8"), deploy_pk8).unwrap();
        Self {
            http: free_port(),
            boards: free_port(),
            mqtt: free_port(),
            release_key,
            root_key,
            root: TrustedRoot::from_image(&envelope).unwrap(),
            console: None,
            extra: extra.iter().map(|s| (*s).to_owned()).collect(),
            deploy_key: dir.path().join("deploy.pk8").display().to_string(),
            environment: Vec::new(),
            dir,
        }
    }

    /// The root document with `version`, changed, and signed by the root key.
    pub fn root_of(&self, version: u64, change: impl FnOnce(&mut Value)) -> Envelope {
        let mut root = serde_json::to_value(self.root.document()).unwrap();
        root["version"] = json!(version);
        change(&mut root);
        let mut envelope = Envelope::unsigned(ROOT_TYPE, root.to_string().as_bytes());
        envelope.sign(&self.root_key).unwrap();
        envelope
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn start_console(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("console.log"))
            .unwrap();
        let ready = self.path("ready");
        let _ = fs::remove_file(&ready);
        let mut command = Command::new(env!("CARGO_BIN_EXE_coracle-console"));
        command
            .arg("serve")
            .arg("--state")
            .arg(self.path("state"))
            .args(["--listen", &format!("127.0.0.1:{}", self.http)])
            .args(["--board-listen", &format!("127.0.0.1:{}", self.boards)])
            .args(["--advertise", "127.0.0.1"])
            .arg("--root")
            .arg(self.path("root.json"))
            .args(["--deploy-key", &self.deploy_key])
            .envs(self.environment.iter().cloned())
            .arg("--ready-file")
            .arg(&ready)
            .args(&self.extra)
            .stdin(Stdio::null())
            .stderr(log);
        if !self.extra.iter().any(|a| a == "--mqtt-broker") {
            command.args(["--mqtt-listen", &format!("127.0.0.1:{}", self.mqtt)]);
        }
        let mut child = command.spawn().unwrap();
        wait_for("the console is ready", 30, || {
            if let Some(status) = child.try_wait().unwrap() {
                let log = fs::read_to_string(self.path("console.log")).unwrap();
                panic!("the console ended ({status}):\n{log}");
            }
            ready.exists().then_some(())
        });
        self.console = Some(child);
    }

    /// From the next start on, another broker than the console's own.
    pub fn use_broker(&mut self, port: u16, extra: &[String]) {
        self.mqtt = port;
        self.extra = vec!["--mqtt-broker".into(), format!("127.0.0.1:{port}")];
        self.extra.extend_from_slice(extra);
    }

    /// From the next start on, with these variables in its environment.
    pub fn use_deploy_key(&mut self, place: &str, environment: &[(&'static str, String)]) {
        self.deploy_key = place.to_owned();
        self.use_environment(environment);
    }

    /// From the next start on, and in [`Fleet::run`].
    pub fn use_environment(&mut self, environment: &[(&'static str, String)]) {
        self.environment = environment.to_vec();
    }

    /// The console's program with other arguments: whether it ended well, and all that it said.
    pub fn run(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_coracle-console"))
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        (output.status.success(), said)
    }

    /// From the next start on.
    pub fn with_options(&mut self, extra: &[&str]) {
        self.extra = extra.iter().map(|s| (*s).to_owned()).collect();
    }

    /// SIGTERM; how long the console took, which must have ended well.
    pub fn stop_console(&mut self) -> Duration {
        let mut child = self.console.take().unwrap();
        let since = Instant::now();
        Command::new("kill")
            .arg(child.id().to_string())
            .status()
            .unwrap();
        let status = wait_for("the console stops", 20, || child.try_wait().unwrap());
        assert!(status.success(), "{status}");
        since.elapsed()
    }

    pub fn kill_console(&mut self) {
        let mut child = self.console.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("console.log")).unwrap()
    }

    pub fn token(&self) -> String {
        fs::read_to_string(self.path("state/admin.token"))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// A request to the operators' port, with the first token.
    pub fn api(&self, method: &str, path: &str, body: Option<&[u8]>) -> Answer {
        let url = format!("http://127.0.0.1:{}{path}", self.http);
        let auth = format!("Authorization: Bearer {}", self.token());
        let mut arguments = vec!["-X", method, "-H", &auth];
        let file = self.path(&format!("body-{}", unique()));
        let at = format!("@{}", file.display());
        if let Some(body) = body {
            fs::write(&file, body).unwrap();
            arguments.extend(["-H", "Content-Type: application/json", "--data-binary", &at]);
        }
        if method == "HEAD" {
            arguments = vec!["-I", "-H", &auth];
        }
        arguments.push(&url);
        curl(&arguments)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.api("POST", path, Some(body.to_string().as_bytes()))
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = self.api("GET", path, None);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    pub fn enrolment(&self, board: &str) -> EnrolmentFile {
        let answer = self.post("/api/v1/enrolments", &json!({"board": board}));
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// A board that went all the way: file, key, request, certificate.
    pub fn enrol(&self, board: &str) -> Board {
        let file = self.enrolment(board);
        let dir = self.path(board);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("ca.crt"), &file.ca_pem).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
        let answer = self.send_csr(&file, &csr(&key));
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer: EnrolAnswer = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.board.as_str(), board);
        fs::write(dir.join("crt.pem"), answer.certificate_pem).unwrap();
        Board {
            id: board.to_owned(),
            dir,
            boards: self.boards,
            mqtt: self.mqtt,
            separator: file.topic_separator,
        }
    }

    pub fn send_csr(&self, file: &EnrolmentFile, csr_pem: &str) -> Answer {
        let name = unique();
        let (ca, body) = (
            self.path(&format!("ca-{name}")),
            self.path(&format!("req-{name}")),
        );
        fs::write(&ca, &file.ca_pem).unwrap();
        fs::write(
            &body,
            json!({"token": file.token, "csr_pem": csr_pem}).to_string(),
        )
        .unwrap();
        curl(&[
            "--cacert",
            ca.to_str().unwrap(),
            "--data-binary",
            &format!("@{}", body.display()),
            &format!("{}/enrol", file.console_url),
        ])
    }

    /// Builds an image, pushes it by skopeo, signs a release of it and uploads it; the release's
    /// document, digest and envelope.
    pub fn release(
        &self,
        version: u64,
        files: &[(&str, Vec<u8>)],
    ) -> (SignedRelease, Sha256Digest) {
        self.release_packed(version, files, Compression::Gzip(6))
    }

    /// The same with layers compressed otherwise.
    pub fn release_packed(
        &self,
        version: u64,
        files: &[(&str, Vec<u8>)],
        compression: Compression,
    ) -> (SignedRelease, Sha256Digest) {
        need(&[("skopeo", "skopeo")]);
        let tree = self.path(&format!("tree-{version}"));
        fs::create_dir_all(&tree).unwrap();
        for (name, bytes) in files {
            fs::write(tree.join(name), bytes).unwrap();
        }
        let layout = self.path("images");
        let limits = Limits::default();
        let layout = Layout::create(&layout, &limits)
            .or_else(|_| Layout::open(&layout, &limits))
            .unwrap();
        let mut plan = Build::new(&tree, RunConfig::default(), Platform::linux("amd64", None));
        plan.compression = compression;
        plan.clamp_mtime = Some(1_700_000_000);
        let built = build(&plan, &layout).unwrap();
        layout
            .tag(built.manifest.clone(), &format!("v{version}"))
            .unwrap();
        let pushed = self.skopeo_to(&format!("v{version}"), &format!("demo/web:{version}"));
        assert!(pushed.status.success(), "{pushed:?}");
        let blob =
            |d: &coracle_images::layout::Descriptor| json!({"digest": d.digest, "size": d.size});
        let layers: Vec<Value> = built
            .layers
            .iter()
            .map(|l| {
                json!({"media_type": l.descriptor.media_type, "digest": l.descriptor.digest,
                       "size": l.descriptor.size, "diff_id": l.diff_id, "unpacked_size": l.tar_bytes})
            })
            .collect();
        let document = json!({
            "spec_version": 1, "product": "demo", "version": version.to_string(), "epoch": 1,
            "release_counter": version, "issued_at": 1_700_000_000_u64, "expires": 3_000_000_000_u64,
            "hardware": ["generic"],
            "apps": [{"name": "web", "limits": {"memory_bytes": 64 << 20, "cpu_millis": 500, "pids": 32},
                "image": {"name": format!("demo/web:{version}"), "manifest": blob(&built.manifest),
                          "config": blob(&built.config), "layers": layers}}],
        });
        let envelope = self.sign(&document);
        let answer = self.api("POST", "/api/v1/releases", Some(&envelope.to_json()));
        assert_eq!(answer.status, 200, "{answer:?}");
        let digest = Sha256Digest::of(&envelope.payload_unverified().unwrap());
        assert_eq!(answer.json()["digest"], json!(digest));
        (serde_json::from_value(document).unwrap(), digest)
    }

    pub fn sign(&self, document: &Value) -> Envelope {
        let mut envelope = Envelope::unsigned(RELEASE_TYPE, document.to_string().as_bytes());
        envelope.sign(&self.release_key).unwrap();
        envelope
    }

    pub fn skopeo_to(&self, tag: &str, name: &str) -> Output {
        let from = format!("oci:{}:{tag}", self.path("images").display());
        let to = format!("docker://127.0.0.1:{}/{name}", self.http);
        skopeo(&[
            &from,
            &to,
            "--dest-tls-verify=false",
            "--dest-creds",
            &format!("token:{}", self.token()),
        ])
    }

    pub fn deploy(&self, release: &Sha256Digest, boards: &[&str]) -> Value {
        let answer = self.post(
            "/api/v1/deployments",
            &json!({"release": release, "boards": boards}),
        );
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    pub fn console_certificates(&self) -> [PathBuf; 3] {
        ["ca.crt", "console.crt", "console.key"].map(|f| self.path("state/pki").join(f))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(log) = fs::read_to_string(self.path("console.log"))
        {
            eprintln!("--- console.log\n{log}");
        }
        if let Some(mut child) = self.console.take() {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            for _ in 0..200 {
                if child.try_wait().is_ok_and(|s| s.is_some()) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn skopeo(arguments: &[&str]) -> Output {
    Command::new("skopeo")
        .args(["--insecure-policy", "copy"])
        .args(arguments)
        .output()
        .unwrap()
}

pub fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

pub fn csr(key: &rcgen::KeyPair) -> String {
    let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.serialize_request(key).unwrap().pem().unwrap()
}

/// A board's certificate, used by hand.
pub struct Board {
    pub id: String,
    pub dir: PathBuf,
    boards: u16,
    mqtt: u16,
    separator: Separator,
}

impl Board {
    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// GET on the boards' port.
    pub fn get(&self, path: &str, extra: &[&str]) -> Answer {
        let (ca, crt, key) = (
            self.file("ca.crt"),
            self.file("crt.pem"),
            self.file("key.pem"),
        );
        let url = format!("https://127.0.0.1:{}{path}", self.boards);
        let mut arguments = vec!["--cacert", &ca, "--cert", &crt, "--key", &key];
        arguments.extend(extra);
        arguments.push(&url);
        curl(&arguments)
    }

    /// A copy of what lies in a board's folder, as a thief has it.
    pub fn at(fleet: &Fleet, id: &str, from: &Path, name: &str) -> Board {
        let dir = fleet.path(name);
        fs::create_dir_all(&dir).unwrap();
        for file in ["ca.crt", "crt.pem", "key.pem"] {
            fs::copy(from.join(file), dir.join(file)).unwrap();
        }
        Board {
            id: id.to_owned(),
            dir,
            boards: fleet.boards,
            mqtt: fleet.mqtt,
            separator: Separator::Dot,
        }
    }

    /// POST of JSON on the boards' port.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.get(path, &["--data-binary", &body.to_string()])
    }

    /// The same board with another certificate, when the console gives it one for `key`.
    pub fn renew(&self, key: &rcgen::KeyPair) -> Result<Board, Answer> {
        let answer = self.post("/renew", &json!({"csr_pem": csr(key)}));
        if answer.status != 200 {
            return Err(answer);
        }
        let dir = self.dir.join(format!("renewed-{}", unique()));
        fs::create_dir_all(&dir).unwrap();
        fs::copy(self.dir.join("ca.crt"), dir.join("ca.crt")).unwrap();
        fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
        let text = answer.json()["certificate_pem"]
            .as_str()
            .unwrap()
            .to_owned();
        fs::write(dir.join("crt.pem"), text).unwrap();
        Ok(Board {
            id: self.id.clone(),
            dir,
            boards: self.boards,
            mqtt: self.mqtt,
            separator: self.separator,
        })
    }

    /// How the console says that its certificate stands.
    pub fn standing(&self) -> Value {
        let answer = self.get("/certificate", &[]);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Whether the broker lets it in, and takes a word from it. Where a broker ends its connection instead the client comes
    /// again and again: it is given some seconds.
    pub fn is_let_in(&self) -> bool {
        let client = self.mosquitto("mosquitto_pub");
        let mut command = Command::new("timeout");
        command.arg("5").arg(client.get_program());
        command.args(client.get_args());
        command.args(["-q", "1", "-t", &self.topic("telemetry"), "-m", "{}"]);
        command.output().unwrap().status.success()
    }

    pub fn mosquitto(&self, program: &str) -> Command {
        let files = ["ca.crt", "crt.pem", "key.pem"].map(|name| self.dir.join(name));
        let mut command = mosquitto(program, self.mqtt, files);
        // Its name: some brokers take no other.
        command.args(["-i", &self.id]);
        command
    }

    /// Publishes to one of the board's topics, or to another's.
    pub fn publish(&self, topic: &str, message: &Value) {
        self.publish_with(topic, message.to_string().as_bytes(), &["-q", "1"]);
    }

    pub fn publish_with(&self, topic: &str, message: &[u8], extra: &[&str]) {
        publish(self.mosquitto("mosquitto_pub"), topic, message, extra);
    }

    /// Each line is a message, over one connection.
    pub fn publish_lines(&self, topic: &str, lines: &[u8]) {
        let mut command = self.mosquitto("mosquitto_pub");
        command.args(["-q", "1", "-l", "-t", topic]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// The first message on a topic within some seconds.
    pub fn read(&self, topic: &str, seconds: u32) -> Option<Vec<u8>> {
        read(self.mosquitto("mosquitto_sub"), topic, seconds)
    }

    pub fn topic(&self, level: &str) -> String {
        let id = self.id.replace('.', self.separator.as_str());
        format!("coracle/v1/{id}/{level}")
    }

    /// Says that the board holds `layers`, and runs `release` when given.
    pub fn say_current(&self, version: u64, layers: &[Sha256Digest]) {
        let facts = json!({"profile": "generic", "hardware": "generic", "architecture": "x86_64",
            "kernel": "6.1", "agent": "0.1.0", "memory_bytes": 1 << 30, "cpus": 4});
        let message = json!({"version": version, "board": facts, "set": null, "layers": layers});
        self.publish_with(
            &self.topic("current"),
            message.to_string().as_bytes(),
            &["-q", "1", "-r"],
        );
    }
}

pub fn mosquitto(program: &str, port: u16, [ca, crt, key]: [PathBuf; 3]) -> Command {
    need(&[(program, "mosquitto-clients")]);
    let mut command = Command::new(program);
    command
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "--cafile"])
        .arg(ca)
        .arg("--cert")
        .arg(crt)
        .arg("--key")
        .arg(key);
    command
}

pub fn publish(mut command: Command, topic: &str, message: &[u8], extra: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m");
    fs::write(&file, message).unwrap();
    let output = command
        .args(extra)
        .args(["-t", topic])
        .arg("-f")
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

pub fn read(mut command: Command, topic: &str, seconds: u32) -> Option<Vec<u8>> {
    let output = command
        .args([
            "-C",
            "1",
            "-N",
            "-q",
            "1",
            "-W",
            &seconds.to_string(),
            "-t",
            topic,
        ])
        .output()
        .unwrap();
    // 27: nothing came in time.
    assert!(matches!(output.status.code(), Some(0 | 27)), "{output:?}");
    (!output.stdout.is_empty()).then_some(output.stdout)
}

/// The bytes of a file below `dir`.
pub fn blob(dir: &Path, digest: &Sha256Digest) -> Vec<u8> {
    fs::read(dir.join("blobs/sha256").join(digest.hex())).unwrap()
}

/// Bytes that compress badly and are the same each time.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
