use super::*;
use coracle_protocol::deploy::{AssignmentRole, DEPLOY_TYPE, Deploy};
use coracle_protocol::key::SigningKey;
use coracle_protocol::names::{HardwareClass, ProductName};
use coracle_protocol::release::{Blob, RELEASE_TYPE};
use coracle_protocol::root::{ROOT_TYPE, Role, RoleKeys, Root};

const DEFAULTS: DefaultLimits = DefaultLimits {
    memory_bytes: 1 << 20,
    cpu_millis: 100,
    pids: 1,
};

fn sign(kind: &str, document: &impl Serialize, key: &SigningKey) -> Envelope {
    let mut envelope = Envelope::unsigned(kind, &serde_json::to_vec(document).unwrap());
    envelope.sign(key).unwrap();
    envelope
}

/// Of a release of its own.
impl From<App> for SetApp {
    fn from(app: App) -> Self {
        let release = Release {
            spec_version: 1,
            critical: vec![],
            product: ProductName::new("shop").unwrap(),
            version: "1".into(),
            epoch: 1,
            release_counter: 1,
            issued_at: 1,
            expires: 2_000_000_000,
            hardware: BTreeSet::new(),
            networks: vec![],
            agent: None,
            apps: vec![app],
        };
        Self {
            release: Arc::new(release),
            at: 0,
        }
    }
}

/// A set without apps: what the journal does depends on documents alone.
fn set(version: &str) -> StoredSet {
    let [offline, online] = [(); 2].map(|()| SigningKey::generate().unwrap().0);
    let role = |role, key: &SigningKey| {
        let keys = RoleKeys {
            keys: vec![key.public().key_id()],
            threshold: 1,
            epoch: 1,
        };
        (role, keys)
    };
    let root = Root {
        spec_version: 1,
        critical: vec![],
        version: 1,
        issued_at: 1,
        expires: 2_000_000_000,
        keys: [&offline, &online]
            .map(|key| (key.public().key_id(), key.public()))
            .into(),
        roles: BTreeMap::from([
            role(Role::Root, &offline),
            role(Role::Release, &offline),
            role(Role::Deploy, &online),
        ]),
    };
    let release: Release = Release {
        spec_version: 1,
        critical: vec![],
        product: ProductName::new("shop").unwrap(),
        version: version.into(),
        epoch: 1,
        release_counter: 1,
        issued_at: 1,
        expires: 2,
        hardware: BTreeSet::from([HardwareClass::new("pc").unwrap()]),
        networks: vec![],
        agent: None,
        apps: vec![],
    };
    let payload = serde_json::to_vec(&release).unwrap();
    let deploy = Deploy {
        spec_version: 1,
        critical: vec![],
        role: AssignmentRole::Deploy,
        target: Target::Boards(BTreeSet::from([BoardId::new("acme.one").unwrap()])),
        release: Blob {
            digest: Sha256Digest::of(&payload),
            size: payload.len() as u64,
        },
        epoch: 1,
        seq: 1,
        issued_at: 1,
        expires: 2,
        deltas: vec![],
        site: BTreeMap::new(),
        secrets: vec![],
        result: false,
    };
    StoredSet {
        set_version: 1,
        activity: format!("activity {version}"),
        root: sign(ROOT_TYPE, &root, &offline),
        deploy: sign(DEPLOY_TYPE, &deploy, &online),
        release: sign(RELEASE_TYPE, &release, &offline),
        configs: BTreeMap::new(),
    }
}

fn versions(journal: &Journal) -> [Option<String>; 3] {
    let found = journal.load().unwrap();
    let version = |set: &Option<DeployedSet>| set.as_ref().map(|set| set.release().version.clone());
    [
        version(&found.current),
        version(&found.previous),
        version(&found.trial),
    ]
}

fn some(version: &str) -> Option<String> {
    Some(version.to_owned())
}

#[test]
fn a_trial_becomes_current_or_nothing_and_long_expired_sets_still_open() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path(), DEFAULTS).unwrap();
    assert_eq!(versions(&journal), [None, None, None]);
    journal.record(&set("1")).unwrap();
    assert_eq!(versions(&journal), [None, None, some("1")]);
    journal.keep().unwrap();
    journal.record(&set("2")).unwrap();
    assert_eq!(versions(&journal), [some("1"), None, some("2")]);
    journal.keep().unwrap();
    assert_eq!(versions(&journal), [some("2"), some("1"), None]);
    journal.record(&set("3")).unwrap();
    let failure = Failure {
        deployment: Sha256Digest::of(b"3"),
        activity: "activity 3".into(),
        code: "unhealthy".into(),
        reason: "no answer".into(),
        over: false,
    };
    journal.forget(Some(&failure)).unwrap();
    assert_eq!(versions(&journal), [some("2"), some("1"), None]);
    assert_eq!(journal.load().unwrap().failure, Some(failure.clone()));
    let failure = Failure {
        over: true,
        ..failure
    };
    journal.note(&failure).unwrap();
    assert_eq!(journal.load().unwrap().failure, Some(failure));
}

/// As on a full disk.
#[test]
fn a_trial_goes_also_where_its_failure_cannot_be_noted() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path(), DEFAULTS).unwrap();
    journal.record(&set("1")).unwrap();
    std::fs::create_dir(folder.path().join("failure.json.new")).unwrap();
    let failure = Failure {
        deployment: Sha256Digest::of(b"1"),
        activity: "activity 1".into(),
        code: "volume-copy".into(),
        reason: "no room".into(),
        over: false,
    };
    journal.forget(Some(&failure)).unwrap_err();
    assert_eq!(versions(&journal), [None, None, None]);
}

/// The two writes of `keep`, cut between: the old set is current, and there is a trial to take back.
#[test]
fn a_cut_inside_keep_leaves_the_old_set() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path(), DEFAULTS).unwrap();
    journal.record(&set("1")).unwrap();
    journal.keep().unwrap();
    journal.record(&set("2")).unwrap();
    let current = std::fs::read(folder.path().join("current.json")).unwrap();
    std::fs::write(folder.path().join("previous.json"), current).unwrap();
    assert_eq!(versions(&journal), [some("1"), some("1"), some("2")]);
    assert!(journal.load().unwrap().has_trial);
}

#[test]
fn a_damaged_set_is_set_aside_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path(), DEFAULTS).unwrap();
    for version in ["1", "2"] {
        journal.record(&set(version)).unwrap();
        journal.keep().unwrap();
    }
    let path = folder.path().join("current.json");
    // Whole JSON, but with another release than the one that was signed.
    let mut stored: StoredSet = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    stored.release = set("evil").release;
    std::fs::write(&path, serde_json::to_vec(&stored).unwrap()).unwrap();
    assert_eq!(versions(&journal), [None, some("1"), None]);
    assert!(folder.path().join("current.json.bad").exists());
    std::fs::write(folder.path().join("trial.json"), b"{\"set_ver").unwrap();
    let found = journal.load().unwrap();
    assert!(found.has_trial && found.trial.is_none());
}
