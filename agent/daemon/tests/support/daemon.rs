//! The real `coracled`, in folders of its own.

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A daemon; killed and its folders removed when dropped.
pub struct Daemon {
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("what the daemon said:\n{}", self.log());
        }
    }
}

impl Daemon {
    /// Its folders; the daemon is not started yet.
    pub fn prepare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["state", "run"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let config =
            "[agent]\nstate_dir = \"state\"\nrun_dir = \"run\"\n[log]\nlevel = \"debug\"\n";
        std::fs::write(folder.path().join("coracle.toml"), config).unwrap();
        Self {
            folder,
            child: None,
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
    pub fn state(&self) -> PathBuf {
        self.folder().join("state")
    }
    pub fn supervisor_socket(&self) -> PathBuf {
        self.folder().join("run/supervisor.sock")
    }
    pub fn docker_socket(&self) -> PathBuf {
        self.folder().join("run/docker.sock")
    }

    /// Starts it; root stays root, so that the tests' folders stay theirs.
    pub async fn start(&mut self) {
        self.start_with(&["--allow-root"]).await;
    }

    pub async fn start_with(&mut self, arguments: &[&str]) {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.folder().join("log"))
            .unwrap();
        // The shipped build can be tested in the place of the one that cargo made.
        let binary = std::env::var_os("CORACLED");
        let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_coracled").into());
        let mut command = Command::new(binary);
        let clock = self.folder().join("clock");
        if clock.exists() {
            // It stands between the program and the clock: the machine's clock is not ours to set.
            let library = format!(
                "/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1",
                std::env::consts::ARCH
            );
            assert!(
                Path::new(&library).exists(),
                "{library}: apt-get install faketime"
            );
            command.env("LD_PRELOAD", library);
            command.env("FAKETIME_TIMESTAMP_FILE", clock);
            command.env("FAKETIME_NO_CACHE", "1");
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let child = command
            .arg("--config")
            .arg(self.folder().join("coracle.toml"))
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let socket = self.docker_socket();
        super::until("docker.sock", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        })
        .await;
        // The socket is bound before the daemon is ready, and one that is to be another program ends with its requests.
        for _ in 0..200 {
            if self.try_send(Method::GET, "/_ping", b"").await.is_some() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("no answer to a ping:\n{}", self.log());
    }

    /// What the clock of the daemon says, of one that runs and of those that are started later: `@1970-01-01 00:00:10`.
    pub fn set_clock(&self, words: &str) {
        // In one step: each look at the clock reads it.
        let new = self.folder().join("clock.new");
        std::fs::write(&new, words).unwrap();
        std::fs::rename(&new, self.folder().join("clock")).unwrap();
    }

    /// SIGKILL, as a crash.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM; its exit status.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let mut child = self.child.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        child.wait().unwrap()
    }

    /// A file of /proc about it.
    pub fn proc(&self, file: &str) -> String {
        let pid = self.child.as_ref().unwrap().id();
        std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// What its process executes now.
    pub fn executed(&self) -> PathBuf {
        std::fs::read_link(format!("/proc/{}/exe", self.pid())).unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    /// One request on docker.sock.
    pub async fn send(&self, method: Method, path: &str, body: &[u8]) -> Response<Incoming> {
        self.try_send(method, path, body).await.unwrap()
    }

    async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
    ) -> Option<Response<Incoming>> {
        let stream = tokio::net::UnixStream::connect(self.docker_socket())
            .await
            .ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .ok()?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "x")
            .body(Full::new(bytes::Bytes::copy_from_slice(body)))
            .unwrap();
        sender.send_request(request).await.ok()
    }

    /// Status and JSON of an answer.
    pub async fn json(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
    ) -> (StatusCode, serde_json::Value) {
        self.try_json(method, path, body).await.unwrap()
    }

    /// None when the daemon went before it had answered.
    pub async fn try_json(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
    ) -> Option<(StatusCode, serde_json::Value)> {
        let response = self.try_send(method, path, body).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await.ok()?.to_bytes();
        Some((status, serde_json::from_slice(&bytes).unwrap_or_default()))
    }
}
