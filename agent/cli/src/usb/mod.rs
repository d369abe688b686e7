//! `coracle usb apply`: installs from a stick, without a network. The agent verifies the documents
//! and each blob; this only carries bytes from the stick to it.

mod source;

use crate::client::{Client, Pieces};
use crate::failure::Failure;
use crate::table;
use bytes::Bytes;
use coracle_protocol::Sha256Digest;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::local::{LayerNeed, Needs};
use coracle_protocol::release::Blob;
use coracle_protocol::report::{Feedback, Phase};
use coracle_protocol::stick::{INDEX, Stick};
use hyper::Method;
use serde::Deserialize;
use source::Source;
use std::io::Read;
use std::path::Path;
use tokio::sync::mpsc;

/// Piece in which blobs are read, in bytes.
const PIECE: usize = 64 * 1024;

#[derive(Debug, Deserialize)]
struct Offered {
    activity: String,
    needs: Needs,
}

/// Installs what lies at `path`: the stick's root, its `coracle` folder, or a vfat image.
pub async fn apply(client: &Client, path: &Path, json: bool) -> Result<(), Failure> {
    let source = Source::open(path)?;
    let stick = read_index(&source)?;
    let say = |text: String| if json { Ok(()) } else { table::out(&text) };
    let offer = serde_json::json!({"deploy": stick.deploy, "release": stick.release});
    let offer = serde_json::to_vec(&offer).unwrap_or_default();
    let mut end = offer_and_apply(client, &source, &offer, Deltas::Use, json).await?;
    if end.code.as_deref() == Some("no-blob") {
        say("a delta did not serve; copying the full layers\n".into())?;
        end = offer_and_apply(client, &source, &offer, Deltas::Skip, json).await?;
    }
    let reason = end.reason.map(|r| table::plain(&r)).unwrap_or_default();
    match end.phase {
        Phase::Committed => Ok(()),
        Phase::Refused => Err(Failure::Refused(reason)),
        Phase::RolledBack => Err(Failure::Deployment(format!("rolled back: {reason}"))),
        _ => Err(Failure::Deployment(format!("failed: {reason}"))),
    }
}

/// Whether deltas are worth copying.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deltas {
    Use,
    Skip,
}

fn read_index(source: &Source) -> Result<Stick, Failure> {
    let limit = 2 * LIMITS.envelope_bytes as u64 + 4096;
    let (file, size) = source.open_file(&[INDEX])?;
    if size > limit {
        return Err(source.failure(INDEX, format!("{size} bytes; the limit is {limit}")));
    }
    let mut bytes = Vec::new();
    let mut file = file.take(limit);
    file.read_to_end(&mut bytes)
        .map_err(|e| source.failure(INDEX, e.to_string()))?;
    let stick: Stick = serde_json::from_slice(&bytes)
        .map_err(|e| source.failure(INDEX, format!("cannot be read: {e}")))?;
    if stick.stick_version != 1 {
        let what = format!(
            "stick_version {} is not known; this program reads 1",
            stick.stick_version
        );
        return Err(source.failure(INDEX, what));
    }
    Ok(stick)
}

async fn offer_and_apply(
    client: &Client,
    source: &Source,
    offer: &[u8],
    deltas: Deltas,
    json: bool,
) -> Result<Feedback, Failure> {
    let answer = client.post("/coracle/v1/offer", offer.to_vec()).await?;
    let Offered { activity, needs } = serde_json::from_slice(&answer)
        .map_err(|e| Failure::Board(format!("coracled speaks another version: {e}")))?;
    if !json {
        table::out(if needs.already {
            "verified; this very set runs already\n"
        } else {
            "verified\n"
        })?;
    }
    let mut blobs = needs.configs.clone();
    for layer in &needs.layers {
        blobs.push(choose(source, layer, deltas));
    }
    let total: u64 = blobs.iter().map(|b| b.size).sum();
    let mut done = 0;
    for (n, blob) in blobs.iter().enumerate() {
        put(client, source, blob).await?;
        done += blob.size;
        if !json {
            let percent = (done * 100).checked_div(total).unwrap_or(100);
            table::out(&format!(
                "copied {} of {} blobs, {percent} %\n",
                n + 1,
                blobs.len()
            ))?;
        }
    }
    follow(client, &activity, json).await
}

