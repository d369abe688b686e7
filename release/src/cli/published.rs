//! `delta push`, `delta list` and `delta pull`: deltas beside an image in any registry.

use super::registry::AccessArgs;
use super::say;
use crate::failure::Failure;
use crate::image::{at, limits, open};
use crate::published::{self, Published, Tagged};
use crate::registry::{Attached, Reference, Registry};
use crate::{human, image};
use clap::Args;
use coracle_images::layout::{Layout, Platform};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct DeltaPush {
    /// The image in the registry, like registry.example/shop/web:1.5
    #[arg(value_name = "IMAGE")]
    to: Reference,
    /// The OCI layout with it; the deltas are kept there too
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Its name in the layout
    #[arg(long, value_name = "NAME:TAG")]
    tag: String,
    /// The older image, from whose layers the deltas are
    #[arg(long, value_name = "NAME:TAG")]
    base: String,
    /// The OCI layout with that one, when it is another
    #[arg(long, value_name = "DIR")]
    base_images: Option<PathBuf>,
    /// Which one, of images for several machines
    #[arg(long, value_name = "linux/ARCH", value_parser = image::platform)]
    platform: Option<Platform>,
    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Debug, Args)]
pub(super) struct DeltaList {
    /// The image in the registry, like registry.example/shop/web:1.5
    #[arg(value_name = "IMAGE")]
    of: Reference,
    /// Which one, of an image for several machines
    #[arg(long, value_name = "linux/ARCH", value_parser = image::platform)]
    platform: Option<Platform>,
    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Debug, Args)]
pub(super) struct DeltaPull {
    /// The image in the registry, like registry.example/shop/web:1.5
    #[arg(value_name = "IMAGE")]
    of: Reference,
    /// The OCI layout, made when it is not there
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Which one, of an image for several machines
    #[arg(long, value_name = "linux/ARCH", value_parser = image::platform)]
    platform: Option<Platform>,
    #[command(flatten)]
    access: AccessArgs,
}

impl DeltaPush {
    pub(super) fn run(self) -> Result<(), Failure> {
        let machine = self.platform.unwrap_or_else(image::host_platform);
        let layout = open(&self.images)?;
        let base_layout = match &self.base_images {
            Some(dir) => open(dir)?,
            None => layout.clone(),
        };
        let find = |layout: &Layout, tag: &str| {
            let found = layout.image(Some(tag), &machine);
            found.map_err(at(layout.dir()))
        };
        let (image, base) = (find(&layout, &self.tag)?, find(&base_layout, &self.base)?);
        let registry = Registry::new(self.to, &self.access.into(), true)?;
        let target = Tagged {
            layout: &layout,
            tag: &self.tag,
            image: &image,
        };
        let base = Tagged {
            layout: &base_layout,
            tag: &self.base,
            image: &base,
        };
        let sent = published::push(&registry, &target, &base, &machine)?;
        if sent.is_empty() {
            say(&format!(
                "no delta from {} to {} is smaller than the layer, or none is needed",
                self.base, self.tag
            ));
        }
        for sent in sent {
            let by = match sent.attached {
                Attached::Listed => "listed by the registry".to_owned(),
                Attached::Tagged(tag) => format!("listed in {tag}"),
            };
            let bytes = human::bytes(sent.bytes);
            say(&format!("{}\n  {by}, {bytes} sent", line(&sent.delta)));
        }
        Ok(())
    }
}

impl DeltaList {
    pub(super) fn run(self) -> Result<(), Failure> {
        let machine = self.platform.unwrap_or_else(image::host_platform);
        let registry = Registry::new(self.of, &self.access.into(), false)?;
        for delta in published::list(&registry, &machine)? {
            say(&line(&delta));
        }
        Ok(())
    }
}

impl DeltaPull {
    pub(super) fn run(self) -> Result<(), Failure> {
        let machine = self.platform.unwrap_or_else(image::host_platform);
        let layout = Layout::create(&self.output, &limits()).map_err(at(&self.output))?;
        let registry = Registry::new(self.of, &self.access.into(), false)?;
        for delta in published::pull(&registry, &layout, &machine)? {
            say(&line(&delta));
        }
        Ok(())
    }
}

fn line(delta: &Published) -> String {
    let about = &delta.about;
    let size = human::bytes(about.delta.size);
    format!(
        "{} {size}\n  from {}\n  to   {}",
        about.delta.digest, about.from, about.to
    )
}
