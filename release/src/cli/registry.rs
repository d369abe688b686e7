//! `image pull` and `image push`: any registry.

use super::say;
use crate::failure::Failure;
use crate::image::{at, limits, open};
use crate::registry::{Access, Reference, Registry};
use crate::{human, image};
use clap::Args;
use coracle_images::layout::{Layout, Platform};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct ImagePull {
    /// The image, like registry.example/shop/web:1.4 or …/web@sha256:…
    #[arg(value_name = "IMAGE")]
    from: Reference,
    /// The OCI layout
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// The image's name in it; without it, its name in the registry
    #[arg(long, value_name = "NAME:TAG")]
    tag: Option<String>,
    /// Which one, of an image for several machines
    #[arg(long, value_name = "linux/ARCH", value_parser = image::platform)]
    platform: Option<Platform>,
    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Debug, Args)]
pub(super) struct ImagePush {
    /// Where to, like registry.example/shop/web:1.4
    #[arg(value_name = "IMAGE")]
    to: Reference,
    /// The OCI layout
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// The image's name in it
    #[arg(long, value_name = "NAME:TAG")]
    tag: String,
    /// Which one, of an image for several machines
    #[arg(long, value_name = "linux/ARCH", value_parser = image::platform)]
    platform: Option<Platform>,
    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Debug, Args)]
pub(super) struct AccessArgs {
    /// Who signs in
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,
    /// File with the password or token
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Certificate authorities of the registry; the system's when left out
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A certificate to show to the registry
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Without TLS, passwords and all: for a registry on this machine
    #[arg(long)]
    plain_http: bool,
}

impl From<AccessArgs> for Access {
    fn from(args: AccessArgs) -> Self {
        Self {
            login: args.user.zip(args.password_file),
            ca: args.ca,
            client: args.cert.zip(args.key),
            plain_http: args.plain_http,
        }
    }
}

impl ImagePull {
    pub(super) fn run(self) -> Result<(), Failure> {
        let digest = self.from.version.contains(':');
        let tag = match self.tag {
            Some(tag) => tag,
            None if digest => {
                return Err(Failure::usage(
                    "an image by its digest has no name; say one with --tag NAME:TAG",
                ));
            }
            None => format!("{}:{}", self.from.name, self.from.version),
        };
        let layout = Layout::create(&self.output, &limits()).map_err(at(&self.output))?;
        let machine = self.platform.unwrap_or_else(image::host_platform);
        let registry = Registry::new(self.from, &self.access.into(), false)?;
        let image = registry.pull(&layout, &tag, &machine)?;
        say(&format!("{tag} {}", image.descriptor.digest));
        Ok(())
    }
}

impl ImagePush {
    pub(super) fn run(self) -> Result<(), Failure> {
        let layout = open(&self.images)?;
        let machine = self.platform.unwrap_or_else(image::host_platform);
        let found = layout.image(Some(&self.tag), &machine);
        let image = found.map_err(at(&self.images))?;
        let name = self.to.to_string();
        let registry = Registry::new(self.to, &self.access.into(), true)?;
        let sent = registry.push(&layout, &image)?;
        let digest = image.descriptor.digest;
        say(&format!("{name} {digest}, {} sent", human::bytes(sent)));
        Ok(())
    }
}
