//! Daemon ↔ supervisor, over `supervisor.sock` (a stream socket).
//!
//! A frame is a 4-byte big-endian length (at most `LIMITS.local_frame_bytes`) and that much JSON.
//! The daemon sends [`Call`]s; the supervisor answers each with one [`Reply`] of the same `id`, in
//! any order, and sends [`Event`]s to a connection that asked to [`Request::Watch`].
//!
//! Each kind of request, answer and event is the name of its only member: what follows a name is read as it comes, where a name
//! among the values of one object would have all of it kept until it is found.

mod store;

pub use store::{FileFault, StoreAction, StoreCheck, StoreFault, StoreKind, StoreState};

use crate::command::Command;
use crate::dsse::Envelope;
use crate::names::{AppName, BoardId, VolumeName};
use crate::release::Blob;
use crate::report::{
    BoardFacts, DiskUse, HeatStatus, NetworkStatus, OwnProgram, Phase, SetStatus, StorageWear,
};
use crate::trust_state::TrustState;
use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};

/// A request and its number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Chosen by the caller.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What the daemon may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Everything that runs. Answer: [`Answer::Status`].
    Status,
    /// Which program a daemon is to be. Only for a supervisor that says in [`Status::program`] which one it is itself: one that
    /// does not know the question hangs up. Answer: [`Answer::Program`].
    Program {
        /// What the daemon was executed as; `None`: the root file system's.
        running: Option<Sha256Digest>,
    },
    /// From now on, [`Event`]s come. Answer: [`Answer::Done`].
    Watch,
    /// Who this board is, by its certificate: assignments are held against it. A board that has
    /// another name already refuses. Answer: [`Answer::Done`] or [`Answer::Refused`].
    Identity {
        /// Common name of the certificate.
        board: BoardId,
    },
    /// What the board trusts. Answer: [`Answer::Trust`].
    Trust,
    /// The next root document: the supervisor verifies it by the one in force and keeps it. One that
    /// it has already changes nothing. Answer: [`Answer::Done`] or [`Answer::Refused`].
    Root {
        /// The document.
        root: Envelope,
    },
    /// Two documents; the supervisor verifies them itself, checks the budget and says what is
    /// missing. Nothing is changed. Answer: [`Answer::Needs`] or [`Answer::Refused`].
    Offer {
        /// Names it in every event.
        #[serde(deserialize_with = "crate::strict::activity")]
        activity: String,
        /// The assignment.
        deploy: Envelope,
        /// The release.
        release: Envelope,
    },
    /// Unpack one layer of the accepted offer from a blob in the daemon's store. Answers when the
    /// layer is there: [`Answer::Done`], or [`Answer::Failed`] with code `diff-id-mismatch`,
    /// `bad-delta`, `bad-layer`, `no-blob`, `no-space`.
    Stage {
        /// Of the offer.
        #[serde(deserialize_with = "crate::strict::activity")]
        activity: String,
        /// Which layer.
        diff_id: Sha256Digest,
        /// From what.
        from: LayerSource,
    },
    /// Everything is staged: persist the counters, stop the old set, start the new one and open its
    /// trial. Answer: [`Answer::Done`] once it is under way; the rest comes as events.
    Activate {
        /// Of the offer.
        #[serde(deserialize_with = "crate::strict::activity")]
        activity: String,
    },
    /// The set that waits may run, for whoever is responsible on the board. Answer: [`Answer::Done`], or
    /// [`Answer::Failed`] with code `not-waiting`.
    Accept {
        /// Digest of its assignment: what was seen, and no other that came meanwhile.
        deployment: Sha256Digest,
        /// Who asked, by the daemon's SO_PEERCRED; for the audit line.
        uid: u32,
    },
    /// Stop, start or restart one app of the running set. Answer: [`Answer::Done`].
    Control {
        /// Which app.
        app: AppName,
        /// What to do.
        action: AppAction,
        /// Who asked, by the daemon's SO_PEERCRED; for the audit line.
        uid: u32,
    },
    /// A signed command. The supervisor verifies it, remembers its counter and does what only it can. Answer:
    /// [`Answer::Command`], once it has ended [`Answer::Ran`], [`Answer::Refused`], or [`Answer::Failed`] with code `busy`,
    /// `no-app`, `no-action`, `not-running`, `not-started`.
    Command {
        /// The document.
        command: Envelope,
    },
    /// A factory reset, or with `decommission` more than that. From root on the board alone: the supervisor looks at the connection's
    /// SO_PEERCRED, and the daemon is not believed. Answer: [`Answer::Done`] once it is noted on the disk.
    Reset {
        /// Key, certificate and name go too.
        decommission: bool,
        /// Volumes go too.
        volumes: bool,
    },
    /// A person has enrolled this board: one that was decommissioned may be named again. Answer: [`Answer::Done`].
    Enrolled,
    /// What becomes of a stick, for the board's lights and for nothing else. Answer: [`Answer::Done`].
    Stick {
        /// What.
        word: StickWord,
    },
    /// Looks at volumes or changes them. Answer: [`Answer::Volumes`], [`Answer::Transfer`], or [`Answer::Failed`] with code
    /// `no-volume`, `volume-exists`, `volume-in-use`, `not-owner`, `no-space`, `too-many`, `busy`.
    Volume {
        /// What to do.
        action: VolumeAction,
        /// Who asked, by the daemon's SO_PEERCRED: a volume that a person made is that person's, and root's.
        uid: u32,
    },
    /// Reads all that the board keeps of layers and blobs again, and mends it. Answer: [`Answer::Done`], [`Answer::Store`], or
    /// [`Answer::Failed`] with code `busy`; to [`StoreAction::Mend`] also those of [`Request::Stage`].
    Store {
        /// What to do.
        action: StoreAction,
    },
}

