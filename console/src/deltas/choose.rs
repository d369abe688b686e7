//! From which layer to which: pure.

use crate::store::Board;
use coracle_digest::Sha256Digest;
use coracle_protocol::names::AppName;
use coracle_protocol::release::{Blob, Image, Layer, SignedRelease};
use coracle_protocol::report::Current;
use std::collections::{BTreeMap, BTreeSet};

/// Kinds of boards that are prepared for: more different ones than a fleet has versions.
const KINDS: usize = 64;

/// A layer that boards hold, and one that they need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Held.
    pub from: Layer,
    /// Needed.
    pub to: Layer,
    /// The image that needs it, `repository:tag`.
    pub image: String,
    /// That image's manifest.
    pub manifest: Blob,
    /// Its configuration.
    pub config: Blob,
    /// Manifest and configuration of the image that brought the held layer.
    pub source: [Blob; 2],
}

/// Boards that need the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// The release that they run.
    pub running: Option<Sha256Digest>,
    /// The layers that they hold.
    pub held: BTreeSet<Sha256Digest>,
}

/// What a board says of itself to which the release is meant to come: one in the fleet, of its hardware, that runs nothing or
/// its product.
pub fn whose<'a>(release: &SignedRelease, board: &'a Board) -> Option<&'a Current> {
    let current = board.current.as_ref()?;
    let mut hardware = release.hardware.iter();
    let is_meant = board.revoked_at.is_none()
        && !current.decommissioned
        && hardware.any(|class| class.as_str() == current.board.hardware)
        && (current.set.as_ref()).is_none_or(|set| set.product == release.product.as_str());
    is_meant.then_some(current)
}

/// What boards say that they hold, each kind once, that of most boards first.
pub fn kinds<'a>(boards: impl Iterator<Item = &'a Current>) -> Vec<Kind> {
    let mut counted = BTreeMap::<_, usize>::new();
    for current in boards {
        let running = current.set.as_ref().map(|set| set.release);
        let held: BTreeSet<Sha256Digest> = current.layers.iter().copied().collect();
        *counted.entry((running, held)).or_default() += 1;
    }
    let mut counted: Vec<_> = counted.into_iter().collect();
    counted.sort_by_key(|(_, boards)| std::cmp::Reverse(*boards));
    counted.truncate(KINDS);
    let kind = |((running, held), _)| Kind { running, held };
    counted.into_iter().map(kind).collect()
}

/// For each layer of `release` that is not `held`, one base: of the same app (or of the same
/// repository) in the first of `earlier` that has a held one; the layer at the same place from the
/// bottom, or else the one nearest in size.
pub fn pairs(
    release: &SignedRelease,
    earlier: &[SignedRelease],
    held: impl Fn(&Sha256Digest) -> bool,
) -> Vec<Pair> {
    let mut done = BTreeSet::new();
    let mut found = Vec::new();
    for (app, image) in images(release) {
        for (place, to) in image.layers.iter().enumerate() {
            if held(&to.diff_id) || !done.insert(to.diff_id) {
                continue;
            }
            let base = earlier.iter().find_map(|old| {
                let same_app = images(old).filter(|(name, _)| *name == app);
                let same_repository = images(old)
                    .filter(|(name, o)| *name != app && repository(o) == repository(image));
                same_app
                    .chain(same_repository)
                    .find_map(|(_, o)| Some((o, base_in(o, place, to, &held)?)))
            });
            if let Some((old, from)) = base {
                found.push(Pair {
                    from: from.clone(),
                    to: to.clone(),
                    image: image.name.clone(),
                    manifest: image.manifest,
                    config: image.config,
                    source: [old.manifest, old.config],
                });
            }
        }
    }
    found
}

/// Each with its app's name; that of the agent has none.
fn images(release: &SignedRelease) -> impl Iterator<Item = (Option<&AppName>, &Image)> {
    let apps = release.apps.iter().map(|app| (Some(&app.name), &app.image));
    apps.chain(release.agent.iter().map(|agent| (None, &agent.image)))
}

fn base_in<'a>(
    image: &'a Image,
    place: usize,
    to: &Layer,
    held: &impl Fn(&Sha256Digest) -> bool,
) -> Option<&'a Layer> {
    let usable = |layer: &&Layer| layer.diff_id != to.diff_id && held(&layer.diff_id);
    image.layers.get(place).filter(usable).or_else(|| {
        image
            .layers
            .iter()
            .filter(usable)
            .min_by_key(|layer| layer.unpacked_size.abs_diff(to.unpacked_size))
    })
}

