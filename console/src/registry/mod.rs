//! An OCI registry (distribution-spec 1.1): push and pull, chunked and whole uploads, mounts,
//! ranges, tags, referrers. Nothing can be deleted through it: boards may need any blob to go back.
//!
//! | file | what it holds |
//! |---|---|
//! | `names` | repository names and references, checked |
//! | `errors` | the spec's error codes as JSON |
//! | `uploads` | blobs on their way in |
//! | `manifests` | manifests, tags, referrers on disk |
//! | `routes` | what each path and method does |
//! | `lists` | the two paths that answer with lists |

mod errors;
mod lists;
mod manifests;
mod names;
mod routes;
mod uploads;

pub use errors::RegistryError;
pub use manifests::Manifests;
pub use names::{Reference, Repository};
pub use routes::{Registry, router};
pub use uploads::Uploads;

/// Largest manifest, in bytes: what the spec asks registries to take.
pub const MANIFEST_BYTES: usize = 4 << 20;
