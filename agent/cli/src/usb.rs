//! `usb apply`: documents to the daemon, then the blobs that it lacks, then the switch, phase by
//! phase. The daemon and the supervisor verify everything; what is checked here only saves time.

use crate::args::Place;
use crate::body::Body;
use crate::client::{Client, ClientError, Lines, UPLOAD, whole};
use crate::failure::Failure;
use crate::human::{printable, size};
use crate::result::Desk;
use crate::stick::{Medium, MediumError};
use crate::{output, status};
use bytes::Bytes;
use coracle_digest::Hasher;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::local::{DID_NOT_STAY, LayerNeed, Needs};
use coracle_protocol::release::Blob;
use coracle_protocol::report::{Feedback, Phase};
use coracle_protocol::stick::Stick;
use hyper::Method;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;

/// So often a daemon may be started anew in the middle: for a program of its own that comes, and for one that goes back.
const RESTARTS: usize = 3;

/// Bytes that are read from the stick at once.
const PIECE: usize = 64 * 1024;

/// An offer that the daemon took.
#[derive(Debug, Deserialize)]
struct Offered {
    activity: String,
    needs: Needs,
}

/// Which blobs of a layer are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Take {
    /// The smallest delta; the full one when there is none.
    Smallest,
    /// Only full ones: a delta did not make what was signed.
    Full,
}

/// `coracle usb apply`
pub async fn apply(client: &Client, place: &Place, path: &Path) -> Result<(), Failure> {
    quit_on_panic();
    let medium = Medium::open(path)?;
    let desk = Desk::of(&medium, place, path);
    install(client, &medium, desk).await
}

/// All that a medium brings, and on `desk` what became of it, when that is asked for.
pub async fn install(client: &Client, medium: &Medium, desk: Desk) -> Result<(), Failure> {
    let (documents, index) = medium.documents()?;
    let end = carry_out(client, medium, &documents).await;
    // Whatever comes of that, the update is what it is.
    match desk.leave(client, medium, (&documents, index), &end).await {
        Ok(None) => {}
        Ok(Some(name)) => say(&format!("left {name} on the stick"))?,
        Err(why) => say(&format!("no result is left on the stick: {why}"))?,
    }
    end
}

async fn carry_out(client: &Client, medium: &Medium, documents: &Stick) -> Result<(), Failure> {
    for root in &documents.roots {
        send_root(client, root).await?;
    }
    let (end, sent_deltas) = round(client, medium, documents, Take::Smallest).await?;
    let end = match end.code.as_deref() {
        // The daemon has thrown the delta away and asks for the full layer.
        Some("no-blob" | "bad-delta" | "diff-id-mismatch") if sent_deltas => {
            say("a delta did not serve; taking full layers")?;
            round(client, medium, documents, Take::Full).await?.0
        }
        _ => end,
    };
    match end.phase {
        Phase::Committed => Ok(()),
        _ => Err(Failure::Deployment(Box::new(end))),
    }
}

/// One root document, which may be the next one. The supervisor passes over what it has already.
async fn send_root(client: &Client, root: &Envelope) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Root<'a> {
        root: &'a Envelope,
    }
    let answer = client.post("/coracle/v1/root", &Root { root }).await?;
    whole(answer).await?;
    Ok(())
}

/// One round, over daemons that come after each other: the next one is offered the same, and says how it goes on, or ended.
async fn round(
    client: &Client,
    medium: &Medium,
    documents: &Stick,
    take: Take,
) -> Result<(Feedback, bool), Failure> {
    for _ in 0..RESTARTS {
        let end = one_round(client, medium, documents, take).await;
        if !end.as_ref().is_err_and(Failure::is_break) {
            return end;
        }
        say("coracled is started anew")?;
        status::wait(client).await;
    }
    one_round(client, medium, documents, take).await
}

fn rolled_back(code: String, reason: String) -> Feedback {
    Feedback {
        activity: String::new(),
        sequence: 0,
        phase: Phase::RolledBack,
        percent: None,
        code: Some(code),
        reason: Some(reason),
        fetched: None,
        blob: None,
    }
}

/// Offer, blobs, switch. How it ended, and whether a delta was sent.
async fn one_round(
    client: &Client,
    medium: &Medium,
    documents: &Stick,
    take: Take,
) -> Result<(Feedback, bool), Failure> {
    #[derive(Serialize)]
    struct Apply<'a> {
        activity: &'a str,
    }
    let offered = match offer(client, documents).await {
        // Tried before, perhaps by a daemon before this one.
        Err(Failure::Client(ClientError::Refused {
            code: Some(code),
            message,
        })) if code == DID_NOT_STAY => return Ok((rolled_back(code, message), false)),
        other => other?,
    };
    say("verified")?;
    let sent_deltas = match offered.needs.already {
        true => false,
        false => send_all(client, medium, &offered.needs, take).await?,
    };
    let activity = &offered.activity;
    let answer = client
        .post("/coracle/v1/apply", &Apply { activity })
        .await?;
    let trial = status::trial(&documents.release);
    Ok((
        follow(Lines::new(answer), trial.as_deref()).await?,
        sent_deltas,
    ))
}

