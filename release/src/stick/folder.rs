//! The stick as a folder. Blobs first, `stick.json` last: a stick that is pulled out half-way has
//! either the old index, whose blobs are still there, or the new one, whose blobs are complete.

use super::{Assignment, StickError, Summary, deltas, named, sign};
use crate::files::{self, Access};
use crate::human;
use crate::image::{at, limits};
use crate::progress;
use crate::release::{ReleaseEnvelope, Signer};
use coracle_images::layout::{Descriptor, Layout};
use coracle_protocol::Sha256Digest;
use coracle_protocol::deploy::{Delta, Target};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::release::{Blob, Image};
use coracle_protocol::stick::{FOLDER, INDEX, Stick};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// Where things come from.
pub struct Input<'a> {
    /// The release.
    pub file: &'a ReleaseEnvelope,
    /// Its images.
    pub images: &'a Layout,
    /// What boards may have already.
    pub bases: &'a [Layout],
    /// Which manifest of an index.
    pub platform: &'a coracle_images::layout::Platform,
    /// Root documents that boards may lack, the oldest first.
    pub roots: &'a [Envelope],
    /// Signs the assignment.
    pub signer: &'a Signer,
}

/// Writes the stick's folder below `dir`: one assignment for all, or one for each board.
pub fn write(
    input: &Input<'_>,
    assignments: Vec<Assignment>,
    dir: &Path,
) -> Result<Summary, StickError> {
    let inner = dir.join(FOLDER);
    let output = Layout::create(&inner, &limits()).map_err(at(&inner))?;
    let mut keep = BTreeSet::new();
    let mut index = output.index().map_err(at(&inner))?;
    index.manifests.clear();
    for image in input.file.release.images() {
        copy_image(input, image, &output, &mut keep)?;
    }
    let deltas = deltas(
        input.file,
        input.images,
        input.bases,
        input.platform,
        &output,
    )?;
    let mut summary = Summary {
        deltas: deltas.len() as u64,
        delta_bytes: deltas.iter().map(|d| d.size).sum(),
        ..Summary::default()
    };
    keep.extend(deltas.iter().map(|delta| delta.digest));
    let text = readme(input.file, &assignments, &deltas);
    let signed = assignments
        .into_iter()
        .map(|assignment| sign(input.file, assignment, deltas.clone(), input.signer))
        .collect::<Result<Vec<Envelope>, _>>()?;
    let deploy = signed.first().cloned().ok_or(StickError::NoBoard)?;
    // One assignment for all stands alone, where boards of every version look for it.
    let deploys = match signed.len() {
        1 => Vec::new(),
        _ => signed,
    };
    let stick = Stick {
        stick_version: 1,
        deploy,
        release: input.file.envelope.clone(),
        deploys,
        roots: input.roots.to_vec(),
    };
    let json = serde_json::to_vec(&stick).unwrap_or_default();
    Stick::parse(&json)?;
    output.write_index(&index).map_err(at(&inner))?;
    for image in input.file.release.images() {
        let media_type = manifest_type(input, image)?;
        let manifest = image.manifest;
        let entry = Descriptor::new(&media_type, manifest.digest, manifest.size);
        output.tag(entry, &image.name).map_err(at(&inner))?;
    }
    files::write(&inner.join(INDEX), &json, Access::Public)?;
    files::write(&dir.join("README.txt"), text.as_bytes(), Access::Public)?;
    output.store().collect(&keep)?;
    for digest in &keep {
        summary.blobs += 1;
        summary.bytes += output.store().size(digest)?;
    }
    Ok(summary)
}

fn manifest_type(input: &Input<'_>, image: &Image) -> Result<String, StickError> {
    let manifest = image.manifest;
    let descriptor = Descriptor::new("", manifest.digest, manifest.size);
    let document: coracle_images::layout::Manifest = input
        .images
        .document(&descriptor)
        .map_err(at(input.images.dir()))?;
    Ok(document
        .media_type
        .unwrap_or_else(|| coracle_images::layout::MANIFEST.to_owned()))
}

