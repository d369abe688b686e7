//! Keys in a token, with SoftHSM2 as the token.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use support::{Place, Ran};

const MODULES: [&str; 2] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

fn module() -> &'static str {
    let found = MODULES.into_iter().find(|path| Path::new(path).exists());
    found.expect("this test needs SoftHSM2: apt install softhsm2")
}

/// A folder with a token `build` whose PIN is 1234.
struct Tokens {
    place: Place,
}

impl Tokens {
    fn new() -> Self {
        let place = Place::with_keys();
        std::fs::create_dir(place.path("tokens")).unwrap();
        let folder = place.path("tokens").display().to_string();
        place.write(
            "softhsm2.conf",
            format!("directories.tokendir = {folder}\nobjectstore.backend = file\n"),
        );
        place.write("pin", "1234\n");
        place.write("wrong", "4321\n");
        let this = Self { place };
        this.make("build");
        this
    }

    fn make(&self, label: &str) {
        let made = Command::new("softhsm2-util")
            .env("SOFTHSM2_CONF", self.place.path("softhsm2.conf"))
            .args([
                "--init-token",
                "--free",
                "--label",
                label,
                "--pin",
                "1234",
                "--so-pin",
                "5678",
            ])
            .output()
            .expect("this test needs softhsm2-util: apt install softhsm2");
        assert!(made.status.success(), "{made:?}");
    }

    fn run_with(&self, pin: Option<&str>, module: Option<&str>, line: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coracle-release"));
        command
            .current_dir(self.place.path(""))
            .env("SOFTHSM2_CONF", self.place.path("softhsm2.conf"))
            .env("SOURCE_DATE_EPOCH", support::NOW.to_string())
            .env_remove("CORACLE_PIN_FILE")
            .env_remove("CORACLE_PKCS11_MODULE")
            .args(line.split_whitespace())
            .stdin(Stdio::null());
        if let Some(pin) = pin {
            command.env("CORACLE_PIN_FILE", self.place.path(pin));
        }
        if let Some(module) = module {
            command.env("CORACLE_PKCS11_MODULE", module);
        }
        Ran::of(command.output().unwrap())
    }

    fn run(&self, line: &str) -> Ran {
        self.run_with(Some("pin"), Some(module()), line)
    }
}

#[test]
fn keys_in_a_token_sign_roots_and_releases() {
    let tokens = Tokens::new();
    let place = &tokens.place;
    for role in ["root", "release"] {
        let line = format!(
            "keys new --role {role} --output pkcs11:token=build;object={role} --public t-{role}.pub"
        );
        let said = tokens.run(&line).ok();
        assert!(
            said.contains("token `build`") && said.contains("does not leave it"),
            "{said}"
        );
    }
    // The token shows the same public half again, and has no second key of that name.
    tokens
        .run("keys public pkcs11:token=build;object=release --output again.pub")
        .ok();
    assert_eq!(place.read("again.pub"), place.read("t-release.pub"));
    tokens
        .run("keys new --role release --output pkcs11:token=build;object=release --public x.pub")
        .failed(1, &["has a private key `release`", "choose another object"]);

    // Two root keys, one in a file and one in the token; the release key in the token.
    tokens
        .run(
            "trust create --output r.json --root-key t-root.pub root-a.pk8.pub --root-threshold 2 \
              --release-key t-release.pub --deploy-key deploy.pk8.pub",
        )
        .ok();
    tokens.run("trust sign --key root-a.pk8 r.json").ok();
    tokens
        .run("trust sign --key pkcs11:token=build;object=root r.json")
        .ok();
    tokens.run("trust verify r.json").ok();
    tokens
        .run("trust sign --key pkcs11:object=release r.json")
        .failed(1, &["in role `release`", "not in role `root`"]);

    place.write("rootfs/web", "#!/bin/sh\n");
    tokens
        .run("image build --rootfs rootfs --entrypoint /web --output images --tag shop/web:1")
        .ok();
    place.write(
        "release.toml",
        "product = \"shop\"\nversion = \"1\"\nrelease_counter = 1\nexpires = \"90d\"\nhardware = [\"generic\"]\n\
         [[apps]]\nname = \"web\"\nimage = \"shop/web:1\"\n[apps.limits]\nmemory = \"32MiB\"\ncpu_millis = 100\npids = 8\n",
    );
    tokens
        .run("release create release.toml --images images --key pkcs11:token=build;object=release --root r.json --output rel.json")
        .ok();
    let shown = tokens.run("release show --root r.json rel.json").ok();
    assert!(shown.contains("signatures good under this root"), "{shown}");
}

