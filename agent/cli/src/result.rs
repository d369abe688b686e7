//! What became of a stick, left on it when its signed assignment asks for that. A device is written by a program of its own,
//! which opens it for that moment alone: root opens, and coracled's user, who has nothing else, meets the file system.

use crate::args::Place;
use crate::client::{Client, ClientError};
use crate::failure::Failure;
use crate::plugged::become_user;
use crate::status::{self, rfc3339};
use crate::stick::{LeaveError, Medium, on_device, open_to_write};
use crate::usb;
use coracle_protocol::Sha256Digest;
use coracle_protocol::deploy::Deploy;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::report::{Feedback, Phase};
use coracle_protocol::stick::{BoardResult, Stick, Time};
use nix::unistd::Uid;
use serde::Serialize;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

const ASK: &str = "/coracle/v1/stick/result";

/// Where a board's serial number is, the first that is there: its firmware's, else its system's.
const SERIALS: [&str; 2] = ["proc/device-tree/serial-number", "etc/machine-id"];

/// Characters of a serial number.
const SERIAL: usize = 64;

/// Why nothing is left.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// Whether it is wanted cannot be said, or by nobody who may.
    #[error(transparent)]
    Unsure(#[from] ClientError),
    /// The stick.
    #[error(transparent)]
    Leave(#[from] LeaveError),
    /// Whoever was to write.
    #[error("its writer: {0}")]
    Writer(#[from] io::Error),
    /// Said by the writer itself.
    #[error("see above")]
    Told,
}

/// Who writes, once there is something to write.
pub struct Desk {
    /// What waits to write to a device or an image. To a folder one writes oneself.
    writer: Option<io::Result<Child>>,
    /// The board's file system.
    root: PathBuf,
}

impl Desk {
    /// For a medium that was named by hand.
    pub fn of(medium: &Medium, place: &Place, path: &Path) -> Self {
        let config = place.config();
        let root = config.map_or_else(|_| "/".into(), |config| config.hardware_root);
        match medium {
            Medium::Folder(_) => Self { writer: None, root },
            Medium::Image(_) => Self::of_device(place, path, root),
        }
    }

    /// Starts what may have to write to a device later, with the rights of now. It sleeps until then, and opens nothing.
    pub fn of_device(place: &Place, path: &Path, root: PathBuf) -> Self {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("coracle").stdin(Stdio::piped());
        if let Some(config) = place.config_file() {
            command.arg("--config").arg(config);
        }
        command.args(["usb", "result"]).arg(path);
        let writer = Some(command.spawn());
        Self { writer, root }
    }

    /// Leaves what became of `documents`, when that is asked for by who may; the name of the file.
    pub async fn leave(
        self,
        client: &Client,
        medium: &Medium,
        (documents, index): (&Stick, Sha256Digest),
        end: &Result<(), Failure>,
    ) -> Result<Option<String>, ResultError> {
        let status: Value = client.get(status::PATH).await.unwrap_or_default();
        let deploy = documents.assignment_for(status::board_of(&status).as_ref());
        let Some(wish) = wish(deploy) else {
            // Its input ends: the writer goes.
            return Ok(None);
        };
        ask(client, deploy).await?;
        let result = describe(&wish, documents, &self.root, &status, end);
        let json = result.to_json();
        match (self.writer, medium) {
            (Some(child), _) => hand_over(child?, index, result.of(), &json).map(|()| None),
            (None, Medium::Folder(folder)) => Ok(Some(folder.leave(result.of(), &json)?)),
            (None, Medium::Image(_)) => Ok(None),
        }
    }
}

/// What a stick's signed assignment may ask for, before anybody has looked at who signed it.
fn wish(deploy: &Envelope) -> Option<Deploy> {
    let payload = deploy.payload_unverified().ok()?;
    let deploy: Deploy = serde_json::from_slice(&payload).ok()?;
    deploy.result.then_some(deploy)
}

/// The daemon has the root document, and says whether the wish is signed by who may sign sticks.
async fn ask(client: &Client, deploy: &Envelope) -> Result<(), ClientError> {
    #[derive(Serialize)]
    struct Wish<'a> {
        deploy: &'a Envelope,
    }
    client.post(ASK, &Wish { deploy }).await.map(drop)
}

/// To the program that waits for it, which says itself what comes of it.
fn hand_over(
    mut child: Child,
    index: Sha256Digest,
    of: &str,
    json: &[u8],
) -> Result<(), ResultError> {
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(format!("{}\n{of}\n", index.hex()).as_bytes())?;
        stdin.write_all(json)?;
    }
    match child.wait()?.success() {
        true => Ok(()),
        false => Err(ResultError::Told),
    }
}

