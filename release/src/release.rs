//! The signed release: made, opened again before it is written, shown.

use crate::envelope_file::{self, EnvelopeFileError};
use crate::human;
use crate::keys::{Key, KeyFileError, SignError};
use coracle_protocol::Sha256Digest;
use coracle_protocol::dsse::{DsseError, Envelope};
use coracle_protocol::key::{KeyError, PublicKey, SigningKey};
use coracle_protocol::limits::LIMITS;
use coracle_protocol::release::{
    DeviceAccess, FIRST_DATA_VERSION, Health, HookKind, NamedLimits, Probe, RELEASE_TYPE,
    SignedRelease,
};
use coracle_protocol::root::{ROOT_TYPE, Role, RoleKeys, Root, RootError, TrustedRoot};
use coracle_protocol::verify::{Refusal, VerifiedRelease};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Why a release can't be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The envelope's file.
    #[error(transparent)]
    File(#[from] EnvelopeFileError),
    /// A key file.
    #[error("{0}")]
    Key(#[from] KeyFileError),
    /// Not a release.
    #[error("`{path}`: {fault}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        fault: String,
    },
    /// Boards would refuse it.
    #[error("boards would refuse this document")]
    Refused(#[source] Refusal),
    /// The key is in no such role of the root.
    #[error("key {key} is not in role `{role}` of the root")]
    NotInRole {
        /// The key's hint.
        key: String,
        /// The role.
        role: Role,
    },
    /// The document can't be opened for a check.
    #[error("checking the document")]
    Check(#[source] RootError),
    /// Signing.
    #[error("signing")]
    Sign(#[source] SignError),
    /// A document that boards would not read.
    #[error("signing")]
    Envelope(#[source] DsseError),
    /// A key for the check.
    #[error("making a key for the check")]
    NoKey(#[source] KeyError),
}

/// Signs a document of `role`, and opens it as a board would. With a `root` it must be good under that;
/// otherwise under a root that names this key and nothing else.
pub struct Signer {
    key: Key,
    role: Role,
    root: TrustedRoot,
    /// More keys must sign: the document can't be opened yet.
    partial: bool,
}

impl Signer {
    /// For documents of `role`. `epoch`: of the role, where no root says it.
    pub fn new(
        key: Key,
        role: Role,
        root: Option<TrustedRoot>,
        epoch: u64,
    ) -> Result<Self, ReleaseError> {
        let root = match root {
            Some(root) => root,
            None => stand_in(key.public(), role, epoch)?,
        };
        let (keys, threshold, _) = root.role(role).unwrap_or_default();
        if !keys.contains(&key.public()) {
            return Err(ReleaseError::NotInRole {
                key: key.public().key_id(),
                role,
            });
        }
        Ok(Self {
            key,
            role,
            root,
            partial: threshold > 1,
        })
    }

    /// Epoch of the role.
    pub fn epoch(&self) -> u64 {
        self.root.role(self.role).map_or(0, |(_, _, epoch)| epoch)
    }

    /// Signs.
    pub fn sign(&self, payload_type: &str, payload: &[u8]) -> Result<Envelope, ReleaseError> {
        let mut envelope = Envelope::unsigned(payload_type, payload);
        self.key.sign(&mut envelope).map_err(ReleaseError::Sign)?;
        // What `Envelope::parse` refuses on the board is refused here.
        Envelope::parse(&envelope.to_json()).map_err(ReleaseError::Envelope)?;
        Ok(envelope)
    }

    /// The root that documents are checked under; `None` while further keys have to sign.
    pub fn root(&self) -> Option<&TrustedRoot> {
        (!self.partial).then_some(&self.root)
    }
}

/// A root for the check alone: it names `key` in `role`, and is signed by a key that is thrown away.
fn stand_in(key: PublicKey, role: Role, epoch: u64) -> Result<TrustedRoot, ReleaseError> {
    let (root_key, _) = SigningKey::generate().map_err(ReleaseError::NoKey)?;
    let entry = |public: PublicKey, epoch| RoleKeys {
        keys: vec![public.key_id()],
        threshold: 1,
        epoch,
    };
    let document = Root {
        spec_version: 1,
        critical: Vec::new(),
        version: 1,
        issued_at: 0,
        expires: LIMITS.integer,
        keys: [root_key.public(), key]
            .into_iter()
            .map(|k| (k.key_id(), k))
            .collect(),
        roles: BTreeMap::from([
            (Role::Root, entry(root_key.public(), 0)),
            (role, entry(key, epoch)),
        ]),
    };
    let payload = serde_json::to_vec(&document)
        .map_err(|e| ReleaseError::Check(RootError::Malformed(e.to_string())))?;
    let mut envelope = Envelope::unsigned(ROOT_TYPE, &payload);
    envelope.sign(&root_key).map_err(ReleaseError::Envelope)?;
    TrustedRoot::from_image(&envelope).map_err(ReleaseError::Check)
}

/// Signs a release and opens it again.
pub fn sign(
    release: &SignedRelease,
    signer: &Signer,
    path: &Path,
) -> Result<Envelope, ReleaseError> {
    let payload = serde_json::to_vec(release).map_err(|e| ReleaseError::Malformed {
        path: path.to_owned(),
        fault: e.to_string(),
    })?;
    let envelope = signer.sign(RELEASE_TYPE, &payload)?;
    if let Some(root) = signer.root() {
        VerifiedRelease::open(&envelope, root).map_err(ReleaseError::Refused)?;
    }
    Ok(envelope)
}

/// A release file as it is, whoever signed it.
#[derive(Debug, Clone)]
pub struct ReleaseEnvelope {
    /// The envelope.
    pub envelope: Envelope,
    /// The release in it.
    pub release: SignedRelease,
    /// SHA-256 of the payload: what assignments name.
    pub digest: Sha256Digest,
    /// Bytes of the payload.
    pub size: u64,
}

/// Reads a release file; held against the protocol's rules, and with a root against its signatures.
pub fn read(path: &Path, root: Option<&TrustedRoot>) -> Result<ReleaseEnvelope, ReleaseError> {
    let in_envelope = envelope_file::at(path);
    let malformed = |fault| ReleaseError::Malformed {
        path: path.to_owned(),
        fault,
    };
    let envelope = envelope_file::read(path)?;
    if envelope.payload_type != RELEASE_TYPE {
        let other = DsseError::PayloadType {
            expected: RELEASE_TYPE,
            got: envelope.payload_type.chars().take(80).collect(),
        };
        return Err(in_envelope(other).into());
    }
    let payload = envelope.payload_unverified().map_err(in_envelope)?;
    let release: SignedRelease =
        serde_json::from_slice(&payload).map_err(|e| malformed(e.to_string()))?;
    release.check().map_err(malformed)?;
    if let Some(root) = root {
        VerifiedRelease::open(&envelope, root).map_err(ReleaseError::Refused)?;
    }
    Ok(ReleaseEnvelope {
        envelope,
        digest: Sha256Digest::of(&payload),
        size: payload.len() as u64,
        release,
    })
}

/// A release in words.
pub fn describe(file: &ReleaseEnvelope) -> String {
    let r = &file.release;
    let mut out = String::new();
    let hardware: Vec<&str> = r.hardware.iter().map(|h| h.as_str()).collect();
    let signers: Vec<&str> = file
        .envelope
        .signatures
        .iter()
        .map(|s| s.keyid.as_str())
        .collect();
    let _ = writeln!(
        out,
        "{} {} (counter {}, epoch {})",
        r.product, r.version, r.release_counter, r.epoch
    );
    let _ = writeln!(out, "digest {}", file.digest);
    let _ = writeln!(
        out,
        "issued {}, expires {}",
        human::date(r.issued_at),
        human::date(r.expires)
    );
    let _ = writeln!(out, "hardware {}", hardware.join(", "));
    let _ = writeln!(out, "signed by {}", signers.join(", "));
    if let Some(agent) = &r.agent {
        let (name, size) = (&agent.image.name, human::bytes(agent.program.size));
        let (version, counter) = (&agent.version, agent.counter);
        let _ = writeln!(
            out,
            "agent {version}: counter {counter}, {size}, image {name}"
        );
    }
    for app in &r.apps {
        let bytes: u64 = app.image.layers.iter().map(|layer| layer.size).sum();
        let unpacked: u64 = app
            .image
            .layers
            .iter()
            .map(|layer| layer.unpacked_size)
            .sum();
        // Of all layers, or of none.
        let entries: Option<u64> = app.image.layers.iter().map(|layer| layer.entries).sum();
        let entries = entries.map_or_else(String::new, |count| format!(", {count} members"));
        let _ = writeln!(out, "app {}", app.name);
        let _ = writeln!(
            out,
            "  image {}: {} layers, {} ({} unpacked{entries})",
            app.image.name,
            app.image.layers.len(),
            human::bytes(bytes),
            human::bytes(unpacked)
        );
        let _ = writeln!(out, "  limits {}", limits(&app.limits));
        for (what, bytes) in [
            ("memory that nobody takes back", app.limits.memory_min_bytes),
            (
                "memory that is taken back last",
                app.limits.memory_reservation_bytes,
            ),
            ("memory and swap", app.limits.memory_swap_bytes),
        ] {
            if let Some(bytes) = bytes {
                let _ = writeln!(out, "  {what} {}", human::bytes(bytes));
            }
        }
        if app.limits.oom_group {
            let _ = writeln!(out, "  out of memory ends all of its processes");
        }
        if let Some(burst) = app.limits.cpu_burst_micros {
            let _ = writeln!(out, "  CPU that it may save up {burst} µs");
        }
        if let Some(cpus) = app.limits.cpus_exclusive {
            let _ = writeln!(out, "  CPUs of its own {cpus}");
        }
        if let Some(disk) = app.limits.disk_bytes {
            let _ = writeln!(out, "  writable layer {}", human::bytes(disk));
        }
        for on in &app.network.networks {
            let _ = writeln!(out, "  network {}", on.name);
        }
        for port in &app.network.ports {
            let _ = writeln!(out, "  port {} → {}", port.host, port.container);
        }
        for volume in &app.volumes {
            let size = volume.size_bytes.map_or_else(
                || "the board's limit".to_owned(),
                |size| human::bytes(size).to_string(),
            );
            let _ = writeln!(out, "  volume {} at {}, {size}", volume.name, volume.target);
        }
        if app.data_version > FIRST_DATA_VERSION {
            let version = app.data_version;
            let _ = writeln!(out, "  data version {version} in its volumes");
        }
        for tmpfs in &app.tmpfs {
            let size = human::bytes(tmpfs.size_bytes);
            let _ = writeln!(out, "  memory at {}, {size}", tmpfs.target);
        }
        for bind in &app.binds {
            let _ = writeln!(out, "  the board's {} at {}", bind.source, bind.target);
        }
        if app.critical {
            let _ = writeln!(out, "  critical: the board may be reset for it");
        }
        for device in &app.devices {
            let access = match device.access {
                DeviceAccess::ReadWrite => "",
                DeviceAccess::Read => ", to read",
            };
            let optional = if device.optional { ", optional" } else { "" };
            let _ = writeln!(out, "  device {}{access}{optional}", device.name);
        }
        if app.is_handed_over() {
            let _ = writeln!(out, "  started beside the version that runs");
        }
        let _ = writeln!(out, "  health {}", health(app.health.as_ref()));
        for action in &app.actions {
            let (seconds, argv) = (action.timeout_seconds, action.argv.join(" "));
            let _ = writeln!(out, "  action {}: {argv}, {seconds} s at most", action.name);
        }
        for kind in [HookKind::PreStart, HookKind::PostStart, HookKind::PreStop] {
            if let Some((argv, timeout)) = app.hook(kind) {
                let seconds = timeout.as_secs();
                let _ = writeln!(out, "  {kind} {}, {seconds} s at most", argv.join(" "));
            }
        }
    }
    out
}

/// What a release leaves out is another number on each kind of board.
fn limits(limits: &NamedLimits) -> String {
    let or_the_boards =
        |named: Option<String>| named.unwrap_or_else(|| "the board's default".to_owned());
    let memory = limits
        .memory_bytes
        .map(|bytes| human::bytes(bytes).to_string());
    let cpu = limits.cpu_millis.map(|millis| format!("{millis} m"));
    let pids = limits.pids.map(|pids| pids.to_string());
    format!(
        "memory {}, cpu {}, pids {}",
        or_the_boards(memory),
        or_the_boards(cpu),
        or_the_boards(pids)
    )
}

fn health(health: Option<&Health>) -> String {
    let asked = match health.map(|h| &h.probe) {
        None => "none: it counts as healthy while it runs".into(),
        Some(Probe::Http { port, path }) => format!("GET :{port}{path}"),
        Some(Probe::Tcp { port }) => format!("connect to :{port}"),
        Some(Probe::Exec { argv }) => format!("run {}", argv.join(" ")),
    };
    let Some(health) = health else { return asked };
    let times = [
        health.interval_ms,
        health.timeout_ms,
        health.start_period_ms,
    ];
    let [interval, timeout, start] =
        times.map(|milliseconds| format!("{} s", f64::from(milliseconds) / 1000.0));
    format!(
        "{asked}, each {interval}, {timeout} at most, {} failures count, not in the first {start}",
        health.retries
    )
}
