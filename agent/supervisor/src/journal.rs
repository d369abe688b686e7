//! Which sets of apps this board has, on disk: `current.json`, `previous.json`, and `trial.json`
//! while a new one has not proved healthy yet. Its rules stand in [`crate::machine`].
//!
//! A set holds its documents and the root document that they were verified with: it is opened by the
//! same verification at each start, and a later root that retires a key does not stop what runs.

use crate::disk::{self, DiskError};
use crate::gate::Spent;
use coracle_digest::Sha256Digest;
use coracle_images::layout::ImageConfig;
use coracle_protocol::counters::Seen;
use coracle_protocol::deploy::Target;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::names::BoardId;
use coracle_protocol::release::{App, DefaultLimits, Release};
use coracle_protocol::root::TrustedRoot;
use coracle_protocol::time::TimeBound;
use coracle_protocol::verify::{Board, VerifiedDeploy, VerifiedDeployment, VerifiedRelease};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a set's file: three envelopes, and image configurations up to [`CONFIG_BYTES`].
const SET_BYTES: u64 = 16 << 20;

/// Bytes of all image configurations of a set together. Real ones have 2 to 10 KiB.
pub const CONFIG_BYTES: usize = 8 << 20;

/// Why the journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Not a set, or one whose documents no longer verify.
    #[error("{}: {fault}", path.display())]
    Damaged { path: PathBuf, fault: String },
}

/// A set as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredSet {
    /// Always 1.
    pub set_version: u32,
    /// Names its deployment in events.
    pub activity: String,
    /// The root that verified the other two.
    pub root: Envelope,
    /// The assignment.
    pub deploy: Envelope,
    /// The release.
    pub release: Envelope,
    /// Image configurations by digest, each as the text that has that digest.
    pub configs: BTreeMap<Sha256Digest, String>,
}

/// A set that was verified, and what its images say.
#[derive(Debug, Clone)]
pub struct DeployedSet {
    /// Names its deployment in events.
    pub activity: String,
    deployment: VerifiedDeployment,
    release: Arc<Release>,
    configs: BTreeMap<Sha256Digest, ImageConfig>,
}

/// An app of a set, which has what was signed of it: one that runs needs no copy.
#[derive(Debug, Clone)]
pub struct SetApp {
    release: Arc<Release>,
    at: usize,
}

impl Deref for SetApp {
    type Target = App;

    fn deref(&self) -> &App {
        &self.release.apps[self.at]
    }
}

impl DeployedSet {
    /// Puts a verified deployment and its image configurations together.
    ///
    /// # Errors
    /// In words: a configuration is missing, is not what the release says, or cannot be read.
    pub fn new(
        activity: String,
        deployment: VerifiedDeployment,
        texts: &BTreeMap<Sha256Digest, String>,
        defaults: &DefaultLimits,
    ) -> Result<Self, String> {
        let mut configs = BTreeMap::new();
        for app in &deployment.release().document().apps {
            let image = &app.image;
            let digest = image.config.digest;
            let text = texts
                .get(&digest)
                .ok_or_else(|| format!("app `{}`: its image configuration is missing", app.name))?;
            if Sha256Digest::of(text.as_bytes()) != digest {
                return Err(format!("image configuration {digest} has another digest"));
            }
            let config: ImageConfig = serde_json::from_slice(text.as_bytes())
                .map_err(|fault| format!("app `{}`: image configuration: {fault}", app.name))?;
            let layers = image.layers.iter().map(|layer| layer.diff_id);
            if !config.rootfs.diff_ids.iter().copied().eq(layers) {
                return Err(format!(
                    "app `{}`: the image configuration lists other layers than the release",
                    app.name
                ));
            }
            configs.insert(digest, config);
        }
        Ok(Self {
            activity,
            release: Arc::new(defaults.fill(deployment.applied())),
            deployment,
            configs,
        })
    }

    /// What was verified.
    pub fn deployment(&self) -> &VerifiedDeployment {
        &self.deployment
    }

    /// The same documents, held against what the board has seen by now: that is what is counted on.
    pub fn verified_anew(&mut self, deployment: VerifiedDeployment) {
        self.deployment = deployment;
    }

    /// What the set is called everywhere: the digest of its assignment.
    pub fn digest(&self) -> Sha256Digest {
        self.deployment.deploy().digest()
    }

    /// The release, with what the assignment sets, and the board's limits where it names none.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// Its apps, each with its image's configuration.
    pub fn apps(&self) -> impl Iterator<Item = (&App, &ImageConfig)> {
        self.release().apps.iter().filter_map(|app| {
            let config = self.configs.get(&app.image.config.digest)?;
            Some((app, config))
        })
    }

