//! A daemon of a test: it answers what it was told to, and remembers what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// A request as it came. A body that broke off has `None`.
#[derive(Debug, Clone)]
pub struct Asked {
    pub line: String,
    pub body: Option<Vec<u8>>,
}

/// Asks for nothing and is not noted.
const CAUGHT_UP: &str = "CAUGHT-UP";

type Answers = BTreeMap<String, Vec<(u16, Vec<u8>)>>;

/// What happens once, after a request came and before it is answered.
type Happenings = Mutex<BTreeMap<String, Box<dyn FnOnce() + Send>>>;

/// Listens until the test ends.
pub struct Daemon {
    folder: TempDir,
    answers: Arc<Mutex<Answers>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    happenings: Arc<Happenings>,
}

impl Daemon {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let answers: Arc<Mutex<Answers>> = Arc::default();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (given, noted) = (answers.clone(), asked.clone());
        let happenings: Arc<Happenings> = Arc::default();
        let happening = happenings.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &given, &noted, &happening);
            }
        });
        Self {
            folder,
            answers,
            asked,
            happenings,
        }
    }

    /// Does `what` when `METHOD path` is asked for the next time, before it is answered.
    pub fn meanwhile(&self, line: &str, what: impl FnOnce() + Send + 'static) {
        let mut happenings = self.happenings.lock().unwrap();
        happenings.insert(line.to_owned(), Box::new(what));
    }

    /// The next answer to `METHOD path`. The last one is given again and again.
    pub fn answer(&self, line: &str, status: u16, body: impl Into<Vec<u8>>) -> &Self {
        let mut answers = self.answers.lock().unwrap();
        let queue = answers.entry(line.to_owned()).or_default();
        queue.push((status, body.into()));
        self
    }

    /// What was asked whose line begins so, requests that broke off included. Connections are served
    /// in order: once this one is answered, all before it are noted, also those whose client has gone.
    pub fn asked(&self, line: &str) -> Vec<Asked> {
        let mut stream = UnixStream::connect(self.folder.path().join("docker.sock")).unwrap();
        write!(stream, "{CAUGHT_UP}\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter(|a| a.line.starts_with(line))
            .cloned()
            .collect()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `coracle --socket … ARGS`.
    pub fn run(&self, args: &[&str]) -> Output {
        coracle(&self.folder.path().join("docker.sock"), args)
    }
}

/// Runs `coracle --socket SOCKET ARGS`.
pub fn coracle(socket: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_coracle")));
    command
        .arg("--socket")
        .arg(socket)
        .args(args)
        .output()
        .unwrap()
}

fn serve(
    stream: UnixStream,
    answers: &Mutex<Answers>,
    asked: &Mutex<Vec<Asked>>,
    happenings: &Happenings,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length, mut chunked) = (String::new(), 0, false);
    reader.read_line(&mut line).unwrap();
    if line.trim_end() == CAUGHT_UP {
        return;
    }
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let header = header.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        chunked |= header == "transfer-encoding: chunked";
    }
    let body = match chunked {
        true => chunks(&mut reader),
        false => {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).is_ok().then_some(body)
        }
    };
    asked.lock().unwrap().push(Asked {
        line: line.clone(),
        body,
    });
    if let Some(what) = happenings.lock().unwrap().remove(&line) {
        what();
    }
    let (status, body) = match answers.lock().unwrap().get_mut(&line) {
        Some(queue) if queue.len() > 1 => queue.remove(0),
        Some(queue) => queue[0].clone(),
        None => (501, br#"{"message":"not told what to answer"}"#.to_vec()),
    };
    let mut stream = stream;
    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n\r\n");
    // Whoever asked may have gone.
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&body);
}

/// A body in chunks (RFC 9112, 7.1), up to the one without bytes.
fn chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}
