//! Whatever bytes come in, reading them never panics, and what is read is within the rules.

use coracle_protocol::desired::Desired;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::key::{PublicKey, SigningKey};
use coracle_protocol::local::{Call, Message};
use coracle_protocol::names::{AppName, BoardId, VolumeName};
use coracle_protocol::release::SignedRelease;
use coracle_protocol::root::{ROOT_TYPE, Root, TrustedRoot};
use coracle_protocol::stick::Stick;
use coracle_protocol::topics::{Separator, Topic};
use coracle_protocol::verify::{VerifiedDeploy, VerifiedRelease};
use proptest::prelude::*;
use serde_json::Value;
use std::sync::LazyLock;

/// A good envelope's bytes and the root that it is good under.
static HONEST: LazyLock<(TrustedRoot, [Vec<u8>; 3])> = LazyLock::new(|| {
    let read = |file: &str| {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks/honest/");
        std::fs::read(format!("{dir}{file}")).unwrap()
    };
    let files = ["root.json", "release.json", "deploy.json"].map(read);
    let root = TrustedRoot::from_image(&Envelope::parse(&files[0]).unwrap()).unwrap();
    (root, files)
});

/// What every reader does with bytes that say they are an envelope.
fn open(json: &[u8]) {
    let root = &HONEST.0;
    let Ok(envelope) = Envelope::parse(json) else {
        return;
    };
    let _ = TrustedRoot::from_image(&envelope);
    let _ = root.next(&envelope);
    let _ = VerifiedRelease::open(&envelope, root);
    let _ = VerifiedDeploy::open(&envelope, root);
}

/// JSON of any shape.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::hash_map(".{0,8}", inner, 0..6)
                .prop_map(|m| m.into_iter().collect()),
        ]
    })
}

/// Every place in a document, as a JSON pointer.
fn places(value: &Value, at: String, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(k, v)| places(v, format!("{at}/{k}"), out)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(n, v)| places(v, format!("{at}/{n}"), out)),
        _ => {}
    }
    out.push(at);
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        open(&bytes);
        let _ = Stick::parse(&bytes);
        let _ = serde_json::from_slice::<Desired>(&bytes);
        let _ = serde_json::from_slice::<Call>(&bytes);
        let _ = serde_json::from_slice::<Message>(&bytes);
    }

    #[test]
    fn good_envelopes_with_bytes_changed(
        which in 0usize..3,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = HONEST.1[which].clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        open(&bytes);
    }

    /// Signed by the right key, so that everything behind the signature is reached.
    #[test]
    fn signed_documents_with_a_value_changed(
        which in 0usize..3, place in any::<prop::sample::Index>(), value in json(),
    ) {
        let (root, files) = &*HONEST;
        let envelope = Envelope::parse(&files[which]).unwrap();
        let mut body: Value =
            serde_json::from_slice(&envelope.payload_unverified().unwrap()).unwrap();
        let mut all = Vec::new();
        places(&body, String::new(), &mut all);
        *body.pointer_mut(&all[place.index(all.len())]).unwrap() = value;
        let mut signed = Envelope::unsigned(&envelope.payload_type, body.to_string().as_bytes());
        for byte in [1, 2, 11, 21] {
            let mut document = vec![
                0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
                0x04, 0x20,
            ];
            document.extend([byte; 32]);
            signed.sign(&SigningKey::from_pkcs8(&document).unwrap()).unwrap();
        }
        let _ = TrustedRoot::from_image(&signed);
        let _ = root.next(&signed);
        // What is accepted is within the rules and survives being written and read.
        if let Ok(release) = VerifiedRelease::open(&signed, root) {
            prop_assert_eq!(release.document().check(), Ok(()));
            let json = serde_json::to_vec(release.document()).unwrap();
            prop_assert_eq!(&serde_json::from_slice::<SignedRelease>(&json).unwrap(), release.document());
        }
        if let Ok(deploy) = VerifiedDeploy::open(&signed, root) {
            prop_assert_eq!(deploy.document().check(), Ok(()));
        }
        if signed.payload_type == ROOT_TYPE && let Ok(root) = serde_json::from_value::<Root>(body) {
            let json = serde_json::to_vec(&root).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Root>(&json).unwrap(), root);
        }
    }

    #[test]
    fn names_are_plain(text in ".{0,60}") {
        for ok in [AppName::new(&text).is_ok(), VolumeName::new(&text).is_ok()] {
            if ok {
                let plain = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
                prop_assert!(plain && (1..=48).contains(&text.len()));
            }
        }
    }

    #[test]
    fn labels_are_names(tenant in "[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", name in "[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?") {
        let board = BoardId::new(&format!("{tenant}.{name}")).unwrap();
        prop_assert_eq!((board.tenant(), board.name()), (tenant.as_str(), name.as_str()));
        for topic in [Topic::Desired, Topic::Current, Topic::Feedback, Topic::Presence, Topic::Telemetry] {
            for separator in [Separator::Dot, Separator::Colon] {
                let text = topic.of(&board, separator);
                prop_assert_eq!(Topic::parse(&text, separator), Some((board.clone(), topic)));
            }
        }
    }

    #[test]
    fn topics_of_any_text(text in ".{0,80}") {
        for separator in [Separator::Dot, Separator::Colon] {
            if let Some((board, topic)) = Topic::parse(&text, separator) {
                prop_assert_eq!(&topic.of(&board, separator), &text);
            }
        }
    }

    #[test]
    fn keys_from_any_bytes(bytes in any::<[u8; 32]>()) {
        if let Ok(key) = PublicKey::from_bytes(bytes) {
            let text: String = key.into();
            prop_assert_eq!(PublicKey::try_from(text).unwrap(), key);
        }
    }
}
