//! What the daemon may ask.

#[cfg(doc)]
use super::{Answer, Event, Status, Stream};
use super::{Exec, StoreAction, VolumeAction};
use crate::dsse::Envelope;
use crate::names::{AppName, BoardId};
use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};

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
    /// missing. Nothing that runs is changed. Another set that waits goes; a newer assignment of just what runs is counted, and is
    /// `already`. Answer: [`Answer::Needs`], [`Answer::Refused`], or [`Answer::Failed`] with code `disk`.
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
    /// Do something to one app of the running set. Answer: [`Answer::Done`], or [`Answer::Failed`] with code `no-app`, `busy`,
    /// `not-running`, `paused`, `not-paused`, `no-freezer`.
    Control {
        /// Which app.
        app: AppName,
        /// What to do.
        action: AppAction,
        /// Who asked, by the daemon's SO_PEERCRED; for the audit line.
        uid: u32,
    },
    /// Send a signal to the first process of one app of the running set. SIGKILL takes all of it, and it stays down as after
    /// [`AppAction::Stop`]; so it does after the signal by which it is stopped, once it ends of it. Answer: [`Answer::Done`], or
    /// [`Answer::Failed`] with code `bad-signal`, `no-app`, `not-running`, `busy`.
    Signal {
        /// Which app.
        app: AppName,
        /// `SIGHUP`, `hup`, `1` or `RTMIN+3`.
        signal: String,
        /// Who asked, by the daemon's SO_PEERCRED; for the audit line.
        uid: u32,
    },
    /// Which processes one app of the running set has. Answer: [`Answer::Processes`], or [`Answer::Failed`] with code `no-app`,
    /// `not-running`, `busy`.
    Processes {
        /// Which app.
        app: AppName,
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
    /// Runs one more program in a running app, with no more rights and within the same limits; both end together. From root alone:
    /// by the connection's SO_PEERCRED, or by the daemon's word where `[local] allow` is `owner`. Answer: [`Answer::Transfer`],
    /// over which [`Stream`] goes, or [`Answer::Failed`] with code `no-app`, `not-running`, `bad-exec`, `too-many`, `not-started`.
    Exec {
        /// What.
        exec: Exec,
        /// Who asked, by the daemon's SO_PEERCRED; the caller's own when that is not the daemon.
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
    /// Let no process of it run, until it is resumed, stopped or replaced.
    Pause,
    /// Let them go on.
    Resume,
}