fn copy_image(
    input: &Input<'_>,
    image: &Image,
    output: &Layout,
    keep: &mut BTreeSet<Sha256Digest>,
) -> Result<(), StickError> {
    let layers = image.layers.iter().map(|layer| Blob {
        digest: layer.digest,
        size: layer.size,
    });
    for blob in [image.manifest, image.config].into_iter().chain(layers) {
        if keep.insert(blob.digest) {
            copy(input, &image.name, blob, output)?;
        }
    }
    Ok(())
}

/// Copies a blob and checks it on the way, also one that an earlier run left: sticks rot.
fn copy(input: &Input<'_>, image: &str, blob: Blob, output: &Layout) -> Result<(), StickError> {
    if output.store().has(&blob.digest) && output.store().verify(&blob.digest).is_ok() {
        return Ok(());
    }
    let found = input.images.store().size(&blob.digest)?;
    if found != blob.size {
        return Err(StickError::Size {
            image: image.to_owned(),
            digest: blob.digest,
            wanted: blob.size,
            found,
        });
    }
    let bar = progress::bytes(&format!("copying {image}"), blob.size);
    let mut source = progress::reading(&bar, input.images.store().open_blob(&blob.digest)?);
    let mut download = output.store().download(blob.digest, blob.size)?;
    download.restart()?;
    std::io::copy(&mut source, &mut download).map_err(|source| StickError::Io {
        path: output.store().path(&blob.digest),
        source,
    })?;
    download.finish()?;
    bar.finish_and_clear();
    Ok(())
}

/// What a person with the stick in hand wants to know. CRLF: it is read on any machine.
fn readme(file: &ReleaseEnvelope, assignments: &[Assignment], deltas: &[Delta]) -> String {
    let r = &file.release;
    let mut out = String::new();
    let names: Vec<String> = assignments.iter().map(|a| named(&a.target)).collect();
    let Some(assignment) = assignments.first() else {
        return out;
    };
    let kind = match &assignment.target {
        Target::Boards(_) => "Boards",
        Target::Hardware(_) => "Every board of hardware",
    };
    let secrets: usize = assignments.iter().map(|a| a.secrets.len()).sum();
    let sealed = match secrets {
        0 => String::new(),
        n => format!(
            "It brings {n} secrets; each is sealed to its board, and nobody else can read it.\n"
        ),
    };
    let result = match assignment.result {
        true => {
            "Each board leaves a file coracle/result-BOARD.json here that says what became of it.\n"
        }
        false => "",
    };
    let _ = write!(
        out,
        "Coracle update stick\n\
         ====================\n\n\
         Product:  {} {}\n\
         {kind}:  {}\n\
         Stick number:  {}\n\
         Made:     {}\n\
         Use until {} (release: {})\n\
         Release:  {}\n\n\
         Apps:\n",
        r.product,
        r.version,
        names.join(", "),
        assignment.seq,
        human::date(assignment.issued_at),
        human::date(assignment.expires),
        human::date(r.expires),
        file.digest,
    );
    if let Some(agent) = &r.agent {
        let (name, size) = (&agent.image.name, agent.program.size);
        let _ = writeln!(
            out,
            "  the board's own program {}  {name}  {}",
            agent.version,
            human::bytes(size)
        );
    }
    for app in &r.apps {
        let bytes: u64 = app.image.layers.iter().map(|layer| layer.size).sum();
        let _ = writeln!(
            out,
            "  {}  {}  {}",
            app.name,
            app.image.name,
            human::bytes(bytes)
        );
    }
    let _ = write!(
        out,
        "\n{} deltas from older versions are here too; a board takes what it can use.\n\n\
         To install: plug the stick in, or run on the board\n\n\
         \x20   coracle usb apply /path/to/this/stick\n\n\
         {result}{sealed}Nothing on this stick needs to be kept secret, and nothing on it can be changed:\n\
         boards check signatures and digests, and refuse a stick that is older than what they run.\n",
        deltas.len(),
    );
    out.replace('\n', "\r\n")
}