/// `coracle usb result`: what waits. Nothing on its input: nothing is opened.
pub fn write(place: &Place, device: &Path) -> Result<(), Failure> {
    usb::quit_on_panic();
    // Whose result it is has no more bytes than its name may have.
    const MOST: u64 = BoardResult::BYTES as u64 + 1024;
    let mut given = Vec::new();
    let read = io::stdin().take(MOST).read_to_end(&mut given);
    let Some((index, of, json)) = read.ok().and_then(|_| parts(&given)) else {
        return Ok(());
    };
    let file = open_to_write(device).map_err(Failure::Leave)?;
    if Uid::effective().is_root() {
        become_user(&place.config()?.user)?;
    }
    let name = on_device(&file, &index, (of, json)).map_err(Failure::Leave)?;
    usb::say(&format!("left {name} on the stick"))
}

/// Digest of the index, whose result it is, and the result.
fn parts(given: &[u8]) -> Option<(Sha256Digest, &str, &[u8])> {
    let mut lines = given.splitn(3, |byte| *byte == b'\n');
    let mut text = || std::str::from_utf8(lines.next()?).ok();
    let (index, of) = (Sha256Digest::from_hex(text()?).ok()?, text()?);
    let json = lines.next()?;
    (json.len() <= BoardResult::BYTES).then_some((index, of, json))
}

fn describe(
    wish: &Deploy,
    documents: &Stick,
    root: &Path,
    status: &Value,
    end: &Result<(), Failure>,
) -> BoardResult {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (outcome, code, reason) = outcome(end);
    let release: Value = documents
        .release
        .payload_unverified()
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default();
    let set = &status["current"];
    let trust = &status["trust"];
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut result = BoardResult {
        result_version: 1,
        board: status::board_of(status),
        serial: serial(root),
        hardware: word(&status["board"]["hardware"]),
        product: word(&release["product"]),
        version: word(&release["version"]),
        stick: wish.seq,
        outcome,
        code,
        reason: reason.map(|text| text.chars().take(BoardResult::REASON).collect()),
        runs: set
            .is_object()
            .then(|| format!("{} {}", word(&set["product"]), word(&set["version"]))),
        agent: word(&status["board"]["agent"]),
        counters: status::read(trust).ok(),
        time: Time {
            clock: rfc3339(clock.as_secs()),
            kept: trust["clock_kept"] == true,
            at_least: trust["time"].as_u64().unwrap_or_default(),
        },
    };
    if result.to_json().len() > BoardResult::BYTES {
        // Words of which each letter takes six.
        (result.reason, result.product, result.version) = Default::default();
    }
    if result.to_json().len() > BoardResult::BYTES {
        // Of many products.
        result.counters = None;
    }
    result
}

/// How it ended, the stable word and the words.
fn outcome(end: &Result<(), Failure>) -> (Phase, Option<String>, Option<String>) {
    match end {
        Ok(()) => (Phase::Committed, None, None),
        Err(Failure::Deployment(end)) => {
            let Feedback {
                phase,
                code,
                reason,
                ..
            } = &**end;
            (*phase, code.clone(), reason.clone())
        }
        Err(Failure::Client(ClientError::Refused { code, message })) => {
            (Phase::Refused, code.clone(), Some(message.clone()))
        }
        Err(other) => (Phase::Failed, None, Some(other.to_string())),
    }
}

/// What tells this board apart from others that have no name.
fn serial(root: &Path) -> String {
    let read = |name: &str| {
        let mut text = String::new();
        let file = std::fs::File::open(root.join(name)).ok()?;
        file.take(SERIAL as u64).read_to_string(&mut text).ok()?;
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        (!text.is_empty()).then(|| text.to_owned())
    };
    SERIALS.into_iter().find_map(read).unwrap_or_default()
}
