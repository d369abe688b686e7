//! A root, a release and an assignment, signed.

use coracle_protocol::Sha256Digest;
use coracle_protocol::deploy::{AssignmentRole, DEPLOY_TYPE, Deploy, Target};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::key::SigningKey;
use coracle_protocol::names::{AppName, BoardId, HardwareClass, ProductName};
use coracle_protocol::release::{
    App, AppLimits, Blob, Image, Layer, Network, RELEASE_TYPE, Release, Restart,
};
use coracle_protocol::root::{ROOT_TYPE, Role, RoleKeys, Root};
use std::collections::BTreeMap;

/// A far future, in Unix seconds.
const LATER: u64 = 4_000_000_000;

/// Bytes of an image configuration, a layer and a delta to it.
pub const CONFIG: &[u8] = b"{\"config\":1}";
pub const LAYER: &[u8] = b"the full layer, which is much longer than the delta to it";
pub const DELTA: &[u8] = b"the delta";

pub fn blob(bytes: &[u8]) -> Blob {
    Blob {
        digest: Sha256Digest::of(bytes),
        size: bytes.len() as u64,
    }
}

pub fn diff_id() -> Sha256Digest {
    Sha256Digest::of(b"unpacked")
}

pub struct Documents {
    pub root: Envelope,
    pub release: Envelope,
    pub deploy: Envelope,
    pub deployment: Sha256Digest,
    /// What the assignment says.
    pub assignment: Deploy,
    keys: BTreeMap<Role, SigningKey>,
}

impl Documents {
    /// Another assignment, by the key of a role.
    pub fn signed(&self, deploy: &Deploy, role: Role) -> Envelope {
        signed(DEPLOY_TYPE, deploy, &self.keys[&role])
    }

    /// The release of another version of the same.
    pub fn release_of(&self, version: &str) -> Envelope {
        let payload = self.release.payload_unverified().unwrap();
        let mut release: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        release["version"] = version.into();
        signed(RELEASE_TYPE, &release, &self.keys[&Role::Release])
    }
}

fn signed<T: serde::Serialize>(payload_type: &str, value: &T, key: &SigningKey) -> Envelope {
    let payload = serde_json::to_vec(value).unwrap();
    let mut envelope = Envelope::unsigned(payload_type, &payload);
    envelope.sign(key).unwrap();
    envelope
}

/// Documents for `board`, assignment number `seq`.
pub fn documents(board: &str, seq: u64) -> Documents {
    let roles = [Role::Root, Role::Release, Role::Deploy, Role::OfflineDeploy];
    let keys: BTreeMap<Role, SigningKey> = roles
        .into_iter()
        .map(|role| (role, SigningKey::generate().unwrap().0))
        .collect();
    let role = |role: &Role| RoleKeys {
        keys: vec![keys[role].public().key_id()],
        threshold: 1,
        epoch: 1,
    };
    let root = Root {
        spec_version: 1,
        critical: vec![],
        version: 1,
        issued_at: 1,
        expires: LATER,
        keys: keys
            .values()
            .map(|k| (k.public().key_id(), k.public()))
            .collect(),
        roles: keys.keys().map(|r| (*r, role(r))).collect(),
    };
    let release = Release {
        spec_version: 1,
        critical: vec![],
        product: ProductName::new("shop").unwrap(),
        version: "1.0".into(),
        epoch: 1,
        release_counter: 1,
        issued_at: 1,
        expires: LATER,
        hardware: [HardwareClass::new("generic-x86-64").unwrap()].into(),
        networks: vec![],
        agent: None,
        apps: vec![app()],
    };
    let release_envelope = signed(RELEASE_TYPE, &release, &keys[&Role::Release]);
    let payload = release_envelope.payload_unverified().unwrap();
    let deploy = Deploy {
        spec_version: 1,
        critical: vec![],
        role: AssignmentRole::Deploy,
        target: Target::Boards([BoardId::new(board).unwrap()].into()),
        release: blob(&payload),
        epoch: 1,
        seq,
        issued_at: 1,
        expires: LATER,
        deltas: vec![],
        site: BTreeMap::new(),
        secrets: vec![],
        result: false,
    };
    let assignment = deploy;
    let deploy = signed(DEPLOY_TYPE, &assignment, &keys[&Role::Deploy]);
    Documents {
        root: signed(ROOT_TYPE, &root, &keys[&Role::Root]),
        release: release_envelope,
        deployment: Sha256Digest::of(&deploy.payload_unverified().unwrap()),
        deploy,
        assignment,
        keys,
    }
}

fn app() -> App {
    App {
        name: AppName::new("web").unwrap(),
        image: Image {
            name: "shop/web:1".into(),
            manifest: blob(b"manifest"),
            config: blob(CONFIG),
            layers: vec![Layer {
                media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
                digest: blob(LAYER).digest,
                size: blob(LAYER).size,
                diff_id: diff_id(),
                unpacked_size: 1000,
                entries: None,
            }],
        },
        depends_on: Default::default(),
        update_lock: None,
        strategy: Default::default(),
        both_write: Default::default(),
        hooks: Default::default(),
        logs: Default::default(),
        args: vec![],
        init: false,
        env: BTreeMap::new(),
        secrets: Default::default(),
        site_settable: Default::default(),
        limits: AppLimits {
            memory_bytes: 64 << 20,
            cpu_millis: 500,
            pids: 20,
            ..AppLimits::default()
        },
        network: Network::default(),
        volumes: vec![],
        data_version: 1,
        tmpfs: vec![],
        binds: vec![],
        devices: vec![],
        read_only_root: false,
        user_namespace: None,
        health: None,
        restart: Restart::default(),
        trial_seconds: 1,
        critical: false,
        priority: 50,
        actions: vec![],
        stop_grace_seconds: 1,
    }
}
