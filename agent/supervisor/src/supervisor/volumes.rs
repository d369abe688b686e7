//! What the daemon asks about volumes, and who may.
//!
//! Everybody whom the daemon lets in may look. A person may make volumes where `[local] allow` is not `none`; a volume that a
//! person made is that person's and root's, one that a release made is root's. What the running set or the one before it has
//! is never deleted, and never filled anew while an app that has it is up.

use super::Supervisor;
use crate::apps::plan::{default_limit, limit_of};
use crate::apps::{AppRun, Phase};
use crate::journal::DeployedSet;
use crate::volumes::{Direction, Record, VolumeError, Volumes};
use coracle_board_support::config::LocalPolicy;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::local::{Answer, VolumeAction, VolumeStatus};
use coracle_protocol::names::{AppName, VolumeName};
use coracle_protocol::release::App;
use coracle_protocol::report;
use coracle_runtime::DiskUse;

/// Code and words.
pub(super) type Fault = (&'static str, String);

impl From<VolumeError> for FaultOf {
    fn from(error: VolumeError) -> Self {
        let code = match error {
            VolumeError::TooMany => "too-many",
            ref other if other.is_no_space() => "no-space",
            _ => "volume",
        };
        FaultOf((code, error.to_string()))
    }
}

/// [`Fault`], for `?`.
pub(super) struct FaultOf(pub(super) Fault);

impl From<Fault> for FaultOf {
    fn from(fault: Fault) -> Self {
        FaultOf(fault)
    }
}

type Outcome<T> = Result<T, FaultOf>;

impl Supervisor {
    /// Answers all but transfers, which take their time.
    pub(super) fn volume(&mut self, action: &VolumeAction, uid: u32) -> Answer {
        if *action != VolumeAction::List {
            tracing::info!(?action, uid, "a person asks");
        }
        let volumes = match action {
            VolumeAction::List => Ok(self.volume_list()),
            VolumeAction::Create {
                name,
                size_bytes,
                inodes,
            } => self.create_volume(name, *size_bytes, *inodes, uid),
            VolumeAction::Remove { name } => self.remove_volume(name, uid),
            VolumeAction::Prune => self.prune_volumes(uid),
            VolumeAction::Backup { name } => {
                return answer(self.begin_transfer(Direction::Backup, name, uid));
            }
            VolumeAction::Restore { name } => {
                return answer(self.begin_transfer(Direction::Restore, name, uid));
            }
        };
        answer(volumes.map(|volumes| Answer::Volumes { volumes }))
    }

    fn volume_list(&self) -> Vec<VolumeStatus> {
        let names = Volumes::of(&self.settings).names();
        names.iter().map(|name| self.volume_status(name)).collect()
    }

    fn volume_status(&self, name: &VolumeName) -> VolumeStatus {
        let volumes = Volumes::of(&self.settings);
        let record = volumes.record(name);
        let usage = volumes.usage(name).unwrap_or_else(|error| {
            tracing::warn!(volume = %name, %error, "its use is not known");
            DiskUse {
                bytes: 0,
                inodes: 0,
                limit: None,
            }
        });
        let means = volumes.place(name).means().ok().flatten();
        VolumeStatus {
            owner: record.owner,
            created_at: record.created_at,
            used: disk_use(usage),
            means: means.map(|means| means.name().to_owned()),
            held_bytes: volumes.held_bytes(name),
            path: volumes.data(name).to_string_lossy().into_owned(),
            apps: self.apps_with(name).map(|app| app.name().clone()).collect(),
            in_previous: self.previous.as_ref().is_some_and(|set| set_has(set, name)),
            name: name.clone(),
        }
    }

    fn apps_with(&self, name: &VolumeName) -> impl Iterator<Item = &AppRun> {
        self.apps.iter().filter(move |run| app_has(&run.app, name))
    }

    /// A set that runs, may come back, is tried or was accepted has it.
    fn is_needed(&self, name: &VolumeName) -> bool {
        let trying = self.trying.as_ref().map(|trying| &trying.set);
        let sets = [self.current.as_ref(), self.previous.as_ref(), trying];
        let accepted = self.accepted.iter().flat_map(|a| &a.release().apps);
        sets.into_iter().flatten().any(|set| set_has(set, name))
            || accepted.into_iter().any(|app| app_has(app, name))
    }

    fn create_volume(
        &mut self,
        name: &VolumeName,
        size_bytes: Option<u64>,
        inodes: Option<u64>,
        uid: u32,
    ) -> Outcome<Vec<VolumeStatus>> {
        self.may_change(uid)?;
        if self.is_needed(name) {
            let text = format!("`{name}` is a volume of a release, which makes it itself");
            return Err(("volume-in-use", text).into());
        }
        self.settings.try_now();
        let volumes = Volumes::of(&self.settings);
        if volumes.exists(name) {
            return Err((
                "volume-exists",
                format!("there is a volume `{name}` already"),
            )
                .into());
        }
        let limit = match (size_bytes, inodes) {
            (Some(bytes), inodes) => limit_of(bytes, inodes),
            (None, None) => default_limit(&self.settings),
            (None, Some(_)) => {
                let text = "inodes need a size beside them".to_owned();
                return Err(("bad-size", text).into());
            }
        };
        let allowed = LIMITS.least_size_bytes..=LIMITS.size_bytes;
        let inodes = LIMITS.least_inodes..=(limit.bytes / 4096).max(256);
        if !allowed.contains(&limit.bytes) || !inodes.contains(&limit.inodes) {
            let text = format!(
                "a size of {} bytes and {} inodes is not between {} and {} bytes, and {} and {} inodes",
                limit.bytes,
                limit.inodes,
                allowed.start(),
                allowed.end(),
                inodes.start(),
                inodes.end()
            );
            return Err(("bad-size", text).into());
        }
        let limiter = &self.settings.limiter;
        if size_bytes.is_some() && limiter.means.is_none() && limiter.not_now().is_none() {
            let text = format!("this board cannot keep a size: {}", limiter.why_none);
            return Err(("kernel-lacks", text).into());
        }
        self.fits(volumes.cost(limit))?;
        volumes.create(name, limit, Record::now(Some(uid)), (uid, uid))?;
        Ok(vec![self.volume_status(name)])
    }

    /// What a person takes comes out of what the running set leaves.
    pub(super) fn fits(&self, cost: u64) -> Outcome<()> {
        let volumes = Volumes::of(&self.settings);
        let apps = self.current.as_ref().map_or(0, |set| {
            crate::offer::disk_of_apps(set.release(), &self.settings)
        });
        let held: u64 = volumes
            .names()
            .iter()
            .filter(|name| !self.current.as_ref().is_some_and(|set| set_has(set, name)))
            .map(|name| volumes.held_bytes(name))
            .chain([volumes.copies_held()])
            .sum();
        let programs = crate::agent::held_bytes(&self.settings.config.agent_dir(), None);
        let budget = self.settings.budget.disk_bytes;
        let taken = [apps, held, programs]
            .into_iter()
            .fold(0, u64::saturating_add);
        let left = budget.saturating_sub(taken);
        if cost > left {
            let text = format!(
                "the volume takes {cost} bytes of the disk, and {left} are left: of {budget} for apps the running set has {apps}, other volumes {held}, the board's own programs {programs}"
            );
            return Err(("no-space", text).into());
        }
        Ok(())
    }

    /// What the board's file says of people other than root: also of starting and stopping apps.
    pub(super) fn may_change(&self, uid: u32) -> Outcome<()> {
        if uid != 0 && self.settings.config.local_allow == LocalPolicy::None {
            let text = "[local] allow of coracle.toml is \"none\"".to_owned();
            return Err(("not-allowed", text).into());
        }
        Ok(())
    }

    /// The caller may do anything with this volume.
    pub(super) fn is_owner(&self, name: &VolumeName, uid: u32) -> Outcome<()> {
        self.may_change(uid)?;
        let volumes = Volumes::of(&self.settings);
        if !volumes.exists(name) {
            return Err(("no-volume", format!("there is no volume `{name}`")).into());
        }
        match volumes.record(name).owner {
            _ if uid == 0 => Ok(()),
            Some(owner) if owner == uid => Ok(()),
            Some(owner) => {
                let text = format!("volume `{name}` belongs to user {owner}");
                Err(("not-owner", text).into())
            }
            None => {
                let text = format!("volume `{name}` belongs to a release, and so to root");
                Err(("not-owner", text).into())
            }
        }
    }

    fn remove_volume(&mut self, name: &VolumeName, uid: u32) -> Outcome<Vec<VolumeStatus>> {
        self.is_owner(name, uid)?;
        if self.is_needed(name) {
            let text = format!(
                "volume `{name}` is in the running set, the one before it, or one that is coming"
            );
            return Err(("volume-in-use", text).into());
        }
        self.not_transferred(name)?;
        let was = self.volume_status(name);
        Volumes::of(&self.settings).remove(name)?;
        self.sweep();
        Ok(vec![was])
    }

    fn prune_volumes(&mut self, uid: u32) -> Outcome<Vec<VolumeStatus>> {
        self.may_change(uid)?;
        let mut gone = Vec::new();
        for name in Volumes::of(&self.settings).names() {
            let free = !self.is_needed(&name)
                && self.is_owner(&name, uid).is_ok()
                && self.not_transferred(&name).is_ok();
            if free {
                gone.extend(self.remove_volume(&name, uid)?);
            }
        }
        Ok(gone)
    }

    /// Every app that has it is down, and stays so.
    pub(super) fn is_at_rest(&self, name: &VolumeName) -> Outcome<()> {
        if !self.machine.is_settled() {
            let text = "a deployment is under way".to_owned();
            return Err(("busy", text).into());
        }
        let up: Vec<&str> = self
            .apps_with(name)
            .filter(|app| app.phase != Phase::Ended)
            .map(|app| app.name().as_str())
            .collect();
        if up.is_empty() {
            return Ok(());
        }
        let text = format!(
            "volume `{name}` is in use: stop {} first (`coracle stop`)",
            up.join(", ")
        );
        Err(("volume-in-use", text).into())
    }

    /// Whether an app may not start now.
    pub(super) fn is_being_restored(&self, app: &AppName) -> bool {
        let run = self.apps.iter().find(|run| run.name() == app);
        run.is_some_and(|run| {
            let restored = self.transfer.as_ref().and_then(|job| job.restored());
            restored.is_some_and(|name| app_has(&run.app, name))
        })
    }
}

fn answer(outcome: Outcome<Answer>) -> Answer {
    outcome.unwrap_or_else(|FaultOf((code, reason))| {
        tracing::warn!(code, reason, "not done");
        super::requests::failed(code, reason)
    })
}

fn app_has(app: &App, name: &VolumeName) -> bool {
    app.volumes.iter().any(|volume| volume.name == *name)
}

fn set_has(set: &DeployedSet, name: &VolumeName) -> bool {
    set.release().apps.iter().any(|app| app_has(app, name))
}

/// As it travels.
pub(super) fn disk_use(usage: DiskUse) -> report::DiskUse {
    report::DiskUse {
        bytes: usage.bytes,
        inodes: usage.inodes,
        limit_bytes: usage.limit.map(|limit| limit.bytes),
        limit_inodes: usage.limit.map(|limit| limit.inodes),
    }
}
