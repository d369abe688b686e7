//! From which layer to which: pure.

use coracle_digest::Sha256Digest;
use coracle_protocol::names::AppName;
use coracle_protocol::release::{Image, Layer, Release};
use std::collections::BTreeSet;

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
    pub manifest: coracle_protocol::release::Blob,
}

/// For each layer of `release` that is not `held`, one base: of the same app (or of the same
/// repository) in the first of `earlier` that has a held one; the layer at the same place from the
/// bottom, or else the one nearest in size.
pub fn pairs(
    release: &Release,
    earlier: &[Release],
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
                    .find_map(|(_, o)| base_in(o, place, to, &held))
            });
            if let Some(from) = base {
                found.push(Pair {
                    from: from.clone(),
                    to: to.clone(),
                    image: image.name.clone(),
                    manifest: image.manifest,
                });
            }
        }
    }
    found
}

/// Each with its app's name; that of the agent has none.
fn images(release: &Release) -> impl Iterator<Item = (Option<&AppName>, &Image)> {
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

    fn release(app: &str, image: &str, layers: &[serde_json::Value]) -> Release {
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
