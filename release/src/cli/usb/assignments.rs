//! What a stick assigns to whom: one assignment for all boards, or one for each when they get secrets or settings of
//! their own.

use super::Usb;
use crate::deploy;
use crate::failure::Failure;
use crate::files;
use crate::stick::Assignment;
use coracle_protocol::deploy::Target;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::names::{AppName, BoardId, SecretName};
use coracle_protocol::secret::{Sealed, SecretError};
use coracle_protocol::site::Settings;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// `[BOARD=]FILE`.
#[derive(Debug, Clone)]
pub(super) struct ForSite {
    board: Option<BoardId>,
    file: PathBuf,
}

impl FromStr for ForSite {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A file's name may hold a `=` too.
        let (board, file) = match text.split_once('=') {
            Some((name, file)) if BoardId::new(name).is_ok() => (BoardId::new(name).ok(), file),
            _ => (None, text),
        };
        let file = file.into();
        Ok(Self { board, file })
    }
}

/// `[BOARD:]APP/NAME=FILE`.
#[derive(Debug, Clone)]
pub(super) struct ForSecret {
    board: Option<BoardId>,
    app: AppName,
    name: SecretName,
    file: PathBuf,
}

/// Not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("a secret is written [BOARD:]APP/NAME=FILE: {0}")]
pub(super) struct NotASecret(String);

impl FromStr for ForSecret {
    type Err = NotASecret;
    fn from_str(text: &str) -> Result<Self, NotASecret> {
        let missing = |what: &str| NotASecret(format!("no `{what}` in `{text}`"));
        let (place, file) = text.split_once('=').ok_or_else(|| missing("="))?;
        let (board, place) = match place.split_once(':') {
            Some((board, rest)) => {
                let board = BoardId::new(board).map_err(|e| NotASecret(e.to_string()))?;
                (Some(board), rest)
            }
            None => (None, place),
        };
        let (app, name) = place.split_once('/').ok_or_else(|| missing("/"))?;
        Ok(Self {
            board,
            app: AppName::new(app).map_err(|e| NotASecret(e.to_string()))?,
            name: SecretName::new(name).map_err(|e| NotASecret(e.to_string()))?,
            file: file.into(),
        })
    }
}

/// What all assignments of a stick share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    pub(super) seq: u64,
    pub(super) issued_at: u64,
    pub(super) expires: u64,
    pub(super) result: bool,
}

impl Common {
    fn assignment(self, target: Target, site: BTreeMap<AppName, Settings>) -> Assignment {
        Assignment {
            target,
            seq: self.seq,
            issued_at: self.issued_at,
            expires: self.expires,
            site,
            secrets: Vec::new(),
            result: self.result,
        }
    }
}

/// For every board of some hardware classes.
pub(super) fn for_hardware(args: &Usb, common: Common) -> Result<Assignment, Failure> {
    if let Some(board) = args.site.iter().find_map(|site| site.board.as_ref()) {
        return Err(Failure::usage(format!(
            "--site {board}=FILE is for one board; name it by --board"
        )));
    }
    let classes = args.hardware.iter().cloned().collect();
    Ok(common.assignment(Target::Hardware(classes), settings(args, None)?))
}

/// For boards by name.
pub(super) fn for_boards(args: &Usb, common: Common) -> Result<Vec<Assignment>, Failure> {
    let boards: BTreeSet<BoardId> = args.board.iter().cloned().collect();
    let of_one = args.site.iter().map(|site| site.board.as_ref());
    let of_one = of_one.chain(args.secret.iter().map(|secret| secret.board.as_ref()));
    let of_one: Vec<&BoardId> = of_one.flatten().collect();
    if let Some(stranger) = of_one.iter().find(|board| !boards.contains(**board)) {
        return Err(Failure::usage(format!(
            "{stranger} is none of the boards that --board names"
        )));
    }
    if of_one.is_empty() && args.secret.is_empty() {
        return Ok(vec![
            common.assignment(Target::Boards(boards), settings(args, None)?),
        ]);
    }
    let mut all = Vec::new();
    for board in boards {
        let site = settings(args, Some(&board))?;
        let secrets = secrets(args, &board)?;
        let target = Target::Boards(BTreeSet::from([board]));
        all.push(Assignment {
            secrets,
            ..common.assignment(target, site)
        });
    }
    Ok(all)
}

/// The settings of all, and over them those of this board, app by app.
fn settings(args: &Usb, board: Option<&BoardId>) -> Result<BTreeMap<AppName, Settings>, Failure> {
    let mut all = BTreeMap::new();
    let common = args.site.iter().filter(|site| site.board.is_none());
    let own = args
        .site
        .iter()
        .filter(|site| site.board.is_some() && site.board.as_ref() == board);
    for site in common.chain(own) {
        check_for_each(args, &site.file)?;
        all.extend(deploy::site(&site.file)?);
    }
    Ok(all)
}

/// A file is read once for each board: of a pipe the second one would get what is left, nothing.
fn check_for_each(args: &Usb, file: &Path) -> Result<(), Failure> {
    let is_file = std::fs::metadata(file).is_ok_and(|found| found.is_file());
    if args.board.len() > 1 && file.exists() && !is_file {
        return Err(Failure::usage(format!(
            "{}: several boards need a file that can be read several times; write it to one",
            file.display()
        )));
    }
    Ok(())
}

/// Seals the secrets of a board to the key that is known of it.
fn secrets(args: &Usb, board: &BoardId) -> Result<Vec<Sealed>, Failure> {
    let mut wanted: BTreeMap<(&AppName, &SecretName), &PathBuf> = BTreeMap::new();
    let common = args.secret.iter().filter(|secret| secret.board.is_none());
    let own = args
        .secret
        .iter()
        .filter(|secret| secret.board.as_ref() == Some(board));
    for secret in common.chain(own) {
        wanted.insert((&secret.app, &secret.name), &secret.file);
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let keys = args.keys.open()?;
    let key = keys.of(board)?;
    let mut sealed = Vec::new();
    for ((app, name), file) in wanted {
        check_for_each(args, file)?;
        let value = files::read(file, LIMITS.secret_bytes as u64)?;
        sealed.push(
            key.seal(board, app, name, &value)
                .map_err(|e: SecretError| e)?,
        );
    }
    Ok(sealed)
}
