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
            true => in_use(config),
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

    /// Tries again where the disk was full.
    pub fn try_again(&mut self, config: &Config) {
        if self.is_open {
            *self = Self::find(config);
        }
    }

    /// Why it cannot be told for now what a limit could be held by: then nothing that has one is to be made.
    pub fn not_now(&self) -> Option<&str> {
        let is_unknown = self.is_open && self.means.is_none();
        is_unknown.then_some(self.why_none.as_str())
    }
}

/// What holds limits that are there already.
fn in_use(config: &Config) -> Option<Means> {
    let layers = layer::places(config).into_iter();
    let places = layers.chain(Volumes::places(&config.volumes_dir()));
    let lasting = |means: &Means| *means != Means::Memory;
    places.filter_map(|place| place.means().ok()?).find(lasting)
}