/// The smallest delta that lies on the stick, else the full layer.
fn choose(source: &Source, layer: &LayerNeed, deltas: Deltas) -> Blob {
    let here = |blob: &&Blob| {
        let name = blob.digest.hex();
        source
            .open_file(&["blobs", "sha256", &name])
            .is_ok_and(|(_, size)| size == blob.size)
    };
    let delta = layer.deltas.iter().find(here);
    match deltas {
        Deltas::Use => *delta.unwrap_or(&layer.full),
        Deltas::Skip => layer.full,
    }
}

/// Carries one blob over, checked on the way so that a bad stick is named as such.
async fn put(client: &Client, source: &Source, blob: &Blob) -> Result<(), Failure> {
    let name = blob.digest.hex();
    let (mut file, size) = source.open_file(&["blobs", "sha256", &name])?;
    if size != blob.size {
        let what = format!("{size} bytes; the release says {}", blob.size);
        return Err(source.failure(&name, what));
    }
    let (pieces, body) = mpsc::channel(2);
    let path = format!("/coracle/v1/blobs/sha256/{name}");
    let feed = async move {
        let mut hasher = coracle_digest::Hasher::new();
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok(Some(hasher.finish())),
                Ok(n) => {
                    hasher.update(&piece[..n]);
                    // It has the blob, or does not want it: its answer says which.
                    if pieces
                        .send(Bytes::copy_from_slice(&piece[..n]))
                        .await
                        .is_err()
                    {
                        return Ok(None);
                    }
                }
                Err(e) => return Err(e),
            }
        }
    };
    let (fed, answer) = tokio::join!(feed, client.put(&path, Pieces(body)));
    let got: Option<Sha256Digest> = fed.map_err(|e| source.failure(&name, e.to_string()))?;
    match got {
        Some(got) if got != blob.digest => {
            Err(source.failure(&name, format!("is damaged: its digest is {got}")))
        }
        _ => answer,
    }
}

/// Starts it and prints what the agent says until the end.
async fn follow(client: &Client, activity: &str, json: bool) -> Result<Feedback, Failure> {
    let request = serde_json::json!({ "activity": activity }).to_string();
    let response = client
        .stream(Method::POST, "/coracle/v1/apply", request.into_bytes())
        .await?;
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = client.piece(&mut body).await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > LIMITS.local_frame_bytes {
            break;
        }
        while let Some(at) = bytes.iter().position(|b| *b == b'\n') {
            let rest = bytes.split_off(at + 1);
            let line = std::mem::replace(&mut bytes, rest);
            let feedback: Feedback = serde_json::from_slice(&line)
                .map_err(|e| Failure::Board(format!("coracled speaks another version: {e}")))?;
            if json {
                table::out(&String::from_utf8_lossy(&line))?;
            } else {
                table::out(&format!("{}\n", sentence(&feedback)))?;
            }
            if feedback.phase.is_end() {
                return Ok(feedback);
            }
        }
    }
    Err(Failure::Deployment(
        "coracled ended before the deployment did; `coracle status` shows what runs".into(),
    ))
}

fn sentence(feedback: &Feedback) -> &'static str {
    match feedback.phase {
        Phase::Received => "received",
        Phase::Verified => "verified by the supervisor; the board has room",
        Phase::Fetching => "looking for blobs",
        Phase::Staging => "unpacking layers",
        Phase::Switching => "switching",
        Phase::Trial => "started; on trial",
        Phase::Committed => "healthy; kept",
        Phase::Refused => "refused",
        Phase::RolledBack => "rolled back",
        Phase::Failed => "failed",
    }
}
