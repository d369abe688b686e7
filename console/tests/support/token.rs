//! A token for the console's keys: SoftHSM2, in a fleet's folder.

use super::Fleet;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::fs;
use std::path::Path;
use std::process::Command;

const MODULES: [&str; 2] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

/// What a console needs in its environment.
pub type Environment = Vec<(&'static str, String)>;

/// Makes a token `fleet` whose PIN is 1234.
pub fn make(fleet: &Fleet) -> Environment {
    let folder = fleet.path("tokens");
    fs::create_dir(&folder).unwrap();
    let settings = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\n",
        folder.display()
    );
    fs::write(fleet.path("softhsm2.conf"), settings).unwrap();
    fs::write(fleet.path("pin"), "1234\n").unwrap();
    softhsm2(
        fleet,
        "--init-token --free --label fleet --pin 1234 --so-pin 5678",
    );
    let module = MODULES.into_iter().find(|path| Path::new(path).exists());
    let of = |name: &str| fleet.path(name).display().to_string();
    vec![
        ("SOFTHSM2_CONF", of("softhsm2.conf")),
        ("CORACLE_PIN_FILE", of("pin")),
        (
            "CORACLE_PKCS11_MODULE",
            module
                .expect("this test needs SoftHSM2: apt install softhsm2")
                .into(),
        ),
    ]
}

/// Moves a key, PKCS#8 in PEM, into the token.
pub fn import(fleet: &Fleet, pem: &Path, label: &str, id: &str) {
    let pem = pem.display();
    softhsm2(
        fleet,
        &format!("--import {pem} --token fleet --label {label} --id {id} --pin 1234"),
    );
}

fn softhsm2(fleet: &Fleet, line: &str) {
    let done = Command::new("softhsm2-util")
        .env("SOFTHSM2_CONF", fleet.path("softhsm2.conf"))
        .args(line.split(' '))
        .output()
        .expect("this test needs softhsm2-util: apt install softhsm2");
    assert!(done.status.success(), "{done:?}");
}

/// Moves the fleet's deploy key from its file into the token.
pub fn import_deploy_key(fleet: &Fleet) {
    // OpenSSL, which softhsm2-util reads with, knows no public half inside (RFC 8410 without RFC 5958).
    let mut key = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    key.extend_from_slice(&fs::read(fleet.path("deploy.pk8")).unwrap()[16..48]);
    let key = BASE64_STANDARD.encode(key);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
    let file = fleet.path("deploy.pem");
    fs::write(&file, pem).unwrap();
    import(fleet, &file, "deploy", "01");
    fs::remove_file(fleet.path("deploy.pk8")).unwrap();
    fs::remove_file(file).unwrap();
}

/// Takes the token away.
pub fn away(fleet: &Fleet) {
    fs::rename(fleet.path("tokens"), fleet.path("away")).unwrap();
}

/// Puts it back.
pub fn back(fleet: &Fleet) {
    fs::rename(fleet.path("away"), fleet.path("tokens")).unwrap();
}
