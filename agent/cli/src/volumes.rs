//! `volume ls`, `inspect`, `create`, `rm`, `prune`, `backup`, `restore`.

use crate::args::{NewVolume, VolumeCommand};
use crate::body::Body;
use crate::client::{Client, ClientError, LATER, SOON, UPLOAD, whole};
use crate::failure::Failure;
use crate::human::{age, size};
use crate::{output, table};
use bytes::Bytes;
use coracle_protocol::local::VolumeStatus;
use coracle_protocol::names::VolumeName;
use http_body_util::BodyExt;
use hyper::Method;
use serde::Deserialize;
use std::io::{IsTerminal, Read};

/// Bytes of a piece of a tar.
const PIECE: usize = 64 << 10;

/// `coracle volume …`
pub async fn run(client: &Client, command: &VolumeCommand, json: bool) -> Result<(), Failure> {
    match command {
        VolumeCommand::List => list(client, json).await,
        VolumeCommand::Inspect { name } => inspect(client, name, json).await,
        VolumeCommand::Create(new) => create(client, new).await,
        VolumeCommand::Remove { name } => {
            let path = format!("/volumes/{name}");
            let nothing = Body::Whole(Bytes::new());
            client.send(Method::DELETE, &path, nothing, LATER).await?;
            output::text(&format!("{name} removed\n"))
        }
        VolumeCommand::Prune => prune(client).await,
        VolumeCommand::Backup { name } => backup(client, name).await,
        VolumeCommand::Restore { name } => restore(client, name).await,
    }
}

async fn all(client: &Client) -> Result<Vec<VolumeStatus>, Failure> {
    Ok(client.get("/coracle/v1/volumes").await?)
}

async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let volumes = all(client).await?;
    if json {
        return output::json(&volumes);
    }
    let rows: Vec<_> = volumes.iter().map(row).collect();
    let titles = [
        "NAME",
        "OWNER",
        ">USED",
        ">SIZE",
        ">FILES",
        ">FILES AT MOST",
        "AGE",
        "IN USE BY",
    ];
    output::text(&table::layout(titles, &rows))
}

fn row(volume: &VolumeStatus) -> [String; 8] {
    let none = || "-".to_owned();
    let used = &volume.used;
    [
        volume.name.to_string(),
        owner(volume),
        size(used.bytes),
        used.limit_bytes.map_or_else(none, size),
        used.inodes.to_string(),
        used.limit_inodes.map_or_else(none, |most| most.to_string()),
        age(Some(volume.created_at)),
        users(volume),
    ]
}

fn owner(volume: &VolumeStatus) -> String {
    match volume.owner {
        None => "release".to_owned(),
        Some(0) => "root".to_owned(),
        Some(uid) => format!("user {uid}"),
    }
}

fn users(volume: &VolumeStatus) -> String {
    let mut users: Vec<&str> = volume.apps.iter().map(|app| app.as_str()).collect();
    if volume.in_previous {
        users.push("(the set before)");
    }
    match users.is_empty() {
        true => "-".to_owned(),
        false => users.join(", "),
    }
}

async fn inspect(client: &Client, name: &VolumeName, json: bool) -> Result<(), Failure> {
    let mut volumes = all(client).await?.into_iter();
    let volume = volumes
        .find(|volume| volume.name == *name)
        .ok_or_else(|| Failure::NoVolume(name.clone()))?;
    if json {
        return output::json(&volume);
    }
    let limit = match (volume.used.limit_bytes, volume.used.limit_inodes) {
        (Some(bytes), Some(inodes)) => format!("{}, {inodes} files", size(bytes)),
        (Some(bytes), None) => size(bytes),
        _ => "none but the disk's".to_owned(),
    };
    output::text(&format!(
        "name      {}\nowner     {}\nmade      {} ago\nholds     {}, {} files\nat most   {limit}\nheld by   {}\n\
         on disk   {}\nin use by {}\npath      {}\n",
        volume.name,
        owner(&volume),
        age(Some(volume.created_at)),
        size(volume.used.bytes),
        volume.used.inodes,
        volume.means.as_deref().unwrap_or("nothing"),
        size(volume.held_bytes),
        users(&volume),
        crate::human::printable(&volume.path),
    ))
}

