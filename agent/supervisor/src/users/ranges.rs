//! Which app has which of the board's ids: `ids.json` in the state folder. An app keeps its range for as long as the board
//! has anything of it; no two apps ever have one.

use crate::disk::{self, DiskError};
use coracle_board_support::profile::{IDS_PER_APP, MOST_ID_RANGES};
use coracle_protocol::names::AppName;
use coracle_runtime::namespaces::IdRange;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Bytes of the file: 256 apps with names of 63 bytes take some 18 KiB.
const BYTES: u64 = 64 << 10;

/// Why an app has no range.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// The file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// None is free.
    #[error(
        "all {MOST_ID_RANGES} ranges of ids are taken by apps that this board has or still runs"
    )]
    TooMany,
}

/// The file's content.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    ids_version: u32,
    /// The app's place: its range begins so many times 65536 above the first id.
    apps: BTreeMap<AppName, u32>,
}

/// All ranges of a board.
#[derive(Debug)]
pub struct Ranges {
    path: PathBuf,
    first: u32,
    places: BTreeMap<AppName, u32>,
}

impl Ranges {
    /// Reads the file. One that cannot be read is set aside: what runs keeps its ids, and the rest get new ones.
    pub fn load(path: &Path, first: u32) -> Result<Self, DiskError> {
        let places = match read(path) {
            Ok(places) => places,
            Err(fault) => {
                let aside = disk::set_aside(path)?;
                tracing::error!(fault, aside = %aside.display(), "the apps' ids are lost; each gets new ones");
                BTreeMap::new()
            }
        };
        Ok(Self {
            path: path.to_owned(),
            first,
            places,
        })
    }

    /// The app's range; a new one is on disk before it is answered. `running` are those that other apps have at this moment,
    /// whatever the file says.
    pub fn of(&mut self, app: &AppName, running: &[IdRange]) -> Result<IdRange, RangeError> {
        let free = |range: IdRange| !running.iter().any(|other| overlap(*other, range));
        let own = self.places.get(app).map(|place| self.range(*place));
        if let Some(own) = own.filter(|own| free(*own)) {
            return Ok(own);
        }
        let taken = |place: u32| self.places.values().any(|other| *other == place);
        let place = (0..MOST_ID_RANGES)
            .find(|place| !taken(*place) && free(self.range(*place)))
            .ok_or(RangeError::TooMany)?;
        let before = self.places.insert(app.clone(), place);
        if let Err(error) = self.write() {
            match before {
                Some(before) => self.places.insert(app.clone(), before),
                None => self.places.remove(app),
            };
            return Err(error.into());
        }
        Ok(self.range(place))
    }

    /// Ranges of apps that are gone for good can be given away again.
    pub fn retain(&mut self, is_there: impl Fn(&AppName) -> bool) -> Result<(), DiskError> {
        let before = self.places.len();
        self.places.retain(|app, _| is_there(app));
        match self.places.len() == before {
            true => Ok(()),
            false => self.write(),
        }
    }

    fn range(&self, place: u32) -> IdRange {
        IdRange {
            first: self.first + place * IDS_PER_APP,
            count: IDS_PER_APP,
        }
    }

    fn write(&self) -> Result<(), DiskError> {
        let file = File {
            ids_version: 1,
            apps: self.places.clone(),
        };
        let json = serde_json::to_vec(&file).unwrap_or_default();
        disk::write_whole(&self.path, &json, 0o600)
    }
}

/// Whether apps of this board have had users of their own.
pub fn are_given(path: &Path) -> bool {
    read(path).is_ok_and(|places| !places.is_empty())
}

fn read(path: &Path) -> Result<BTreeMap<AppName, u32>, String> {
    let Some(bytes) = disk::read_bounded(path, BYTES).map_err(|error| error.to_string())? else {
        return Ok(BTreeMap::new());
    };
    let file: File = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let mut places = BTreeSet::new();
    places.extend(file.apps.values().copied());
    let whole = places.len() == file.apps.len() && places.iter().all(|p| *p < MOST_ID_RANGES);
    match file.ids_version == 1 && whole {
        true => Ok(file.apps),
        false => Err("it gives one range to two apps, or is of another version".to_owned()),
    }
}

fn overlap(one: IdRange, other: IdRange) -> bool {
    one.first < other.first.saturating_add(other.count)
        && other.first < one.first.saturating_add(one.count)
}