/// What becomes of a stick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StickWord {
    /// It is being read.
    Reading,
    /// What it brought runs.
    Done,
    /// It was not taken, or what it brought did not stay.
    Refused,
}

/// What may be done with volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum VolumeAction {
    /// All of them.
    List,
    /// Make one; the answer has it alone.
    Create {
        /// Its name.
        name: VolumeName,
        /// At most so many bytes; the board's own limit when left out.
        #[serde(default)]
        size_bytes: Option<u64>,
        /// At most so many files and folders.
        #[serde(default)]
        inodes: Option<u64>,
    },
    /// Delete one that no set has; the answer has it alone, as it was.
    Remove {
        /// Its name.
        name: VolumeName,
    },
    /// Delete the caller's volumes that no set has, all of them for root; the answer has those that went.
    Prune,
    /// A tar of what is in it. Answer: [`Answer::Transfer`].
    Backup {
        /// Its name.
        name: VolumeName,
    },
    /// What is in it becomes what is in a tar; whole, or not at all. Answer: [`Answer::Transfer`].
    Restore {
        /// Its name.
        name: VolumeName,
    },
}

/// What a layer is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerSource {
    /// The full blob of the release.
    Full,
    /// A delta blob that the assignment names.
    Delta(Sha256Digest),
}

/// What may be done to one app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppAction {
    /// Stop; it stays so until started, or until the next set.
    Stop,
    /// Start.
    Start,
    /// Stop and start.
    Restart,
}

/// What the supervisor sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant)]
pub enum Message {
    /// The answer to a [`Call`].
    Reply(Reply),
    /// Something happened.
    Event(Event),
}

/// An answer and the number of its call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Of the call.
    pub id: u64,
    /// The answer.
    pub answer: Answer,
}

/// Code of [`Answer::Refused`] to an offer of the very assignment that was tried last and did not stay: the end of that
/// deployment, for a daemon that was not there to hear it.
pub const DID_NOT_STAY: &str = "rolled-back";

/// Answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant)]
pub enum Answer {
    /// It is done.
    Done,
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Program`].
    Program {
        /// Name of a file in the folder of the agent's own programs, and SHA-256 of what is in it; `None`: the root file system's.
        program: Option<Sha256Digest>,
    },
    /// To [`Request::Trust`].
    Trust(Trusted),
    /// To [`Request::Offer`].
    Needs(Needs),
    /// To [`Request::Command`]: it was verified and counted, and what the supervisor does of it is under way. What a log says
    /// the daemon reads by itself.
    Command {
        /// The document.
        command: Command,
    },
    /// To [`Request::Command`] of an action: its program has ended.
    Ran {
        /// The document.
        command: Command,
        /// Why it counts as not done, in words: `exited with 3`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<String>,
        /// The end of what it wrote.
        output: String,
    },
    /// To [`Request::Volume`].
    Volumes {
        /// By name.
        volumes: Vec<VolumeStatus>,
    },
    /// A socket in the run folder that takes one connection, within ten seconds. Of a backup a tar comes; one without
    /// its two blocks of zeros at the end is not whole. Of a restore a tar goes up to the end of the
    /// stream, then one [`Verdict`] comes back as JSON.
    Transfer {
        /// Its path.
        socket: String,
    },
    /// To [`StoreAction::Look`].
    Store(StoreCheck),
    /// Not accepted: by trust or by budget.
    Refused {
        /// A stable word.
        code: String,
        /// In words.
        reason: String,
    },
    /// Accepted, but it could not be done.
    Failed {
        /// A stable word.
        code: String,
        /// In words.
        reason: String,
    },
}

/// What the board trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    /// The root document in force.
    pub root: Envelope,
    /// The rest.
    pub state: TrustState,
}

/// Everything that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the supervisor.
    pub version: String,
    /// Which program it is; left out by one that does not know [`Request::Program`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<OwnProgram>,
    /// What the board is.
    pub board: BoardFacts,
    /// The running set.
    pub current: Option<SetStatus>,
    /// The set that a roll-back would return to: assignment digest and version text.
    pub previous: Option<(Sha256Digest, String)>,
    /// The last deployment that was refused, failed or rolled back, in words.
    pub last_failure: Option<String>,
    /// A staged set that waits for its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Layers on the board.
    pub layers: Vec<Sha256Digest>,
    /// What the board trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustState>,
    /// How hot it is, where the profile has a policy and the kernel a zone of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heat: Option<HeatStatus>,
    /// What was written to its disks, where the profile has a budget of that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage: Vec<StorageWear>,
    /// Links of the board whose bytes cost money.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metered: Vec<String>,
    /// Networks on the board, its own first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkStatus>,
    /// It is no fleet's board any more, until somebody enrols it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub decommissioned: bool,
    /// A reset is noted and not done yet: whatever the board gets now may go with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resetting: bool,
}

/// Code of [`Waiting`] once the old set is being stopped for it: it cannot be taken back any more.
pub const SWITCHING: &str = "switching";

/// A staged set that waits for its time, or for the old set's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Names it in events.
    pub activity: String,
    /// Digest of its assignment.
    pub deployment: Sha256Digest,
    /// Its release's version text.
    pub version: String,
    /// A stable word for the first of what it waits for: `consent`, `window`, `restore`, `update-lock`; or
    /// [`SWITCHING`].
    pub code: String,
    /// All of it, in words.
    pub reason: String,
}

/// A volume on the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Its name.
    pub name: VolumeName,
    /// The user who made it; `None`: a release did.
    pub owner: Option<u32>,
    /// Unix seconds.
    pub created_at: u64,
    /// What is in it, and what may be.
    pub used: DiskUse,
    /// What holds the limit: `project quota`, `image`; `None`: nothing does.
    pub means: Option<String>,
    /// Bytes of the board's disk that are taken for it, whatever is in it.
    pub held_bytes: u64,
    /// Where it is on the board, for root.
    pub path: String,
    /// Apps of the running set that have it.
    pub apps: Vec<AppName>,
    /// The set before it has it too, or alone.
    pub in_previous: bool,
}

/// How a restore ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The volume holds what was in the tar.
    Done,
    /// The volume is as it was.
    Failed {
        /// A stable word.
        code: String,
        /// In words.
        reason: String,
    },
}

/// What an accepted offer needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Already running exactly this: nothing to do.
    pub already: bool,
    /// Image configurations, as blobs in the daemon's store.
    pub configs: Vec<Blob>,
    /// Layers that are not on the board.
    pub layers: Vec<LayerNeed>,
}

/// A layer that is not on the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerNeed {
    /// The layer.
    pub diff_id: Sha256Digest,
    /// The full blob.
    pub full: Blob,
    /// Deltas whose base is on the board and whose format it reads, the smallest first.
    pub deltas: Vec<Blob>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A deployment went on.
    Deployment {
        /// Which.
        activity: String,
        /// Where it is.
        phase: Phase,
        /// A stable word.
        code: Option<String>,
        /// In words.
        reason: Option<String>,
    },
    /// The root document changed; ask for the status.
    Root {
        /// Its version.
        version: u64,
    },
    /// An app changed state; ask for the status.
    AppChanged {
        /// Which.
        app: AppName,
        /// In words: "started", "exited with 1", "unhealthy: …".
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a name with what it is for, and never as a name among other values: the board would read each value twice, with
    /// code for both, a fiftieth of the program that ships.
    #[test]
    fn a_kind_is_the_name_of_the_only_member() {
        let call = Call {
            id: 7,
            request: Request::Status,
        };
        let reply = Message::Reply(Reply {
            id: 7,
            answer: Answer::Failed {
                code: "no-space".to_owned(),
                reason: "full".to_owned(),
            },
        });
        let event = Message::Event(Event::Root { version: 3 });
        let call = serde_json::to_string(&call).unwrap();
        assert_eq!(call, r#"{"id":7,"request":"status"}"#);
        let event = serde_json::to_string(&event).unwrap();
        assert_eq!(event, r#"{"event":{"root":{"version":3}}}"#);
        let json = serde_json::to_string(&reply).unwrap();
        assert_eq!(
            json,
            r#"{"reply":{"id":7,"answer":{"failed":{"code":"no-space","reason":"full"}}}}"#
        );
        assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), reply);
    }
}
