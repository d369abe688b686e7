//! Bytes that say they are an envelope, against a good root: nothing unsigned may pass.

use coracle_protocol::dsse::Envelope;
use coracle_protocol::root::TrustedRoot;
use coracle_protocol::verify::{VerifiedDeploy, VerifiedRelease};
use std::sync::LazyLock;

const HONEST: [&[u8]; 3] = [
    include_bytes!("../../protocol/tests/attacks/honest/root.json"),
    include_bytes!("../../protocol/tests/attacks/honest/release.json"),
    include_bytes!("../../protocol/tests/attacks/honest/deploy.json"),
];

static ROOT: LazyLock<(TrustedRoot, [Vec<u8>; 3])> = LazyLock::new(|| {
    let envelopes = HONEST.map(|json| Envelope::parse(json).expect("a good envelope"));
    let root = TrustedRoot::from_image(&envelopes[0]).expect("a good root");
    (
        root,
        envelopes.map(|e| e.payload_unverified().expect("base64")),
    )
});

pub fn run(bytes: &[u8]) {
    let (root, payloads) = &*ROOT;
    let Ok(envelope) = Envelope::parse(bytes) else {
        return;
    };
    let _ = TrustedRoot::from_image(&envelope);
    let payload = envelope.payload_unverified();
    if VerifiedRelease::open(&envelope, root).is_ok() {
        assert_eq!(payload.as_ref(), Ok(&payloads[1]), "a forged release");
    }
    if VerifiedDeploy::open(&envelope, root).is_ok() {
        assert_eq!(payload.as_ref(), Ok(&payloads[2]), "a forged assignment");
    }
    assert!(root.next(&envelope).is_err(), "a forged root");
}
