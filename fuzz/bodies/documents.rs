//! What is behind a good signature: the documents themselves. What passes the checks must be the same
//! after it was written and read.

use coracle_protocol::command::Command;
use coracle_protocol::deploy::Deploy;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::release::SignedRelease;
use coracle_protocol::root::{ROOT_TYPE, Root, TrustedRoot};

pub fn run(bytes: &[u8]) {
    if let Ok(release) = serde_json::from_slice::<SignedRelease>(bytes)
        && release.check().is_ok()
    {
        let json = serde_json::to_vec(&release).expect("JSON");
        assert_eq!(
            serde_json::from_slice::<SignedRelease>(&json).expect("a release"),
            release
        );
    }
    if let Ok(deploy) = serde_json::from_slice::<Deploy>(bytes)
        && deploy.check().is_ok()
    {
        let json = serde_json::to_vec(&deploy).expect("JSON");
        assert_eq!(
            serde_json::from_slice::<Deploy>(&json).expect("an assignment"),
            deploy
        );
    }
    if let Ok(command) = serde_json::from_slice::<Command>(bytes)
        && command.check().is_ok()
    {
        let json = serde_json::to_vec(&command).expect("JSON");
        assert_eq!(
            serde_json::from_slice::<Command>(&json).expect("a command"),
            command
        );
    }
    if let Ok(root) = serde_json::from_slice::<Root>(bytes) {
        let json = serde_json::to_vec(&root).expect("JSON");
        assert_eq!(serde_json::from_slice::<Root>(&json).expect("a root"), root);
    }
    // The checks of a root lie behind its signatures; nobody signed this.
    assert!(TrustedRoot::from_image(&Envelope::unsigned(ROOT_TYPE, bytes)).is_err());
}