async fn create(client: &Client, new: &NewVolume) -> Result<(), Failure> {
    let mut options = serde_json::Map::new();
    if let Some(size) = new.size_bytes {
        options.insert("size".to_owned(), size.to_string().into());
    }
    if let Some(inodes) = new.inodes {
        options.insert("inodes".to_owned(), inodes.to_string().into());
    }
    let body = serde_json::json!({"Name": new.name, "DriverOpts": options});
    // Docker's clients take one that is there already for theirs; a person wants to know.
    client.post("/volumes/create?new=1", &body).await?;
    output::text(&format!("{} created\n", new.name))
}

async fn prune(client: &Client) -> Result<(), Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pruned {
        volumes_deleted: Vec<String>,
        space_reclaimed: u64,
    }
    let path = "/volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D";
    let nothing = Body::Whole(Bytes::new());
    let answer = client.send(Method::POST, path, nothing, LATER).await?;
    let pruned: Pruned =
        serde_json::from_slice(&whole(answer).await?).map_err(ClientError::from)?;
    for name in &pruned.volumes_deleted {
        output::text(&format!("{} removed\n", crate::human::printable(name)))?;
    }
    output::text(&format!(
        "{} volumes removed, {} free again\n",
        pruned.volumes_deleted.len(),
        size(pruned.space_reclaimed)
    ))
}

/// The tar goes to standard output; one that was cut is an error.
async fn backup(client: &Client, name: &VolumeName) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        return Err(Failure::Terminal);
    }
    let path = format!("/coracle/v1/volumes/{name}/backup");
    let nothing = Body::Whole(Bytes::new());
    let mut body = client
        .send(Method::GET, &path, nothing, SOON)
        .await?
        .into_body();
    let mut zeros = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(ClientError::from)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        zeros = zeros_at_end(zeros, data);
        output::bytes(data)?;
    }
    match zeros >= 1024 {
        true => Ok(()),
        false => Err(Failure::HalfBackup(name.clone())),
    }
}

/// Zeros that a stream ends with, when it ended with `before` of them and this piece follows.
fn zeros_at_end(before: usize, piece: &[u8]) -> usize {
    let zeros = piece.iter().rev().take_while(|byte| **byte == 0).count();
    match zeros == piece.len() {
        true => before.saturating_add(zeros),
        false => zeros,
    }
}

/// A tar from standard input.
async fn restore(client: &Client, name: &VolumeName) -> Result<(), Failure> {
    let (pieces, body) = Body::endless();
    // A thread of its own: standard input may be a pipe that somebody fills slowly.
    let reader = std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut buffer = vec![0; PIECE];
        loop {
            let piece = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            if pieces.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    let path = format!("/coracle/v1/volumes/{name}/restore");
    let answer = client.send(Method::PUT, &path, body, UPLOAD).await;
    // One that still waits for input ends with this program.
    drop(reader);
    answer?;
    output::text(&format!("{name} restored\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_tar_is_known_by_its_end() {
        assert_eq!(zeros_at_end(0, b"abc\0\0"), 2);
        assert_eq!(zeros_at_end(2, &[0; 1022]), 1024);
        assert_eq!(zeros_at_end(1024, b"\0\0a"), 0);
        assert_eq!(zeros_at_end(7, b""), 7);
    }

    #[test]
    fn a_row() {
        let volume: VolumeStatus = serde_json::from_value(serde_json::json!({
            "name": "data", "owner": 1000, "created_at": u64::MAX, "means": "image", "held_bytes": 73400320,
            "used": {"bytes": 1048576, "inodes": 7, "limit_bytes": 67108864, "limit_inodes": 4096},
            "path": "/x", "apps": ["web"], "in_previous": true
        }))
        .unwrap();
        let cells = [
            "data",
            "user 1000",
            "1 MiB",
            "64 MiB",
            "7",
            "4096",
            "-",
            "web, (the set before)",
        ];
        assert_eq!(row(&volume), cells.map(str::to_owned));
    }
}
