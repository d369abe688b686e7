//! What each subcommand does and says. Results go to stdout, progress and failures to stderr.

use super::{
    CompressionName, ConsoleArgs, DeltaCommand, Deploy, EnrolFile, ImageBuild, Push, ReleaseCreate,
    RoleName, RootCreate, Status, Usb,
};
use crate::console::{Console, ConsoleError};
use crate::deploy;
use crate::failure::Failure;
use crate::files::{self, Access};
use crate::human;
use crate::image::{self, Measurer};
use crate::release::{self, Signer};
use crate::release_file::ReleaseFile;
use crate::root::{RoleInput, RootInput};
use crate::stick::{Assignment, folder, vfat};
use crate::{delta, keys, push, root};
use coracle_images::build::{Build, Compression, Owner};
use coracle_images::layout::{Empty, RunConfig};
use coracle_protocol::Sha256Digest;
use coracle_protocol::deploy::Target;
use coracle_protocol::enrol::EnrolmentFile;
use coracle_protocol::root::Role;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A line for stdout; a closed pipe (`| head`) is no failure.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{}", text.trim_end_matches('\n'));
}

fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    say(&serde_json::to_string_pretty(value)?);
    Ok(())
}

pub(super) fn keys_new(role: RoleName, output: &Path) -> Result<(), Failure> {
    let (public, path) = keys::new(output)?;
    let (role, where_kept) = match role {
        RoleName::Root => ("root", "keep it offline, each root key with another person"),
        RoleName::Release => ("release", "keep it offline, with the developers"),
        RoleName::Deploy => ("deploy", "it goes to the console: --deploy-key"),
        RoleName::OfflineDeploy => ("offline-deploy", "it signs USB sticks; keep it offline"),
    };
    say(&format!(
        "{role} key {}\n  private {} ({where_kept})\n  public  {}",
        public.key_id(),
        output.display(),
        path.display()
    ));
    Ok(())
}

pub(super) fn root_create(args: RootCreate) -> Result<(), Failure> {
    let issued_at = human::now();
    let input = RootInput {
        version: args.version,
        issued_at,
        expires: args.expires.from(issued_at),
    };
    let role = |role, keys: &[PathBuf], threshold, epoch| RoleInput {
        role,
        keys: keys.to_vec(),
        threshold,
        epoch,
    };
    let roles = [
        role(Role::Root, &args.root_key, args.root_threshold, 1),
        role(
            Role::Release,
            &args.release_key,
            args.release_threshold,
            args.release_epoch,
        ),
        role(Role::Deploy, &args.deploy_key, 1, args.deploy_epoch),
        role(
            Role::OfflineDeploy,
            &args.offline_deploy_key,
            1,
            args.offline_deploy_epoch,
        ),
    ];
    let envelope = root::create(input, &roles)?;
    // Whatever boards would refuse but for the missing signatures is refused now.
    root::state(&args.output, &envelope)?;
    root::write(&args.output, &envelope)?;
    say(&format!(
        "{}: not signed yet; {} of {} root keys sign it with `coracle-release root sign --key KEY {}`",
        args.output.display(),
        args.root_threshold,
        args.root_key.len(),
        args.output.display()
    ));
    Ok(())
}

pub(super) fn root_sign(key: &Path, previous: Option<&Path>, file: &Path) -> Result<(), Failure> {
    let envelope = root::sign(file, key, previous)?;
    let complete = root::state(file, &envelope)?.is_some();
    say(&format!(
        "{}: {} signatures, {}",
        file.display(),
        envelope.signatures.len(),
        if complete {
            "complete"
        } else {
            "more are needed"
        }
    ));
    Ok(())
}

pub(super) fn root_show(file: &Path, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return json(&root::document(file, &root::read_envelope(file)?)?);
    }
    say(&root::show(file)?);
    Ok(())
}