    /// The same, each with its set.
    pub fn apps_to_run(&self) -> impl Iterator<Item = (SetApp, &ImageConfig)> {
        let all = self.release.apps.iter().enumerate();
        all.filter_map(|(at, app)| {
            let release = self.release.clone();
            let config = self.configs.get(&app.image.config.digest)?;
            Some((SetApp { release, at }, config))
        })
    }

    /// The layers that it needs on disk.
    pub fn layers(&self) -> BTreeSet<Sha256Digest> {
        let mut layers = BTreeSet::new();
        layers.extend(self.release().layers().map(|layer| layer.diff_id));
        layers
    }
}

/// The last deployment that did not stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Digest of its assignment.
    pub deployment: Sha256Digest,
    /// Names it in events.
    pub activity: String,
    /// A stable word.
    pub code: String,
    /// In words.
    pub reason: String,
    /// A later one stayed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub over: bool,
}

impl Failure {
    /// For people.
    pub fn words(&self) -> String {
        format!(
            "{} did not stay ({}): {}",
            self.activity, self.code, self.reason
        )
    }
}

/// What the journal holds at start.
#[derive(Debug, Default)]
pub struct Found {
    /// The committed set.
    pub current: Option<DeployedSet>,
    /// The one before it.
    pub previous: Option<DeployedSet>,
    /// A set that was started and never kept.
    pub trial: Option<DeployedSet>,
    /// A set that waited for its time, and its documents.
    pub waiting: Option<(DeployedSet, StoredSet)>,
    /// There is a trial, readable or not.
    pub has_trial: bool,
    /// The last deployment that did not stay.
    pub failure: Option<Failure>,
}

/// The folder `deployments/`.
#[derive(Debug, Clone)]
pub struct Journal {
    folder: PathBuf,
    defaults: DefaultLimits,
}

