//! What a set's apps are to be, worked out: when it becomes the active one, and before, so that nothing is stopped for one
//! that cannot be started.

use super::Supervisor;
use crate::apps::plan::{self, Plan};
use crate::apps::{AppRun, slot, whole};
use crate::journal::DeployedSet;
use crate::offer::{self, Refused};
use coracle_images::layout::ImageConfig;
use coracle_protocol::release::{App, Condition};
use std::collections::BTreeSet;

impl Supervisor {
    /// The apps of `set`, none of them started, become the active ones.
    pub(super) fn make_apps(&mut self, set: Option<&DeployedSet>) {
        self.device_watch.look_soon();
        self.active = set.map(DeployedSet::digest);
        self.apps = set
            .into_iter()
            .flat_map(|set| set.apps_to_run().map(move |app| (set, app)))
            .map(|(set, (app, image))| {
                let plan = self.plan(set, &app, image);
                let mut run = AppRun::new(app, plan);
                let container = set.digest().hex();
                run.take_slot(slot::of(&self.settings.config, run.name(), &container));
                run
            })
            .collect();
        self.give_cpus();
        let awaited = self.apps.iter().flat_map(|run| run.app.depends_on.iter());
        let awaited = awaited.filter(|(_, condition)| **condition == Condition::Completed);
        let names = awaited.map(|(name, _)| name.clone());
        let mut awaited = BTreeSet::new();
        awaited.extend(names);
        for run in &mut self.apps {
            run.awaited = awaited.contains(run.name());
        }
        self.order = self.work_out_order();
    }

    /// Of all apps that do not run, once it is known whose users they can have.
    pub(super) fn plan_anew(&mut self) {
        let trying = self.trying.as_ref().map(|trying| &trying.set);
        let active = |set: &&DeployedSet| Some(set.digest()) == self.active;
        let current = self.current.as_ref().filter(active);
        let Some(set) = current.or(trying.filter(active)) else {
            return;
        };
        let plans = set.apps_to_run().map(|(app, image)| {
            let plan = self.plan(set, &app, image);
            (app.name.clone(), plan)
        });
        let plans: Vec<_> = plans.collect();
        for (name, plan) in plans {
            let mut apps = self.apps.iter_mut();
            if let Some(run) = apps.find(|run| run.app.name == name && run.process.is_none()) {
                run.plan = plan;
            }
        }
        self.give_cpus();
    }

    /// Of this app alone. In a set that is active already, one whose secret does not open holds up no other; a new set is
    /// refused for it by [`Self::check_plans`].
    pub(super) fn plan(
        &self,
        set: &DeployedSet,
        app: &App,
        image: &ImageConfig,
    ) -> Result<Plan, String> {
        let plan = plan::plan(app, set.release(), image, &self.settings);
        let plan = plan.map_err(|error| whole(&error))?;
        let secrets = self.trust.secrets_of(&app.name, set.deployment());
        let secrets = secrets.map_err(|error| error.to_string())?;
        Ok(plan.with_secrets(&secrets))
    }

    /// The committed set, at start: the board's profile may be another than when it was taken. It runs on all the same, each app
    /// within its own limits: a board that keeps what it has can still be reached, and be given what fits.
    pub(super) fn hold_against_budget(&mut self) {
        let Some(set) = &self.current else { return };
        if let Err(why) = offer::fits(set, None, &self.settings) {
            let (version, reason) = (&set.release().version, why.reason);
            tracing::warn!(
                version,
                reason,
                "the set that runs does not fit this board any more, and runs on"
            );
            self.over_budget = Some(reason);
        }
    }

    /// Whether each app of a set whose layers are here can be started as far as anybody can say before.
    pub(super) fn check_plans(&self, set: &DeployedSet) -> Result<(), Refused> {
        let fault = |(app, image): (&App, &ImageConfig)| {
            let fault = self.plan(set, app, image).err()?;
            Some(format!("app `{}` cannot be started: {fault}", app.name))
        };
        let faults: Vec<String> = set.apps().filter_map(fault).collect();
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Refused::new("start-failed", faults.join("\n"))),
        }
    }
}