/// `shop/web` of `shop/web:1.4`.
pub fn repository(image: &Image) -> &str {
    let name = image.name.as_str();
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, size: u64) -> serde_json::Value {
        let digest = Sha256Digest::of(name.as_bytes());
        serde_json::json!({"media_type": "t", "digest": digest, "size": size,
                           "diff_id": digest, "unpacked_size": size})
    }

    fn release(app: &str, image: &str, layers: &[serde_json::Value]) -> SignedRelease {
        let blob = serde_json::json!({"digest": Sha256Digest::of(b"m"), "size": 1});
        serde_json::from_value(serde_json::json!({
            "spec_version": 1, "product": "p", "version": "1", "epoch": 1, "release_counter": 1,
            "issued_at": 1, "expires": 2, "hardware": ["h"],
            "apps": [{"name": app, "limits": {"memory_bytes": 1, "cpu_millis": 1, "pids": 1},
                      "image": {"name": image, "manifest": blob, "config": blob, "layers": layers}}],
        }))
        .unwrap()
    }

    fn id(name: &str) -> Sha256Digest {
        Sha256Digest::of(name.as_bytes())
    }

    #[test]
    fn the_same_place_of_the_same_app_is_the_base() {
        let old = release("web", "shop/web:1", &[layer("base", 10), layer("app1", 5)]);
        let new = release("web", "shop/web:2", &[layer("base", 10), layer("app2", 6)]);
        let all = |_: &Sha256Digest| true;
        let held = |d: &Sha256Digest| *d == id("base") || *d == id("app1");
        let pairs = super::pairs(&new, std::slice::from_ref(&old), held);
        assert_eq!(pairs.len(), 1);
        assert_eq!(
            (pairs[0].from.diff_id, pairs[0].to.diff_id),
            (id("app1"), id("app2"))
        );
        assert!(
            super::pairs(&new, &[old], all).is_empty(),
            "a held layer needs nothing"
        );
    }

    #[test]
    fn boards_of_each_version_are_a_kind_those_of_most_first() {
        let current = |layers: &[&str]| -> Current {
            let layers: Vec<Sha256Digest> = layers.iter().map(|name| id(name)).collect();
            serde_json::from_value(serde_json::json!({
                "version": 1, "set": null, "layers": layers,
                "board": {"profile": "p", "hardware": "h", "architecture": "a", "kernel": "k",
                          "agent": "1", "memory_bytes": 1, "cpus": 1},
            }))
            .unwrap()
        };
        // One that holds the new layer already hides nothing from those that do not.
        let boards = [&["app1"][..], &["app2"], &["app3"], &["app2"]].map(current);
        let kinds = kinds(boards.iter());
        assert_eq!(kinds.len(), 3);
        assert_eq!(kinds[0].held, BTreeSet::from([id("app2")]));
        let old = [
            release("web", "shop/web:2", &[layer("app2", 6)]),
            release("web", "shop/web:1", &[layer("app1", 5)]),
        ];
        let new = release("web", "shop/web:3", &[layer("app3", 6)]);
        let bases = |kind: &Kind| super::pairs(&new, &old, |d| kind.held.contains(d));
        let mut from: Vec<_> = kinds
            .iter()
            .flat_map(bases)
            .map(|p| p.from.diff_id)
            .collect();
        from.sort();
        let mut both = [id("app1"), id("app2")];
        both.sort();
        assert_eq!(from, both);
        let many: Vec<Current> = (0..200).map(|n| current(&[&n.to_string()])).collect();
        assert_eq!(super::kinds(many.iter()).len(), KINDS);
    }

    #[test]
    fn boards_that_cannot_get_the_release_crowd_out_none_that_can() {
        let current = |layer: &str, product: Option<&str>| -> Current {
            let set = product.map(|product| {
                serde_json::json!({"deployment": id("d"), "release": id("r"), "product": product,
                                   "version": "1", "state": "committed", "apps": []})
            });
            serde_json::from_value(serde_json::json!({
                "version": 1, "set": set, "layers": [id(layer)],
                "board": {"profile": "p", "hardware": "h", "architecture": "a", "kernel": "k",
                          "agent": "1", "memory_bytes": 1, "cpus": 1},
            }))
            .unwrap()
        };
        let board = |current: Current| Board {
            id: coracle_protocol::names::BoardId::new("acme.b").unwrap(),
            enrolled_at: None,
            presence: Default::default(),
            current: Some(current),
            used: None,
            current_at: None,
            revoked_at: None,
            revoked_why: None,
        };
        let mut boards: Vec<Board> = (0..2 * KINDS)
            .flat_map(|n| [n; 2])
            .map(|n| board(current(&n.to_string(), Some("other"))))
            .collect();
        let mut revoked = board(current("revoked", Some("p")));
        revoked.revoked_at = Some(1);
        let mut gone = board(current("gone", Some("p")));
        gone.current.as_mut().unwrap().decommissioned = true;
        let mut foreign = board(current("foreign", None));
        foreign.current.as_mut().unwrap().board.hardware = "h2".into();
        boards.extend([revoked, gone, foreign]);
        boards.push(board(current("mine", Some("p"))));
        boards.push(board(current("none yet", None)));
        let release = release("web", "shop/web:3", &[]);
        let kinds = kinds(boards.iter().filter_map(|board| whose(&release, board)));
        let held: BTreeSet<_> = kinds.into_iter().flat_map(|kind| kind.held).collect();
        assert_eq!(held, BTreeSet::from([id("mine"), id("none yet")]));
    }

    #[test]
    fn a_base_that_the_board_lacks_is_passed_over() {
        let newest = release("web", "shop/web:2", &[layer("app2", 6)]);
        let oldest = release("web", "shop/web:1", &[layer("app1", 5)]);
        let new = release("web", "shop/web:3", &[layer("app3", 6)]);
        let held = |d: &Sha256Digest| *d == id("app1");
        let pairs = super::pairs(&new, &[newest, oldest], held);
        assert_eq!(pairs[0].from.diff_id, id("app1"));
    }

    #[test]
    fn a_renamed_app_is_found_by_its_repository_and_a_moved_layer_by_its_size() {
        let old = release(
            "site",
            "shop/web:1",
            &[layer("small", 5), layer("big", 500)],
        );
        let new = release("web", "shop/web:2", &[layer("big2", 510)]);
        let held = |d: &Sha256Digest| *d == id("big");
        let pairs = super::pairs(&new, &[old], held);
        assert_eq!(pairs[0].from.diff_id, id("big"));
        let other = release("x", "other:1", &[layer("big", 500)]);
        assert!(super::pairs(&new, &[other], held).is_empty());
    }
}