pub(super) fn image_build(args: ImageBuild) -> Result<(), Failure> {
    let bad_env = |text: &&String| text.split_once('=').is_none_or(|(name, _)| name.is_empty());
    if let Some(text) = args.env.iter().find(bad_env) {
        return Err(Failure::usage(format!("--env `{text}` is not NAME=VALUE")));
    }
    let layers: Vec<PathBuf> = args.rootfs.into_iter().chain(args.layer).collect();
    if let Some(dir) = layers.iter().find(|dir| !dir.is_dir()) {
        return Err(Failure::usage(format!(
            "layer `{}` is no folder",
            dir.display()
        )));
    }
    let clamp = std::env::var("SOURCE_DATE_EPOCH").ok();
    let clamp_mtime = clamp
        .map(|text| {
            let wrong = || Failure::usage(format!("SOURCE_DATE_EPOCH `{text}` is no number"));
            text.parse().map_err(|_| wrong())
        })
        .transpose()?;
    let build = Build {
        layers,
        config: RunConfig {
            user: args.user,
            exposed_ports: args
                .expose
                .into_iter()
                .map(|port| (port, Empty {}))
                .collect(),
            env: args.env,
            entrypoint: args.entrypoint,
            cmd: args.cmd,
            working_dir: args.workdir,
            ..RunConfig::default()
        },
        platform: args.platform.unwrap_or_else(image::host_platform),
        clamp_mtime,
        compression: match args.compression {
            CompressionName::Zstd => Compression::Zstd(19),
            CompressionName::Gzip => Compression::Gzip(9),
            CompressionName::None => Compression::None,
        },
        owner: args
            .owner
            .map_or(Owner::Kept, |(uid, gid)| Owner::All(uid, gid)),
        annotations: Default::default(),
    };
    let built = image::build(&build, &args.output, &args.tag)?;
    say(&format!("{} {}", args.tag, built.manifest.digest));
    for layer in &built.layers {
        say(&format!(
            "  layer {} {} ({} unpacked, {} files)",
            layer.diff_id,
            human::bytes(layer.descriptor.size),
            human::bytes(layer.unpacked_bytes),
            layer.entries
        ));
    }
    Ok(())
}

pub(super) fn release_create(args: ReleaseCreate) -> Result<(), Failure> {
    let file = ReleaseFile::read(&args.file)?;
    let root = args.root.as_deref().map(root::read_trusted).transpose()?;
    let signer = Signer::new(
        keys::read_private(&args.key)?,
        Role::Release,
        root,
        args.epoch,
    )?;
    let layout = image::open(&args.images)?;
    let mut images = Measurer::new(&layout, args.platform.unwrap_or_else(image::host_platform));
    let release = file.release(&args.file, human::now(), signer.epoch(), &mut images)?;
    let envelope = release::sign(&release, &signer, &args.output)?;
    root::write(&args.output, &envelope)?;
    // What was written is what is shown: it is read from the disk.
    let written = release::read(&args.output, signer.root().filter(|_| args.root.is_some()))?;
    say(&release::describe(&written));
    if signer.root().is_none() {
        say("more release keys must sign it: `coracle-release release sign --key KEY FILE`");
    }
    Ok(())
}

pub(super) fn release_sign(key: &Path, file: &Path) -> Result<(), Failure> {
    let mut release = release::read(file, None)?;
    release.envelope.sign(&keys::read_private(key)?)?;
    root::write(file, &release.envelope)?;
    say(&format!(
        "{}: {} signatures",
        file.display(),
        release.envelope.signatures.len()
    ));
    Ok(())
}

pub(super) fn release_show(file: &Path, root: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    let root = root.map(root::read_trusted).transpose()?;
    let release = release::read(file, root.as_ref())?;
    if as_json {
        return json(&release.release);
    }
    say(&release::describe(&release));
    say(match root {
        Some(_) => "signatures good under this root",
        None => "signatures not checked; --root FILE checks them",
    });
    Ok(())
}

