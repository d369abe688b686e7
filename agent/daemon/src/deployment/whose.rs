//! Whose blob it is that comes, in words for people.

use coracle_protocol::Sha256Digest;
use coracle_protocol::release::{Image, SignedRelease};

/// All images, by who has them. One that several have is told as the first one's.
fn images(release: &SignedRelease) -> impl Iterator<Item = (&str, &Image)> {
    let apps = release.apps.iter();
    let apps = apps.map(|app| (app.name.as_str(), &app.image));
    apps.chain(
        release
            .agent
            .as_ref()
            .map(|agent| ("the agent", &agent.image)),
    )
}

/// `configuration of web`.
pub fn config(release: &SignedRelease, digest: Sha256Digest) -> String {
    let found = images(release).find(|(_, image)| image.config.digest == digest);
    let (name, _) = found.unzip();
    format!("configuration of {}", name.unwrap_or("an app"))
}

/// `layer 2 of 3 of web`, counted from the lowest.
pub fn layer(release: &SignedRelease, diff_id: Sha256Digest) -> String {
    let found = images(release).find_map(|(name, image)| {
        let at = image
            .layers
            .iter()
            .position(|layer| layer.diff_id == diff_id)?;
        Some(format!(
            "layer {} of {} of {name}",
            at + 1,
            image.layers.len()
        ))
    });
    found.unwrap_or_else(|| "a layer".to_owned())
}
