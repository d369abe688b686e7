//! What holds limits of the disk on the state folder's file system: found by trying.

use crate::apps::layer;
use crate::volumes::Volumes;
use coracle_board_support::config::Config;
use coracle_runtime::Means;
use coracle_runtime::disk::{PlaceError, Trial};

/// What the last try has shown.
#[derive(Debug)]
pub struct Limiter {
    /// What holds them; None: nothing does, or nothing is known yet.
    pub means: Option<Means>,
    /// Why nothing does, in words.
    pub why_none: String,
    /// The disk was full, which says nothing of what it can hold.
    is_open: bool,
}

impl Limiter {
    /// Tries. The containers' folder is root's alone, and lies where layers and volumes do.
    pub fn find(config: &Config) -> Self {
        let trial = Trial::run(&config.containers_dir());
        let why = |outcome: &Result<(), PlaceError>| match outcome {
            Ok(()) => String::new(),
            Err(why) => why.to_string(),
        };
        let no_quota = why(&trial.quota);
        let is_open = trial.met_a_full_disk();
        let means = match is_open {
            true => in_use(
                config,
                trial.quota.as_ref().is_err_and(|why| !why.is_no_space()),
            ),
            false => trial.best(),
        };
        let mut why_none = String::new();
        if let Some(means) = means {
            tracing::info!(means = means.name(), no_quota, "limits of the disk");
        } else {
            let no_image = trial.image.as_ref().map(why);
            let no_image = no_image.map_or(String::new(), |why| format!("; image: {why}"));
            why_none = format!("project quota: {no_quota}{no_image}");
            let why = why_none.as_str();
            match is_open {
                true => tracing::warn!(
                    why,
                    "the disk is full: what limits what apps write is tried again when it is needed"
                ),
                false => tracing::warn!(
                    why,
                    "nothing limits what apps write; releases that ask for limits of the disk are refused"
                ),
            }
        }
        Self {
            means,
            why_none,
            is_open,
        }
    }

    /// The disk was full.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Tries once more, for whoever asks for limits. What was seen to hold none is not in doubt because the disk is full now.
    pub fn look_again(&mut self, config: &Config) {
        let found = Self::find(config);
        if self.is_open || !found.is_open {
            *self = found;
        }
    }

    /// Why it cannot be told for now what a limit could be held by: then nothing that has one is to be made.
    pub fn not_now(&self) -> Option<&str> {
        let is_unknown = self.is_open && self.means.is_none();
        is_unknown.then_some(self.why_none.as_str())
    }
}

/// What holds limits that are there already. `no_quota`: that is not it, whatever the folders say: it is not switched on any more.
fn in_use(config: &Config, no_quota: bool) -> Option<Means> {
    let layers = layer::places(config).into_iter();
    let places = layers.chain(Volumes::places(&config.volumes_dir()));
    let lasting = |means: &Means| match means {
        Means::Image => true,
        Means::Quota => !no_quota,
        Means::Memory => false,
    };
    places.filter_map(|place| place.means().ok()?).find(lasting)
}