async fn offer(client: &Client, documents: &Stick) -> Result<Offered, Failure> {
    #[derive(Serialize)]
    struct Offer<'a> {
        deploy: &'a Envelope,
        release: &'a Envelope,
    }
    // Only a stick that has several needs to know which board this is.
    let board = match documents.deploys.is_empty() {
        true => None,
        false => status::board(client).await?,
    };
    let offer = Offer {
        deploy: documents.assignment_for(board.as_ref()),
        release: &documents.release,
    };
    let answer = client.post("/coracle/v1/offer", &offer).await?;
    let answer = whole(answer).await?;
    Ok(serde_json::from_slice(&answer).map_err(ClientError::from)?)
}

/// Prints each phase once, and gives the end.
async fn follow(mut lines: Lines, trial: Option<&str>) -> Result<Feedback, Failure> {
    // Said already, when the offer was taken.
    let mut last = Phase::Verified;
    while let Some(feedback) = lines.next::<Feedback>().await? {
        let phase = feedback.phase;
        if phase > last {
            last = phase;
            match (phase, trial) {
                (Phase::Trial, Some(span)) => say(&format!("trial {span}"))?,
                (Phase::Refused | Phase::Failed, _) => {}
                // The blobs came from here, not from a network.
                (Phase::Fetching, _) => {}
                _ => say(&phase.to_string().replace('-', " "))?,
            }
        }
        if phase.is_end() {
            return Ok(feedback);
        }
    }
    Err(Failure::NoEnd)
}

pub fn say(line: &str) -> Result<(), Failure> {
    output::text(&format!("{}\n", printable(line)))
}

/// What on the stick can make a layer, the best first.
fn candidates(medium: &Medium, need: &LayerNeed, take: Take) -> Vec<Blob> {
    let mut deltas: Vec<Blob> = Vec::new();
    if let Take::Smallest = take {
        for delta in &need.deltas {
            let at = deltas.partition_point(|other| other.size <= delta.size);
            deltas.insert(at, *delta);
        }
    }
    deltas.push(need.full);
    deltas.retain(|blob| medium.has(blob));
    deltas
}

/// Sends what the board lacks; whether a delta was among it.
async fn send_all(
    client: &Client,
    medium: &Medium,
    needs: &Needs,
    take: Take,
) -> Result<bool, Failure> {
    let mut plan = Vec::new();
    for need in &needs.layers {
        let found = candidates(medium, need, take);
        if found.is_empty() {
            return Err(Failure::NoLayer(need.diff_id));
        }
        plan.push((need, found));
    }
    // One that is not on the stick may be on the board already; the daemon says so.
    for config in needs.configs.iter().filter(|blob| medium.has(blob)) {
        send(client, medium, config).await?;
    }
    let (mut sent, mut full, mut deltas) = (0, 0, 0);
    for (need, found) in plan {
        let blob = send_one_of(client, medium, need, &found).await?;
        sent += blob.size;
        full += need.full.size;
        deltas += usize::from(blob != need.full);
    }
    if !needs.layers.is_empty() {
        let deltas = match deltas {
            0 => String::new(),
            n => format!(", {n} of them as deltas ({} in full)", size(full)),
        };
        let layers = needs.layers.len();
        say(&format!("sent {layers} layers, {}{deltas}", size(sent)))?;
    }
    Ok(deltas > 0)
}

/// The first that can be read and is what its name says.
async fn send_one_of(
    client: &Client,
    medium: &Medium,
    need: &LayerNeed,
    found: &[Blob],
) -> Result<Blob, Failure> {
    let Some((last, others)) = found.split_last() else {
        return Err(Failure::NoLayer(need.diff_id));
    };
    for blob in others {
        match send(client, medium, blob).await {
            Ok(()) => return Ok(*blob),
            Err(Failure::Medium(e)) => say(&format!("{e}; trying another"))?,
            Err(e) => return Err(e),
        }
    }
    send(client, medium, last).await?;
    Ok(*last)
}

/// Sends one blob. Its last piece goes only when the digest is right, so that the daemon never
/// sees the whole of a wrong one.
async fn send(client: &Client, medium: &Medium, blob: &Blob) -> Result<(), Failure> {
    let path = format!("/coracle/v1/blobs/sha256/{}", blob.digest.hex());
    let (pieces, body) = Body::stream(blob.size);
    let produce = async {
        let mut reader = medium.read(blob)?;
        let mut hasher = Hasher::new();
        let mut left = blob.size;
        loop {
            let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
            let digest = blob.digest;
            reader
                .read_exact(&mut piece)
                .map_err(|source| MediumError::Blob { digest, source })?;
            hasher.update(&piece);
            left -= piece.len() as u64;
            if left == 0 {
                if hasher.finish() != blob.digest {
                    return Err(MediumError::Damaged(blob.digest));
                }
                let _ = pieces.send(Ok(Bytes::from(piece))).await;
                drop(pieces);
                return Ok(());
            }
            // The daemon may answer before it has everything: it has the blob, or no room.
            if pieces.send(Ok(Bytes::from(piece))).await.is_err() {
                return Ok(());
            }
        }
    };
    let request = client.send(Method::PUT, &path, body, UPLOAD);
    let (produced, answered) = tokio::join!(produce, request);
    produced?;
    answered?;
    Ok(())
}

/// The crate that reads vfat may meet an image that it did not foresee.
pub fn quit_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("coracle: the stick cannot be read: {panic}");
        std::process::exit(1);
    }));
}