pub(super) fn delta(command: DeltaCommand) -> Result<(), Failure> {
    match command {
        DeltaCommand::Make {
            base,
            target,
            output,
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
        DeltaCommand::Apply {
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
        DeltaCommand::Info { file } => {
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

fn console(args: &ConsoleArgs) -> Result<Console, ConsoleError> {
    Console::new(&args.console, &args.token_file, args.ca.as_deref())
}

pub(super) fn push(args: &Push) -> Result<(), Failure> {
    let file = release::read(&args.release, None)?;
    let layout = image::open(&args.images)?;
    let (pushed, _) = push::push(&console(&args.console)?, &layout, &file)?;
    say(&format!(
        "{} {}: pushed {}, {} were there\n{}",
        file.release.product,
        file.release.version,
        human::bytes(pushed.sent),
        human::bytes(pushed.there),
        file.digest
    ));
    Ok(())
}

pub(super) fn deploy(args: &Deploy) -> Result<(), Failure> {
    let text = args.positional.as_ref().or(args.release.as_ref());
    let text = text.ok_or_else(|| Failure::usage("name a release"))?;
    let release: Sha256Digest = match text.parse() {
        Ok(digest) => digest,
        Err(_) => release::read(Path::new(text), None)?.digest,
    };
    let console = console(&args.console)?;
    let expires = args.expires.map(|time| time.as_secs());
    let ordered = deploy::order(&console, release, &args.board, expires)?;
    say(&deploy::describe(&ordered));
    if args.wait {
        deploy::wait(&console, &ordered.id, args.timeout, say)?;
    }
    Ok(())
}

pub(super) fn status(args: &Status) -> Result<(), Failure> {
    let console = console(&args.console)?;
    let boards: serde_json::Value = match &args.board {
        Some(board) => console.get(&format!("/api/v1/boards/{board}"))?,
        None => console.get("/api/v1/boards")?,
    };
    if args.json {
        return json(&boards);
    }
    match boards.as_array() {
        Some(boards) if boards.is_empty() => say("no board is known yet"),
        Some(boards) => boards
            .iter()
            .for_each(|board| say(&deploy::describe_board(board))),
        None => say(&deploy::describe_board(&boards)),
    }
    Ok(())
}

pub(super) fn enrol_file(args: &EnrolFile) -> Result<(), Failure> {
    if args.output.exists() {
        return Err(files::FileError::Exists(args.output.clone()).into());
    }
    let body = serde_json::to_vec(&serde_json::json!({ "board": args.board }))?;
    let file: EnrolmentFile = console(&args.console)?.post("/api/v1/enrolments", &body)?;
    files::write(
        &args.output,
        &serde_json::to_vec_pretty(&file)?,
        Access::Secret,
    )?;
    say(&format!(
        "{}: good once, for {}; on the board: `coracle enrol FILE`",
        args.output.display(),
        file.board
    ));
    Ok(())
}

pub(super) fn usb(args: Usb) -> Result<(), Failure> {
    let root = args.root.as_deref().map(root::read_trusted).transpose()?;
    let file = release::read(&args.release, root.as_ref())?;
    let key = keys::read_private(&args.key)?;
    let signer = Signer::new(key, Role::OfflineDeploy, root, args.epoch)?;
    if signer.root().is_none() {
        return Err(Failure::usage(
            "the root asks for several offline-deploy keys; a stick is signed by one",
        ));
    }
    let images = image::open(&args.images)?;
    let bases = args
        .base_images
        .iter()
        .map(|dir| image::open(dir))
        .collect::<Result<Vec<_>, _>>()?;
    let issued_at = human::now();
    let assignment = Assignment {
        target: if args.hardware.is_empty() {
            Target::Boards(args.board.into_iter().collect())
        } else {
            Target::Hardware(args.hardware.into_iter().collect())
        },
        seq: args.seq,
        issued_at,
        expires: args
            .expires
            .map_or(file.release.expires, |time| time.from(issued_at)),
    };
    let input = folder::Input {
        file: &file,
        images: &images,
        bases: &bases,
        platform: &args.platform.unwrap_or_else(image::host_platform),
        signer: &signer,
    };
    let (place, summary) = match (args.output, args.image) {
        (Some(dir), _) => {
            let summary = folder::write(&input, assignment, &dir)?;
            (dir, summary)
        }
        (None, Some(image)) => {
            // Beside the image: there is room for one, so there may be room for two.
            let beside = image.parent().filter(|dir| !dir.as_os_str().is_empty());
            let scratch = tempfile::tempdir_in(beside.unwrap_or(Path::new(".")))?;
            let summary = folder::write(&input, assignment, scratch.path())?;
            vfat::write(scratch.path(), &image)?;
            (image, summary)
        }
        (None, None) => return Err(Failure::usage("name --output DIR or --image FILE")),
    };
    say(&format!(
        "{}: {} {}, stick {}\n{} blobs with {}, of which {} deltas with {}",
        place.display(),
        file.release.product,
        file.release.version,
        args.seq,
        summary.blobs,
        human::bytes(summary.bytes),
        summary.deltas,
        human::bytes(summary.delta_bytes)
    ));
    Ok(())
}