#[test]
fn what_is_wrong_with_a_token_is_said_with_its_name_and_what_to_do() {
    let tokens = Tokens::new();
    tokens.make("other");
    tokens
        .run("keys new --role root --output pkcs11:token=build;object=root --public root.pub")
        .ok();
    let public = "keys public --output out.pub";
    let run = |uri: &str| tokens.run(&format!("{public} {uri}"));
    run("pkcs11:object=root").failed(1, &["2 tokens match", "`build`", "`other`"]);
    run("pkcs11:token=none;object=root").failed(1, &["0 tokens match", "slot", "`build`"]);
    run("pkcs11:token=build;object=roof")
        .failed(1, &["0 private keys of token `build`", "it has `root`"]);
    run("pkcs11:token=other;object=root").failed(1, &["token `other`", "it has none"]);
    let told = run("pkcs11:token=build;object=root?pin-value=8412");
    assert!(!told.err.contains("8412"), "{}", told.err);
    told.failed(2, &["CORACLE_PIN_FILE", "pin-source"]);
    run("pkcs11:token=build").failed(2, &["object=LABEL"]);
    tokens
        .run("keys new --role root --output pkcs11:token=build;object=x")
        .failed(2, &["--public FILE"]);
    tokens
        .run("keys new --role deploy --output pkcs11:token=build;object=x --public x.pub")
        .ok();

    let line = format!("{public} pkcs11:token=build;object=root");
    tokens
        .run_with(Some("wrong"), Some(module()), &line)
        .failed(1, &["token `build`", "the PIN is wrong"]);
    tokens.place.write("no-pin", "\n");
    tokens
        .run_with(Some("no-pin"), Some(module()), &line)
        .failed(
            1,
            &["the PIN of token `build`", "no-pin holds none", "not tried"],
        );
    tokens
        .run_with(None, None, &line)
        .failed(1, &["module-path=", "CORACLE_PKCS11_MODULE"]);
    tokens
        .run_with(Some("pin"), Some("/usr/lib/no-such.so"), &line)
        .failed(1, &["/usr/lib/no-such.so"]);
    // The URI's own file wins; nothing was written by what failed.
    let own = format!(
        "{public} pkcs11:token=build;object=root?module-path={}&pin-source=pin",
        module()
    );
    assert!(!tokens.place.path("out.pub").exists());
    tokens.run_with(Some("wrong"), None, &own).ok();
    assert_eq!(tokens.place.read("out.pub"), tokens.place.read("root.pub"));
}

#[test]
fn without_a_terminal_the_pins_file_is_asked_for() {
    let tokens = Tokens::new();
    // setsid: a session without a terminal, whatever the test runs in.
    let output = Command::new("setsid")
        .args([
            "--wait",
            env!("CARGO_BIN_EXE_coracle-release"),
            "keys",
            "public",
            "--output",
            "x.pub",
        ])
        .arg(format!(
            "pkcs11:token=build;object=root?module-path={}",
            module()
        ))
        .current_dir(tokens.place.path(""))
        .env("SOFTHSM2_CONF", tokens.place.path("softhsm2.conf"))
        .env_remove("CORACLE_PIN_FILE")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ran::of(output).failed(1, &["token `build`", "needs its PIN", "CORACLE_PIN_FILE"]);
}
