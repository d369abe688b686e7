//! `delta`: deltas by hand.

use super::published::{DeltaList, DeltaPull, DeltaPush};
use super::say;
use crate::failure::Failure;
use crate::{delta, human};
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum DeltaCommand {
    /// Make the delta from one layer file to another
    Make {
        /// The older layer: tar, tar.gz or tar.zst
        #[arg(long, value_name = "FILE")]
        base: PathBuf,
        /// The newer layer
        #[arg(long, value_name = "FILE")]
        target: PathBuf,
        /// The delta
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// Coracle's own, which boards take, or tar-diff version 1, for other tools
        #[arg(long, value_enum, default_value = "coracle")]
        format: Format,
    },
    /// Make the newer layer's tar from the older layer and a delta
    Apply {
        /// The older layer: a file, or the folder that it was unpacked to
        #[arg(long, value_name = "PATH")]
        base: PathBuf,
        /// The delta
        #[arg(long, value_name = "FILE")]
        delta: PathBuf,
        /// The newer layer, uncompressed
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Say what a delta is from and to
    Info {
        /// The delta
        file: PathBuf,
    },
    /// Send deltas from an older image's layers to a registry that has the newer image
    ///
    /// Each is an artifact that refers to the image. A registry that lists no such artifacts gets an index under the tag
    /// `sha256-<digest of the image>` instead. Example:
    ///   coracle-release image push registry.example/shop/web:1.5 --images images --tag shop/web:1.5
    ///   coracle-release delta push registry.example/shop/web:1.5 --images images --tag shop/web:1.5 --base shop/web:1.4
    #[command(verbatim_doc_comment)]
    Push(Box<DeltaPush>),
    /// Say which deltas a registry has for an image
    List(Box<DeltaList>),
    /// Bring the deltas that a registry has for an image into an OCI layout, as boards and mirrors take them
    Pull(Box<DeltaPull>),
}

/// A delta's format.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Format {
    Coracle,
    TarDiff,
}

impl DeltaCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Make {
                base,
                target,
                output,
                format: Format::TarDiff,
            } => {
                let size = delta::make_tar_diff_file(&base, &target, &output)?;
                say(&format!("{}: {}", output.display(), human::bytes(size)));
            }
            Self::Make {
                base,
                target,
                output,
                format: Format::Coracle,
            } => {
                let (header, size) = delta::make_file(&base, &target, &output)?;
                let full = std::fs::metadata(&target)?.len();
                say(&format!(
                    "{}: {} instead of {}\nfrom {}\nto   {}",
                    output.display(),
                    human::bytes(size),
                    human::bytes(full),
                    header.base,
                    header.target
                ));
            }
            Self::Apply {
                base,
                delta,
                output,
            } => {
                let (digest, size) = delta::apply_file(&base, &delta, &output)?;
                say(&format!(
                    "{}: {digest}, {}",
                    output.display(),
                    human::bytes(size)
                ));
            }
            Self::Push(args) => args.run()?,
            Self::List(args) => args.run()?,
            Self::Pull(args) => args.run()?,
            Self::Info { file } => {
                let (header, size) = delta::info(&file)?;
                say(&format!(
                    "{}: {}\nfrom {}\nto   {} ({} uncompressed)",
                    file.display(),
                    human::bytes(size),
                    header.base,
                    header.target,
                    human::bytes(header.target_size)
                ));
            }
        }
        Ok(())
    }
}