impl Journal {
    /// Opens the folder, made when missing. `defaults`: of the board as it is now, for sets that were accepted before too.
    pub fn open(folder: &Path, defaults: DefaultLimits) -> Result<Self, JournalError> {
        disk::make_folder(folder, 0o700)?;
        Ok(Self {
            folder: folder.to_owned(),
            defaults,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// Whether a set was ever committed here; looked at before anything is read.
    pub fn has_current(&self) -> bool {
        self.path("current").exists()
    }

    /// Reads everything. What cannot be read is set aside and said; a damaged current set leaves the
    /// previous one.
    pub fn load(&self) -> Result<Found, JournalError> {
        let failure = disk::read_bounded(&self.path("failure"), 64 * 1024)?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(Found {
            has_trial: self.path("trial").exists(),
            current: self.load_or_set_aside("current"),
            previous: self.load_or_set_aside("previous"),
            trial: self.load_or_set_aside("trial"),
            waiting: self.load_waiting(),
            failure,
        })
    }

    /// A set that does not verify is set aside. One that cannot be read now is left: flash that gives
    /// an error today may give the file tomorrow.
    fn load_or_set_aside(&self, name: &str) -> Option<DeployedSet> {
        let fault = match self.load_set(name) {
            Ok(set) => return set,
            Err(fault) => fault,
        };
        tracing::error!(%fault, "a set cannot be read");
        if matches!(fault, JournalError::Damaged { .. })
            && let Err(fault) = disk::set_aside(&self.path(name))
        {
            tracing::error!(%fault, "and cannot be set aside");
        }
        None
    }

    fn load_set(&self, name: &str) -> Result<Option<DeployedSet>, JournalError> {
        let path = self.path(name);
        let Some(bytes) = disk::read_bounded(&path, SET_BYTES)? else {
            return Ok(None);
        };
        reopen(&bytes, &self.defaults)
            .map(Some)
            .map_err(|fault| JournalError::Damaged { path, fault })
    }

    fn load_waiting(&self) -> Option<(DeployedSet, StoredSet)> {
        let set = self.load_or_set_aside("waiting")?;
        let bytes = disk::read_bounded(&self.path("waiting"), SET_BYTES);
        let stored = serde_json::from_slice(&bytes.ok()??).ok()?;
        Some((set, stored))
    }

    /// Writes a set that waits for its time.
    pub fn park(&self, set: &StoredSet) -> Result<(), JournalError> {
        let json = serde_json::to_vec(set).unwrap_or_default();
        Ok(disk::write_whole(&self.path("waiting"), &json, 0o600)?)
    }

    /// The set that waits was accepted by somebody on the board.
    pub fn accept(&self, deployment: Sha256Digest) -> Result<(), JournalError> {
        let json = serde_json::to_vec(&deployment).unwrap_or_default();
        Ok(disk::write_whole(&self.path("accepted"), &json, 0o600)?)
    }

    /// Which one was. What cannot be read was none: somebody is asked once more.
    pub fn accepted(&self) -> Option<Sha256Digest> {
        let bytes = disk::read_bounded(&self.path("accepted"), 4096).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// How long the set that waits has waited.
    pub fn note_spent(&self, spent: &Spent) -> Result<(), JournalError> {
        let json = serde_json::to_vec(spent).unwrap_or_default();
        Ok(disk::write_whole(&self.path("waited"), &json, 0o600)?)
    }

    /// As it was noted last. What cannot be read is set aside: the wait begins anew.
    pub fn spent(&self) -> Option<Spent> {
        let path = self.path("waited");
        let bytes = disk::read_bounded(&path, 4096).transpose()?;
        let spent = bytes.map_err(|error| error.to_string());
        let spent =
            spent.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string()));
        spent
            .inspect_err(|error| {
                tracing::error!(error, "how long a set has waited is lost");
                let _ = disk::set_aside(&path);
            })
            .ok()
    }

    /// None waits any more, and no word about one counts.
    pub fn unpark(&self) -> Result<(), JournalError> {
        disk::remove(&self.path("waited"))?;
        disk::remove(&self.path("accepted"))?;
        Ok(disk::remove(&self.path("waiting"))?)
    }

    /// Writes the set that is about to be tried.
    pub fn record(&self, set: &StoredSet) -> Result<(), JournalError> {
        let json = serde_json::to_vec(set).unwrap_or_default();
        Ok(disk::write_whole(&self.path("trial"), &json, 0o600)?)
    }

    /// The trial becomes current. The rename of `trial.json` is the instant at which the board has
    /// the new set; before it, previous may already equal current, which harms nothing.
    pub fn keep(&self) -> Result<(), JournalError> {
        let current = self.path("current");
        if let Some(old) = disk::read_bounded(&current, SET_BYTES)? {
            disk::write_whole(&self.path("previous"), &old, 0o600)?;
        }
        match disk::rename(&self.path("trial"), &current) {
            // Renamed, and only its being final is in doubt: the new set is what a restart would find.
            Err(error) if !self.path("trial").exists() => {
                tracing::error!(%error, "the committed set may not survive a power cut yet");
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// There is no trial any more; `failure` says what became of it.
    pub fn forget(&self, failure: Option<&Failure>) -> Result<(), JournalError> {
        let noted = failure.map_or(Ok(()), |failure| self.note(failure));
        // Where there is no room for a word, it goes all the same.
        disk::remove(&self.path("trial"))?;
        noted
    }

    /// Writes down what is known of the last deployment that did not stay.
    pub fn note(&self, failure: &Failure) -> Result<(), JournalError> {
        let json = serde_json::to_vec(failure).unwrap_or_default();
        Ok(disk::write_whole(&self.path("failure"), &json, 0o600)?)
    }
}

/// Verifies a stored set once more, with its own root and for the board and the hardware that it
/// names: who and what this board is was decided when the set was accepted, and so were the counters.
fn reopen(bytes: &[u8], defaults: &DefaultLimits) -> Result<DeployedSet, String> {
    let stored: StoredSet = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if stored.set_version != 1 {
        return Err(format!(
            "set_version {} is not known; this program reads 1",
            stored.set_version
        ));
    }
    let root = TrustedRoot::from_image(&stored.root).map_err(|e| e.to_string())?;
    let release = VerifiedRelease::open(&stored.release, &root).map_err(|e| e.to_string())?;
    let deploy = VerifiedDeploy::open(&stored.deploy, &root).map_err(|e| e.to_string())?;
    let digest = deploy.digest();
    let any = BoardId::new("any.board").map_err(|e| e.to_string())?;
    let supported = &release.document().hardware;
    let (id, hardware) = match &deploy.document().target {
        Target::Boards(boards) => (boards.first(), supported.first()),
        Target::Hardware(classes) => (None, classes.intersection(supported).next()),
    };
    let id = id.unwrap_or(&any).clone();
    let hardware = hardware.ok_or("it is for no hardware")?.clone();
    let board = Board {
        id: &id,
        hardware: &hardware,
        seen: &Seen::default(),
        built_at: TimeBound::default(),
    };
    let deployment =
        VerifiedDeployment::accept(release, deploy, board, &[digest]).map_err(|e| e.to_string())?;
    DeployedSet::new(stored.activity, deployment, &stored.configs, defaults)
}

#[cfg(test)]
mod tests;
