//! The program as people run it: keys, root, image, release, stick; and what it says when it is wrong.

mod support;

use coracle_images::decompress::tar_stream;
use coracle_images::layout::LayerType;
use coracle_protocol::Sha256Digest;
use coracle_protocol::counters::Seen;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::names::{BoardId, HardwareClass};
use coracle_protocol::release::SignedRelease;
use coracle_protocol::root::TrustedRoot;
use coracle_protocol::stick::Stick;
use coracle_protocol::time::TimeBound;
use coracle_protocol::verify::{Board, VerifiedDeploy, VerifiedDeployment, VerifiedRelease};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::{NOW, Place, names, release_toml};

fn root(place: &Place) -> TrustedRoot {
    TrustedRoot::from_image(&Envelope::parse(&place.read("root.json")).unwrap()).unwrap()
}

/// All that a board does with a stick's documents.
fn accepted(place: &Place, stick: &Stick) -> VerifiedDeployment {
    let root = root(place);
    let release = VerifiedRelease::open(&stick.release, &root).unwrap();
    let deploy = VerifiedDeploy::open(&stick.deploy, &root).unwrap();
    let board = Board {
        id: &BoardId::new("acme.board-1").unwrap(),
        hardware: &HardwareClass::new("qemux86-64").unwrap(),
        seen: &Seen::default(),
        built_at: TimeBound::at(0),
    };
    VerifiedDeployment::accept(release, deploy, board, &[]).unwrap()
}

#[test]
fn keys_are_for_their_owner_and_never_replaced() {
    let place = Place::new();
    let said = place.run("keys new --role release --output k.pk8").ok();
    assert!(said.contains("release key"), "{said}");
    let mode = fs::metadata(place.path("k.pk8"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = place.read("k.pk8");
    place
        .run("keys new --role release --output k.pk8")
        .failed(1, &["k.pk8", "is there already"]);
    assert_eq!(place.read("k.pk8"), before);
}

#[test]
fn a_key_with_a_passphrase_signs_with_it_alone() {
    use std::process::Command;
    let place = Place::with_keys();
    place.write("right", "correct horse\n");
    place.write("wrong", "battery staple\n");
    let run = |line: &str, file: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_coracle-release"))
            .current_dir(place.path(""))
            .env("CORACLE_PASSPHRASE_FILE", file)
            .args(line.split_whitespace())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), said)
    };
    let made = run("keys new --role root --passphrase --output l.pk8", "right");
    assert_eq!(made.0, 0, "{}", made.1);
    place
        .run("trust create --output r.json --root-key l.pk8.pub --release-key release.pk8.pub --deploy-key deploy.pk8.pub")
        .ok();
    let (code, said) = run("trust sign --key l.pk8 r.json", "wrong");
    assert_eq!(code, 1);
    assert!(
        said.contains("does not open with this passphrase"),
        "{said}"
    );
    assert_eq!(run("trust sign --key l.pk8 r.json", "right").0, 0);
    place.run("trust verify r.json").ok();
    place
        .run("trust create --output x.json --root-key l.pk8 --release-key release.pk8.pub --deploy-key deploy.pk8.pub")
        .failed(1, &["l.pk8` is a private key"]);

    // OpenSSL opens it, and what OpenSSL locks is opened here.
    let openssl = |line: &str| {
        let done = Command::new("openssl")
            .current_dir(place.path(""))
            .args(line.split_whitespace())
            .output()
            .expect("this test needs `openssl`: apt install openssl");
        assert!(done.status.success(), "{line}: {done:?}");
    };
    openssl("genpkey -algorithm ed25519 -outform DER -out plain.der");
    openssl(
        "pkcs8 -topk8 -inform DER -in plain.der -v2 aes-256-cbc -scrypt -passout file:right -outform DER -out o.pk8",
    );
    openssl("pkey -inform DER -in plain.der -pubout -outform DER -out o.spki");
    let spki = place.read("o.spki");
    let raw: [u8; 32] = spki[spki.len() - 32..].try_into().unwrap();
    let public = coracle_protocol::key::PublicKey::from_bytes(raw).unwrap();
    place.write("o.pk8.pub", String::from(public));
    place
        .run("trust create --output o.json --root-key o.pk8.pub --release-key release.pk8.pub --deploy-key deploy.pk8.pub")
        .ok();
    assert_eq!(run("trust sign --key o.pk8 o.json", "right").0, 0);
    place.run("trust verify o.json").ok();
}

#[test]
fn a_root_says_what_it_lacks() {
    let place = Place::with_keys();
    let shown = place.run("root show root.json").ok();
    for line in [
        "root version 1",
        "signatures: 2 (complete)",
        "role root: 2 of 3, epoch 1",
        "role release: 1 of 1",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    place
        .run("root sign --key release.pk8 root.json")
        .failed(1, &["is in role `release`", "not in role `root`"]);
    place
        .run("root create --output r.json --root-key root-a.pk8.pub --release-key release.pk8.pub --deploy-key release.pk8.pub")
        .failed(1, &["r.json", "use two keys"]);
    place
        .run("root create --output r.json --root-key root-a.pk8.pub --root-threshold 2 --release-key release.pk8.pub --deploy-key deploy.pk8.pub")
        .failed(1, &["role `root` has threshold 2 with 1 distinct keys"]);
    place
        .run("root create --output r.json --root-key root-a.pk8 --release-key release.pk8.pub --deploy-key deploy.pk8.pub")
        .failed(1, &["root-a.pk8` is a private key"]);
    place
        .run("root create --output r.json --root-key root-a.pk8.pub --release-key release.pk8.pub --deploy-key deploy.pk8.pub --command-key release.pk8.pub")
        .failed(1, &["role `command`, which is online", "use two keys"]);
    assert!(!place.path("r.json").exists());
    place
        .run("root create --output c.json --root-key root-a.pk8.pub --release-key release.pk8.pub --deploy-key deploy.pk8.pub --command-key deploy.pk8.pub --command-epoch 3")
        .ok();
    let shown = place.run("root show c.json").ok();
    assert!(shown.contains("role command: 1 of 1, epoch 3"), "{shown}");
    place
        .run("root show release.pk8")
        .failed(1, &["release.pk8", "not a DSSE envelope"]);
}

#[test]
fn the_next_root_is_signed_by_old_and_new() {
    let place = Place::with_keys();
    place.run("keys new --role root --output root-d.pk8").ok();
    place
        .run(
            "root create --output next.json --version 2 --root-key root-b.pk8.pub root-c.pk8.pub root-d.pk8.pub \
             --root-threshold 2 --release-key release.pk8.pub --release-epoch 2 --deploy-key deploy.pk8.pub",
        )
        .ok();
    for key in ["root-c", "root-d"] {
        place
            .run(&format!("root sign --key {key}.pk8 next.json"))
            .ok();
    }
    let next =
        |place: &Place| root(place).next(&Envelope::parse(&place.read("next.json")).unwrap());
    assert!(next(&place).is_err(), "one old key is not enough");
    place
        .run("root sign --key root-a.pk8 next.json")
        .failed(1, &["role none"]);
    place
        .run("root sign --key root-a.pk8 --previous root.json next.json")
        .ok();
    assert_eq!(next(&place).unwrap().document().version, 2);
}

#[test]
fn people_sign_apart_and_their_parts_are_merged() {
    let place = Place::with_keys();
    let unsigned = "trust create --output new.json --root-key root-a.pk8.pub root-b.pk8.pub root-c.pk8.pub \
         --root-threshold 2 --release-key release.pk8.pub --deploy-key deploy.pk8.pub";
    place.run(unsigned).ok();
    let before = place.read("new.json");
    for name in ["a", "b"] {
        let line = format!("trust sign --key root-{name}.pk8 --output part.{name} new.json");
        let said = place.run(&line).ok();
        assert!(said.contains("1 signatures, more are needed"), "{said}");
    }
    assert_eq!(
        place.read("new.json"),
        before,
        "the document stays as it was"
    );
    let said = place
        .run("trust merge --output whole.json part.a part.b part.a")
        .ok();
    assert!(said.contains("2 signatures, complete"), "{said}");
    place.run("trust verify whole.json").ok();
    place
        .run("trust merge --output bad.json part.a root.json")
        .failed(1, &["root.json", "another document"]);
    assert!(!place.path("bad.json").exists());
}

#[test]
fn a_stolen_key_is_rotated_out() {
    let place = Place::with_keys();
    place.run("keys new --role release --output new.pk8").ok();
    place.run("keys new --role root --output root-d.pk8").ok();
    let hint = |file: &str| {
        let text = String::from_utf8(place.read(file)).unwrap();
        coracle_protocol::key::PublicKey::try_from(text.trim().to_owned())
            .unwrap()
            .key_id()
    };
    let (stolen, lost) = (hint("release.pk8.pub"), hint("root-a.pk8.pub"));
    place
        .run(&format!(
            "trust rotate --from root.json --output root-2.json --remove release={stolen} --add release=new.pk8.pub \
             --raise-epoch release --remove root={lost} --add root=root-d.pk8.pub"
        ))
        .ok();
    let shown = place.run("trust inspect root-2.json").ok();
    for line in [
        "root version 2",
        "role release: 1 of 1, epoch 2",
        "not enough yet",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    assert!(
        !shown.contains(&stolen) && !shown.contains(&lost),
        "{shown}"
    );
    for key in ["root-b", "root-d"] {
        place
            .run(&format!("trust sign --key {key}.pk8 root-2.json"))
            .ok();
    }
    place
        .run("trust verify root.json root-2.json")
        .failed(1, &["root-2.json", "1 of 2 required signatures"]);
    place
        .run("trust sign --previous root.json --key root-a.pk8 root-2.json")
        .ok();
    let said = place.run("trust verify root.json root-2.json").ok();
    assert!(said.contains("root version 2 holds"), "{said}");
    place
        .run("trust rotate --from root.json --output x.json --remove release=0123")
        .failed(1, &["0123", "role `release`", "trust inspect"]);
    place
        .run("trust rotate --from root.json --output x.json --add release=root-a.pk8.pub --threshold release=3")
        .failed(1, &["threshold 3 with 2 distinct keys"]);
}

#[test]
fn images_are_made_again_bit_for_bit() {
    let place = Place::new().with_images();
    for blob in names(&place.path("old/blobs/sha256")) {
        assert_eq!(
            place.read(&format!("old/blobs/sha256/{blob}")),
            place.read(&format!("images/blobs/sha256/{blob}"))
        );
    }
    place
        .run("image build --rootfs nowhere --entrypoint /x --output images --tag a:1")
        .failed(2, &["`nowhere` is no folder"]);
    place
        .run("image build --rootfs base --entrypoint /x --env NOVALUE --output images --tag a:1")
        .failed(2, &["`NOVALUE`", "NAME=VALUE"]);
}

/// Every field of the file, as the release that comes of it.
#[test]
fn the_whole_release_file() {
    let place = Place::with_keys().with_images();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    place.write("release.toml", fs::read(dir.join("release.toml")).unwrap());
    place.build("plain", "app-1", "shop/web:1", "none");
    let create = "release create release.toml --images plain --key release.pk8 --root root.json \
                  --platform linux/amd64 --output release.json";
    place.run(create).ok();
    let first = place.read("release.json");
    place.run(create).ok();
    assert!(
        place.read("release.json") == first,
        "the same input makes the same release"
    );

    let shown = place.run("release show --json release.json").ok();
    let golden = dir.join("release.json");
    if std::env::var_os("CORACLE_WRITE_GOLDEN").is_some() {
        fs::write(&golden, &shown).unwrap();
    }
    assert_eq!(shown, fs::read_to_string(golden).unwrap());
    let release: SignedRelease = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (release.issued_at, release.expires),
        (NOW, NOW + 90 * 86_400)
    );

    let words = place.run("release show --root root.json release.json").ok();
    for part in [
        "shop 2.0 (counter 7, epoch 1)",
        "hardware qemux86-64, raspberrypi4",
        "64.0 MiB",
        "memory that nobody takes back 8.0 MiB",
        "memory that is taken back last 16.0 MiB",
        "CPUs of its own 1",
        "GET :8080/healthz",
        "started beside the version that runs\n",
        "device gpio\n",
        "pre_start /bin/migrate --to 7, 120 s at most\n",
        "post_start /bin/register, 30 s at most\n",
        "pre_stop /bin/drain, 3 s at most\n",
        "device serial, to read, optional",
        "signatures good",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
}

/// Boards hold the count against their inodes; those from before it refuse a release that has it.
#[test]
fn the_files_of_each_layer_are_counted_unless_the_release_file_says_not_to() {
    let place = Place::with_keys().with_images();
    let file = release_toml("1", "shop/web:1");
    let uncounted = format!("layer_entries = false\n{file}");
    let mut releases = Vec::new();
    for text in [file, uncounted] {
        place.write("release.toml", text);
        place
            .run("release create release.toml --images images --key release.pk8 --platform linux/amd64 --output r.json")
            .ok();
        let said = place.run("release show r.json").ok();
        let shown = place.run("release show --json r.json").ok();
        let release: SignedRelease = serde_json::from_str(&shown).unwrap();
        releases.push((said, release.apps[0].image.layers.clone()));
    }
    let [(said, counted), (silent, uncounted)] = &releases[..] else {
        unreachable!();
    };
    let files = counted.iter().map(|layer| layer.entries.unwrap());
    let all = format!("unpacked, {} members)", files.sum::<u64>());
    assert!(said.contains(&all), "{all}: {said}");
    assert!(silent.contains("unpacked)"), "{silent}");
    for (layer, with) in uncounted.iter().zip(counted) {
        let blob =
            std::fs::File::open(place.path(&format!("images/blobs/sha256/{}", with.digest.hex())));
        let kind = LayerType::from_media_type(&with.media_type).unwrap();
        let tar = tar_stream(blob.unwrap(), kind, &Default::default());
        let members = tar::Archive::new(tar).entries().unwrap().count();
        assert_eq!(with.entries, Some(members as u64));
        assert_eq!(layer.entries, None);
    }
}

/// What a file leaves out is left out of the release too, and is told as the board's.
#[test]
fn limits_that_are_left_out_are_the_boards() {
    let place = Place::with_keys().with_images();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/limits.json");
    let file = release_toml("1", "shop/web:1");
    let none = file.replace(
        "[apps.limits]\nmemory = \"64MiB\"\ncpu_millis = 500\npids = 32\n",
        "",
    );
    assert_ne!(none, file);
    let some = file.replace("cpu_millis = 500\npids = 32\n", "disk = \"1MiB\"\n");
    let mut limits = Vec::new();
    for (text, words) in [
        (
            none,
            "limits memory the board's default, cpu the board's default, pids the board's default",
        ),
        (
            some,
            "limits memory 64.0 MiB, cpu the board's default, pids the board's default",
        ),
        (file, "limits memory 64.0 MiB, cpu 500 m, pids 32"),
    ] {
        place.write("release.toml", text);
        place
            .run("release create release.toml --images images --key release.pk8 --platform linux/amd64 --output r.json")
            .ok();
        let said = place.run("release show r.json").ok();
        assert!(said.contains(words), "{said}");
        let shown = place.run("release show --json r.json").ok();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        limits.push(shown["apps"][0]["limits"].clone());
    }
    let limits = format!("{:#}\n", serde_json::Value::from(limits));
    if std::env::var_os("CORACLE_WRITE_GOLDEN").is_some() {
        fs::write(&golden, &limits).unwrap();
    }
    assert_eq!(limits, fs::read_to_string(golden).unwrap());
}

/// The examples that people copy.
#[test]
fn the_documented_examples_are_release_files() {
    let text = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/release-file.md"
    ))
    .unwrap();
    let place = Place::with_keys().with_images();
    let mut examples = 0;
    for block in text.split("```toml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        place.write("example.toml", block);
        place
            .run("release create example.toml --images images --key release.pk8 --platform linux/amd64 --output e.json")
            .ok();
        examples += 1;
    }
    assert_eq!(examples, 2, "a short and a full one");
}

#[test]
fn an_images_healthcheck_is_its_apps_health_unless_the_file_says_otherwise() {
    use coracle_images::build::{Build, build};
    use coracle_images::layout::{Healthcheck, Layout, Platform, RunConfig};

    let place = Place::with_keys().with_images();
    let layout = Layout::create(place.path("images"), &Default::default()).unwrap();
    let tag = |name: &str, test: &[&str]| {
        let config = RunConfig {
            entrypoint: vec!["/bin/web".into()],
            healthcheck: Some(Healthcheck {
                test: test.iter().map(|word| (*word).to_owned()).collect(),
                interval: 5_000_000_000,
                ..Healthcheck::default()
            }),
            ..RunConfig::default()
        };
        let wanted = Build::new(place.path("base"), config, Platform::linux("amd64", None));
        let built = build(&wanted, &layout).unwrap();
        layout.tag(built.manifest, name).unwrap();
    };
    tag("shop/checked:1", &["CMD", "/bin/web", "--check"]);
    tag("shop/strange:1", &["HTTP", "/healthz"]);
    let create = |toml: &str| {
        place.write("checked.toml", toml);
        place.run(
            "release create checked.toml --images images --key release.pk8 --root root.json --platform linux/amd64 --output r.json",
        )
    };
    let health = || {
        let shown = place.run("release show r.json --json").ok();
        let release: serde_json::Value = serde_json::from_str(&shown).unwrap();
        release["apps"][0]["health"].clone()
    };

    let plain = release_toml("1", "shop/checked:1");
    let said = create(&plain).ok();
    for words in [
        "health run /bin/web --check, each 5 s, 30 s at most, 3 failures count, not in the first 5 s",
        "app web: its health check is its image's HEALTHCHECK; `health = \"none\"` leaves it out",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let expected = serde_json::json!({"probe": {"exec": {"argv": ["/bin/web", "--check"]}}, "interval_ms": 5000,
        "timeout_ms": 30_000, "retries": 3, "start_period_ms": 5000});
    assert_eq!(health(), expected);

    // The file goes first, with a check of its own and with none.
    let own = format!("{plain}[apps.health]\nprobe = {{ tcp = {{ port = 80 }} }}\n");
    let said = create(&own).ok();
    assert!(!said.contains("HEALTHCHECK"), "{said}");
    assert_eq!(health()["probe"], serde_json::json!({"tcp": {"port": 80}}));
    let none = plain.replace("[apps.limits]", "health = \"none\"\n[apps.limits]");
    let said = create(&none).ok();
    assert!(
        said.contains("health none: it counts as healthy while it runs"),
        "{said}"
    );
    assert_eq!(health(), serde_json::Value::Null);

    create(&plain.replace("shop/checked:1", "shop/strange:1")).failed(
        1,
        &["app `web`", "HEALTHCHECK is `HTTP`", "health = \"none\""],
    );
    create(&none.replace("shop/checked:1", "shop/strange:1")).ok();
    create(&plain.replace("[apps.limits]", "health = \"never\"\n[apps.limits]"))
        .failed(1, &["never", "a table with `probe`, or \"none\""]);
    create(&own.replace("probe", "prob")).failed(1, &["prob"]);
}

/// Each row of docs/networking.md that says `yes` names keys that a release file has, and what people type most has a row.
#[test]
fn dockers_options_have_their_equals_in_a_release_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(folder.join("../docs/networking.md")).unwrap();
    let whole = fs::read_to_string(folder.join("tests/golden/release.toml")).unwrap();
    let (_, table) = text.split_once("## Docker's options and ours").unwrap();
    let table = table.split("\n## ").next().unwrap();
    let mut options = String::new();
    for row in table.lines().filter(|row| row.ends_with("| yes |")) {
        // A bar inside of a cell is written with a backslash.
        let cells: Vec<&str> = row.split(" | ").collect();
        options += cells[0];
        // Every other piece is code; what stands in quotes there is a value.
        let code = cells[1].split('`').skip(1).step_by(2);
        let names = code.flat_map(|code| code.split('"').step_by(2));
        let words =
            names.flat_map(|names| names.split(|c: char| !c.is_ascii_lowercase() && c != '_'));
        let keys: Vec<&str> = words.filter(|word| word.len() > 1).collect();
        assert!(!keys.is_empty(), "{row}");
        for key in keys {
            let stands = [
                format!("{key} = "),
                format!("[{key}]"),
                format!("{key}]\n"),
                format!("[{key}."),
            ];
            let known = stands.iter().any(|word| whole.contains(word.as_str()));
            assert!(known, "`{key}` of {row}");
        }
    }
    for option in [
        "--network",
        "-p",
        "--ip",
        "--dns",
        "--network-alias",
        "--add-host",
        "--mac-address",
    ] {
        let said = [format!("`{option}`"), format!("`{option} ")];
        assert!(
            said.iter().any(|word| options.contains(word.as_str())),
            "{option}: {options}"
        );
    }
}

#[test]
fn faults_of_a_release_file_are_named() {
    let place = Place::with_keys().with_images();
    let good = release_toml("1", "shop/web:1");
    let long = "x".repeat(5000);
    for (from, to, code, words) in [
        (
            "memory = \"64MiB\"",
            "memory = \"64 potatoes\"",
            1,
            &["bad.toml", "64 potatoes", "line 12"][..],
        ),
        (
            "memory = \"64MiB\"",
            "memmory = \"64MiB\"",
            1,
            &["unknown field `memmory`"],
        ),
        (
            "memory = \"64MiB\"",
            "memory = \"64KiB\"",
            1,
            &["app `web`", "limits.memory_bytes", "1 MiB"],
        ),
        ("pids = 32", "pids = 0", 1, &["limits.pids"]),
        ("pids = 32", "pid = 32", 1, &["unknown field `pid`"]),
        (
            "[apps.limits]",
            "strategy = \"start-then-kill\"\ndevices = [\"gpio\"]\n[apps.limits]",
            1,
            &[
                "app `web`: strategy = `start-then-kill` and devices: ",
                "say strategy = `kill-then-start`",
            ],
        ),
        (
            "[apps.limits]",
            "data_version = 0\n[apps.limits]",
            1,
            &["app `web`", "data_version is 0", "at least 1"],
        ),
        (
            "[apps.limits]",
            "data_version = 2\n[apps.limits]",
            1,
            &["app `web`", "data_version has a sense only with volumes"],
        ),
        (
            "pids = 32",
            "pids = 32\n[[apps.volumes]]\nname = \"data\"\ntarget = \"/data\"\n\
             [[apps]]\nname = \"other\"\nimage = \"shop/web:1\"\ndata_version = 2\n\
             [[apps.volumes]]\nname = \"data\"\ntarget = \"/data\"\nread_only = true",
            1,
            &[
                "app `other`",
                "volumes `data`: data_version is 2, and 1 of app `web`",
            ],
        ),
        (
            "[apps.limits]",
            "strategy = \"kill-last\"\n[apps.limits]",
            1,
            &["unknown variant `kill-last`", "`start-then-kill`"],
        ),
        (
            "[apps.limits]\nmemory = \"64MiB\"\ncpu_millis = 500\npids = 32",
            "init = true\n[apps.limits]\nmemory = \"64MiB\"\ncpu_millis = 500\npids = 1",
            1,
            &["app `web`", "limits.pids is 1", "init"],
        ),
        (
            "pids = 32",
            "pids = 32\n[apps.hooks]\nprestart = { argv = [\"/x\"] }",
            1,
            &["unknown field `prestart`", "`pre_start`"],
        ),
        (
            "pids = 32",
            "pids = 32\n[apps.hooks]\npre_stop = { argv = [\"/x\"], timeout_seconds = 10 }",
            1,
            &[
                "app `web`",
                "hooks.pre_stop.timeout_seconds is 10",
                "stop_grace_seconds 10",
            ],
        ),
        (
            "pids = 32",
            "pids = 32\nopen_files = 0",
            1,
            &["limits.open_files is 0"],
        ),
        (
            "pids = 32",
            "pids = 32\nmemory_min = \"65MiB\"",
            1,
            &[
                "app `web`",
                "limits.memory_min_bytes",
                "limits.memory_bytes is 67108864",
            ],
        ),
        (
            "pids = 32",
            "pids = 32\nmemory_min = \"8MiB\"\nmemory_reservation = \"4MiB\"",
            1,
            &["limits.memory_reservation_bytes is 4194304"],
        ),
        (
            "pids = 32",
            "pids = 32\nmemory_swap = \"63MiB\"",
            1,
            &[
                "limits.memory_swap_bytes is 66060288",
                "limits.memory_bytes, 67108864",
            ],
        ),
        (
            "pids = 32",
            "pids = 32\ncpu_burst_micros = 50001",
            1,
            &["limits.cpu_burst_micros is 50001", "50000"],
        ),
        (
            "cpu_millis = 500",
            "cpu_millis = 1500\ncpus_exclusive = 1",
            1,
            &[
                "app `web`",
                "limits.cpu_millis is 1500",
                "limits.cpus_exclusive is 1",
            ],
        ),
        (
            "pids = 32",
            "pids = 32\ndisk = \"1KiB\"",
            1,
            &["app `web`", "limits.disk is 1024", "65536"],
        ),
        (
            "pids = 32",
            "pids = 32\ndisk = \"2TiB\"",
            1,
            &["limits.disk is 2199023255552", "1099511627776"],
        ),
        (
            "pids = 32",
            "pids = 32\ndisk_inodes = 100",
            1,
            &["limits.disk", "inodes need a limit of bytes"],
        ),
        (
            "pids = 32",
            "pids = 32\ndisk = \"1MiB\"\ndisk_inodes = 1000",
            1,
            &["limits.disk: inodes is 1000", "256"],
        ),
        (
            "pids = 32",
            "pids = 32\ndisk_on = \"tape\"",
            1,
            &["unknown variant `tape`"],
        ),
        (
            "pids = 32",
            "pids = 32\n[[apps.volumes]]\nname = \"data\"\ntarget = \"/data\"\nsize = \"1KiB\"",
            1,
            &["volumes `data`: size is 1024"],
        ),
        (
            "pids = 32",
            "pids = 32\n[[apps.volumes]]\nname = \"data\"\ntarget = \"/data\"\nsize = \"1MiB\"\n\
             [[apps]]\nname = \"other\"\nimage = \"shop/web:1\"\n\
             [apps.limits]\nmemory = \"8MiB\"\ncpu_millis = 100\npids = 8\n\
             [[apps.volumes]]\nname = \"data\"\ntarget = \"/data\"\nsize = \"2MiB\"",
            1,
            &[
                "app `other`",
                "volumes `data`",
                "app `web`, which shares it",
            ],
        ),
        (
            "pids = 32",
            "pids = 32\n[[apps.volumes]]\nname = \"data\"\ntarget = \"/data\"\nsise = \"1MiB\"",
            1,
            &["unknown field `sise`"],
        ),
        (
            "pids = 32",
            "pids = 32\n[[apps.tmpfs]]\ntarget = \"/run\"\nsize = \"65MiB\"",
            1,
            &["tmpfs `/run`: size", "the app's memory"],
        ),
        (
            "pids = 32",
            "pids = 32\n[[apps.tmpfs]]\ntarget = \"/run\"\nsize = \"1MiB\"\n[[apps.binds]]\nsource = \"/srv\"\ntarget = \"/run\"",
            1,
            &["binds.target `/run` stands twice"],
        ),
        (
            "pids = 32",
            "pids = 32\n[[apps.binds]]\nsource = \"/srv/../etc\"\ntarget = \"/etc/x\"",
            1,
            &["binds.source `/srv/../etc`"],
        ),
        (
            "pids = 32",
            "pids = 32\nprivileged = true",
            1,
            &["unknown field `privileged`"],
        ),
        (
            "expires = \"90d\"",
            "expires = \"soon\"",
            1,
            &["`soon` is no time"],
        ),
        (
            "expires = \"90d\"",
            "expires = \"2020-01-01T00:00:00Z\"",
            1,
            &["expires is before issued_at"],
        ),
        (
            "name = \"web\"",
            "name = \"../web\"",
            1,
            &["`../web` is not a app name"],
        ),
        ("\"qemux86-64\"", "", 1, &["hardware names no class"]),
        (
            "shop/web:1",
            "shop/nothing:1",
            1,
            &["app `web`", "no image `shop/nothing:1`"],
        ),
        (
            "version = \"1\"",
            &format!("version = \"{long}\""),
            1,
            &["version: length is 5000"],
        ),
        (
            "release_counter = 1",
            "release_counter = -1",
            1,
            &["release_counter"],
        ),
        ("product = \"shop\"\n", "", 1, &["missing field `product`"]),
        (
            "pids = 32",
            "pids = 32\n[apps.network]\nports = [{ host = \"8000-8010\", container = \"80-89\" }]",
            1,
            &["app `web`", "11 ports of the board cannot lead to 10"],
        ),
        (
            "pids = 32",
            "pids = 32\n[apps.network]\nports = [{ host = \"1-65535\", container = \"1-65535\" }]",
            1,
            &["a range of 65535; the limit is 128"],
        ),
        (
            "pids = 32",
            "pids = 32\n[apps.network]\nports = [{ host = \"80-70\", container = 1 }]",
            1,
            &["\"80-70\" is neither a port nor a range"],
        ),
        (
            "pids = 32",
            "pids = 32\n[apps.network]\nnetworks = [\"back\"]",
            1,
            &[
                "app `web`",
                "`back`: the release declares no such network; add it to [[networks]]",
            ],
        ),
        (
            "pids = 32",
            "pids = 32\n[apps.network]\nnetworks = [{ name = \"bridge\", ipv4 = \"10.0.0.1\" }]",
            1,
            &["the name of a network, or { name, ip, mac, aliases }"],
        ),
        (
            "pids = 32",
            "pids = 32\n[apps.network]\nmode = \"none\"\ninterfaces = [\"can1\", { name = \"can0\", speed = 500_000 }]",
            1,
            &["the name of a link, or { name, address } or { name, bitrate }"],
        ),
        (
            "pids = 32",
            "pids = 32\n[apps.network]\nmode = \"none\"\ninterfaces = [\"can1\", { name = \"can0\", bitrate = 2_000_000 }]",
            1,
            &[
                "app `web`",
                "`can0`: a bitrate of 2000000 is outside 1000 to 1000000 bits a second",
            ],
        ),
        (
            "pids = 32",
            "pids = 32\n[apps.network]\negress_rate = \"1B\"",
            1,
            &["network.rates.egress_bytes_per_second is outside 1024 to"],
        ),
        (
            "pids = 32",
            "pids = 32\n[apps.network]\negress = [\"mqtt.example:8883\", \"https://api.example\"]",
            1,
            &[
                "app `web`",
                "network.egress: \"https://api.example\": \"https\" is neither tcp, udp nor sctp",
                "mqtt.example:8883",
            ],
        ),
        (
            "pids = 32",
            "pids = 32\n[apps.network]\nmode = \"host\"\negress = []",
            1,
            &["app `web`", "network.egress needs mode `bridge`"],
        ),
    ] {
        assert!(good.contains(from), "{from}");
        place.write("bad.toml", good.replace(from, to));
        place
            .run("release create bad.toml --images images --key release.pk8 --output bad.json")
            .failed(code, words);
        assert!(!place.path("bad.json").exists(), "{to}");
    }
    place
        .run("release create none.toml --images images --key release.pk8 --output bad.json")
        .failed(1, &["none.toml", "No such file"]);
    place.write("ok.toml", &good);
    place
        .run("release create ok.toml --images base --key release.pk8 --output bad.json")
        .failed(1, &["base", "no OCI image layout"]);
    place
        .run("release create ok.toml --images images --key deploy.pk8 --root root.json --output bad.json")
        .failed(1, &["is not in role `release`"]);
    place
        .run("release create ok.toml --images images --key ok.toml --output bad.json")
        .failed(1, &["key `ok.toml`", "PKCS#8"]);
    place.run("release create").failed(2, &["--images"]);
}

/// `images` is an image that the program built of one page; the others are bytes in its layer's place. `CORACLE_WRITE_GOLDEN=1`
/// makes them anew.
#[test]
fn a_damaged_layer_is_found_before_it_is_signed() {
    let name = "a_damaged_layer_is_found_before_it_is_signed";
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/attacks")
        .join(name);
    let place = Place::with_keys();
    place.write("page/index.html", "signed\n");
    for (path, mode) in [("page", 0o755), ("page/index.html", 0o644)] {
        fs::set_permissions(place.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    place
        .run("image build --rootfs page --owner 0:0 --platform linux/amd64 --entrypoint /web --compression none --output images --tag shop/web:1")
        .ok();
    place.write("ok.toml", release_toml("1", "shop/web:1"));
    let create = |output: &str| {
        place.run(&format!(
            "release create ok.toml --images images --key release.pk8 --platform linux/amd64 --output {output}"
        ))
    };
    create("ok.json").ok();
    let signed: SignedRelease =
        serde_json::from_str(&place.run("release show --json ok.json").ok()).unwrap();
    let layer = &signed.apps[0].image.layers[0];
    let blob = format!("images/blobs/sha256/{}", layer.digest.hex());
    let whole = place.read(&blob);
    let page = whole
        .windows(7)
        .position(|text| text == b"signed\n")
        .unwrap();
    let mut bit = whole.clone();
    bit[page] ^= 1;
    let mut owned = whole.clone();
    owned[page..page + 5].copy_from_slice(b"owned");
    let bad = [
        ("bit", bit),
        ("cut", whole[..whole.len() - 512].to_vec()),
        ("empty", Vec::new()),
        ("more", [&whole[..], b"code of somebody else"].concat()),
        ("owned", owned),
    ];
    if std::env::var_os("CORACLE_WRITE_GOLDEN").is_some() {
        let _ = fs::remove_dir_all(&folder);
        let blobs = folder.join("images/blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for name in names(&place.path("images/blobs/sha256")) {
            fs::copy(
                place.path("images/blobs/sha256").join(&name),
                blobs.join(name),
            )
            .unwrap();
        }
        for name in ["index.json", "oci-layout"] {
            fs::copy(
                place.path("images").join(name),
                folder.join("images").join(name),
            )
            .unwrap();
        }
        for (file, bytes) in &bad {
            fs::write(folder.join(file), bytes).unwrap();
        }
    }
    // What lies there is what is made here, and is what is tried.
    assert_eq!(
        names(&folder),
        ["bit", "cut", "empty", "images", "more", "owned"]
    );
    for file in [
        "index.json",
        "oci-layout",
        blob.trim_start_matches("images/"),
    ] {
        let kept = fs::read(folder.join("images").join(file)).unwrap();
        assert!(
            kept == place.read(&format!("images/{file}")),
            "{file} is not as made"
        );
    }
    for (file, made) in &bad {
        let bytes = fs::read(folder.join(file)).unwrap();
        assert!(bytes == *made, "{file} is not as made");
        fs::write(place.path(&blob), bytes).unwrap();
        create("bad.json").failed(1, &["shop/web:1", &layer.digest.hex()]);
        assert!(!place.path("bad.json").exists(), "{file}");
    }
    place.write(&blob, fs::read(folder.join(&blob)).unwrap());
    create("again.json").ok();
}

#[test]
fn a_strangers_release_is_refused() {
    let place = Place::with_keys().with_images();
    place.with_release("1", "shop/web:1");
    place
        .run("keys new --role release --output stranger.pk8")
        .ok();
    place
        .run("release create release-1.toml --images images --key stranger.pk8 --platform linux/amd64 --output strange.json")
        .ok();
    place
        .run("release show --root root.json strange.json")
        .failed(3, &["0 of 1 required signatures"]);
    place
        .run("release show root.json")
        .failed(1, &["root.json", "payload type"]);
    place
        .run("release show --root root.json release-1.json")
        .ok();
}

#[test]
fn a_stick_is_what_a_board_accepts() {
    let place = Place::with_keys().with_images();
    place.with_release("2", "shop/web:2");
    let said = place
        .run(
            "usb --release release-2.json --images images --base-images old --key offline.pk8 --root root.json \
             --hardware qemux86-64 --seq 3 --platform linux/amd64 --output stick",
        )
        .ok();
    assert!(said.contains("of which 1 deltas"), "{said}");
    assert_eq!(names(&place.path("stick")), ["README.txt", "coracle"]);
    assert_eq!(
        names(&place.path("stick/coracle")),
        ["blobs", "index.json", "oci-layout", "stick.json"]
    );
    let stick = Stick::parse(&place.read("stick/coracle/stick.json")).unwrap();
    let deployment = accepted(&place, &stick);
    assert_eq!(deployment.deploy().document().seq, 3);
    assert_eq!(deployment.deploy().document().expires, NOW + 90 * 86_400);

    // Every blob that the documents name is there and is what its name says, and nothing else is.
    let release = deployment.release().document();
    let image = &release.apps[0].image;
    let delta = &deployment.deploy().document().deltas[0];
    let mut wanted: Vec<_> = image.layers.iter().map(|l| (l.digest, l.size)).collect();
    wanted.extend([image.manifest, image.config].map(|b| (b.digest, b.size)));
    wanted.push((delta.digest, delta.size));
    let mut hex: Vec<String> = wanted.iter().map(|(digest, _)| digest.hex()).collect();
    hex.sort();
    assert_eq!(names(&place.path("stick/coracle/blobs/sha256")), hex);
    for (digest, size) in wanted {
        let bytes = place.read(&format!("stick/coracle/blobs/sha256/{}", digest.hex()));
        assert_eq!(
            (Sha256Digest::of(&bytes), bytes.len() as u64),
            (digest, size)
        );
    }
    assert!(
        delta.size < image.layers[1].size / 10,
        "{} bytes",
        delta.size
    );
    assert_eq!(delta.to, image.layers[1].diff_id);
    let readme = String::from_utf8(place.read("stick/README.txt")).unwrap();
    for part in [
        "shop 2",
        "qemux86-64",
        "Stick number:  3",
        "coracle usb apply",
    ] {
        assert!(readme.contains(part), "{readme}");
    }

    // The delta makes the layer, from the tree that a board has.
    let base = delta.from;
    let old = names(&place.path("old/blobs/sha256"));
    assert!(!old.contains(&image.layers[1].digest.hex()));
    let path = format!("stick/coracle/blobs/sha256/{}", delta.digest.hex());
    let info = place.run(&format!("delta info {path}")).ok();
    assert!(
        info.contains(&base.to_string()) && info.contains(&delta.to.to_string()),
        "{info}"
    );
    place
        .run(&format!(
            "delta apply --base app-1 --delta {path} --output layer.tar"
        ))
        .ok();
    assert_eq!(Sha256Digest::of(&place.read("layer.tar")), delta.to);
    place
        .run(&format!(
            "delta apply --base app-2 --delta {path} --output other.tar"
        ))
        .failed(1, &["made for another base"]);
    assert!(!place.path("other.tar").exists());
}

#[test]
fn a_stick_is_written_over_an_older_one() {
    let place = Place::with_keys().with_images();
    place.with_release("1", "shop/web:1");
    place.with_release("2", "shop/web:2");
    let usb = |version, seq| {
        place
            .run(&format!(
                "usb --release release-{version}.json --images images --key offline.pk8 \
                 --board acme.board-1 --seq {seq} --platform linux/amd64 --output stick"
            ))
            .ok()
    };
    usb(1, 1);
    let before = names(&place.path("stick/coracle/blobs/sha256"));
    // A blob that rotted on the stick is written again.
    place.write(
        &format!("stick/coracle/blobs/sha256/{}", before[0]),
        "rotten",
    );
    usb(2, 2);
    let stick = Stick::parse(&place.read("stick/coracle/stick.json")).unwrap();
    let deployment = accepted(&place, &stick);
    assert_eq!(deployment.release().document().version, "2");
    let after = names(&place.path("stick/coracle/blobs/sha256"));
    assert_ne!(before, after);
    for name in after {
        let bytes = place.read(&format!("stick/coracle/blobs/sha256/{name}"));
        assert_eq!(Sha256Digest::of(&bytes).hex(), name);
    }
}

#[test]
fn a_vfat_image_holds_the_same_as_the_folder() {
    let place = Place::with_keys().with_images();
    place.with_release("2", "shop/web:2");
    let usb = "usb --release release-2.json --images images --base-images old --key offline.pk8 \
               --board acme.board-1 --seq 3 --platform linux/amd64";
    place.run(&format!("{usb} --output stick")).ok();
    place.run(&format!("{usb} --image stick.img")).ok();
    let disk = fs::File::open(place.path("stick.img")).unwrap();
    let volume = fatfs::FileSystem::new(ReadOnly(disk), fatfs::FsOptions::new()).unwrap();
    assert_eq!(volume.volume_label(), "CORACLE");
    let files = walk(&volume.root_dir(), "");
    assert_eq!(files, walk_folder(&place.path("stick"), ""));
    assert!(files.iter().any(|(name, _)| name.len() > 64), "long names");
    // Another implementation finds nothing to mend.
    let checked = std::process::Command::new("/usr/sbin/fsck.vfat")
        .arg("-n")
        .arg(place.path("stick.img"))
        .output()
        .expect("this test needs fsck.vfat (Debian: dosfstools)");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(
        checked.status.success() && said.lines().count() == 2,
        "{said}"
    );
    // Nothing of the scratch folder is left beside it.
    assert!(
        names(place.path(".").as_path())
            .iter()
            .all(|name| !name.starts_with(".tmp"))
    );
    // The same input, the same image.
    let first = place.read("stick.img");
    place.run(&format!("{usb} --image stick.img")).ok();
    assert!(first == place.read("stick.img"));
}

#[test]
fn wrong_sticks_are_not_made() {
    let place = Place::with_keys().with_images();
    place.with_release("2", "shop/web:2");
    let usb = "usb --release release-2.json --images images --seq 3 --platform linux/amd64 --output stick";
    place
        .run(&format!(
            "{usb} --key release.pk8 --root root.json --board acme.board-1"
        ))
        .failed(1, &["is not in role `offline-deploy`"]);
    place
        .run(&format!("{usb} --key offline.pk8 --board acme"))
        .failed(2, &["acme", "<tenant>.<name>"]);
    place
        .run(&format!("{usb} --key offline.pk8"))
        .failed(2, &["--board"]);
    place
        .run("usb --release release-2.json --images old --seq 3 --key offline.pk8 --board a.b --output stick")
        .failed(1, &["is not in the store"]);
    assert!(!place.path("stick/coracle/stick.json").exists());
}

#[test]
fn deltas_by_hand() {
    let place = Place::with_keys().with_images();
    place.write("a.tar", tar(b"one two three".repeat(500).as_slice()));
    place.write("b.tar", tar(b"one two four!".repeat(500).as_slice()));
    place
        .run("delta make --base a.tar --target b.tar --output d")
        .ok();
    place
        .run("delta apply --base a.tar --delta d --output out.tar")
        .ok();
    assert_eq!(place.read("out.tar"), place.read("b.tar"));
    place
        .run("delta info a.tar")
        .failed(1, &["a.tar", "no Coracle delta"]);
    place
        .run("delta make --base nowhere --target b.tar --output x")
        .failed(1, &["nowhere", "No such file"]);
    // A delta's header alone has more.
    place.write("c.tar", [0; 100]);
    place
        .run("delta make --base a.tar --target c.tar --output y")
        .failed(1, &["c.tar", "publish the layer alone"]);
    assert!(!place.path("y").exists());
}

#[test]
fn help_has_examples() {
    let place = Place::new();
    let help = place.run("--help").ok();
    for part in [
        "keys new --role release",
        "release create release.toml",
        "Exit codes",
    ] {
        assert!(help.contains(part), "{help}");
    }
    place.run("").failed(2, &["Usage"]);
    place.run("fly").failed(2, &["unrecognized subcommand"]);
}

/// One file, owned by whoever runs the test, so that unpacking needs no privilege.
fn tar(content: &[u8]) -> Vec<u8> {
    let (uid, gid) = {
        use std::os::unix::fs::MetadataExt;
        let me = fs::metadata("/proc/self").unwrap();
        (me.uid(), me.gid())
    };
    let mut block = [0u8; 512];
    block[..1].copy_from_slice(b"f");
    for (at, text) in [
        (100, "0000644\0".to_owned()),
        (108, format!("{uid:07o}\0")),
        (116, format!("{gid:07o}\0")),
        (124, format!("{:011o}\0", content.len())),
        (136, "00000000000\0".into()),
        (148, "        ".into()),
        (156, "0".into()),
        (257, "ustar\x0000".into()),
    ] {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut out = block.to_vec();
    out.extend(content);
    out.resize(out.len().next_multiple_of(512) + 1024, 0);
    out
}

type Files = Vec<(String, Vec<u8>)>;

fn walk_folder(dir: &Path, at: &str) -> Files {
    let mut out = Vec::new();
    for name in names(dir) {
        let path = dir.join(&name);
        let full = format!("{at}/{name}");
        match path.is_dir() {
            true => out.extend(walk_folder(&path, &full)),
            false => out.push((full, fs::read(path).unwrap())),
        }
    }
    out.sort();
    out
}

fn walk(dir: &fatfs::Dir<'_, ReadOnly>, at: &str) -> Files {
    let mut out = Vec::new();
    for entry in dir.iter() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if name == "." || name == ".." {
            continue;
        }
        let full = format!("{at}/{name}");
        if entry.is_dir() {
            out.extend(walk(&entry.to_dir(), &full));
        } else {
            let mut bytes = Vec::new();
            entry.to_file().read_to_end(&mut bytes).unwrap();
            out.push((full, bytes));
        }
    }
    out.sort();
    out
}

/// fatfs wants to write; this image is only read.
struct ReadOnly(fs::File);

impl Read for ReadOnly {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}
impl std::io::Write for ReadOnly {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
impl std::io::Seek for ReadOnly {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn a_stick_brings_each_board_its_own_secrets_and_settings() {
    use coracle_protocol::secret::OpeningKey;
    use coracle_protocol::site;
    let place = Place::with_keys().with_images();
    let toml = support::release_toml("2", "shop/web:2").replace(
        "[apps.limits]",
        "secrets = [\"db\"]\nenv = { SITE = \"none\" }\n[apps.site_settable]\nenv = [\"SITE\"]\n\n[apps.limits]",
    );
    place.write("r.toml", &toml);
    place
        .run("release create r.toml --images images --key release.pk8 --root root.json --platform linux/amd64 --output r.json")
        .ok();
    let usb = "usb --release r.json --images images --key offline.pk8 --root root.json --seq 3 \
               --platform linux/amd64 --output stick";
    let boards = ["acme.board-1", "acme.board-2"];
    let keys = [(); 2].map(|()| OpeningKey::generate());
    place.write("db.txt", "hunter2");
    place.write("db-2.txt", "hunter3");
    place.write("north.toml", "[web]\nenv = { SITE = \"north\" }\n");
    place.write("south.toml", "[web]\nenv = { SITE = \"south\" }\n");

    // What a board would refuse is refused here, before anything is written.
    place.run(&format!("{usb} --board acme.board-1")).failed(
        1,
        &[
            "acme.board-1",
            "needs secret `db`",
            "--secret APP/NAME=FILE",
        ],
    );
    place
        .run(&format!(
            "{usb} --board acme.board-1 --secret web/db=db.txt"
        ))
        .failed(1, &["no key of acme.board-1", "secret pin"]);
    for (board, key) in boards.iter().zip(&keys) {
        let key = String::from(key.public().clone());
        place
            .run(&format!("secret pin --board {board} --key {key}"))
            .ok();
    }
    place.write("bad.toml", "[web]\nenv = { OTHER = \"x\" }\n");
    place
        .run(&format!(
            "{usb} --board acme.board-1 --secret web/db=db.txt --site bad.toml"
        ))
        .failed(1, &["does not let a site set variable `OTHER`"]);
    place
        .run(&format!(
            "{usb} --board acme.board-1 --secret acme.board-2:web/db=db.txt"
        ))
        .failed(2, &["acme.board-2 is none of the boards"]);
    place
        .run(&format!(
            "{usb} --hardware qemux86-64 --secret web/db=db.txt"
        ))
        .failed(2, &["cannot be used with"]);
    place
        .run(&format!("{usb} --board acme.board-1 --secret db=db.txt"))
        .failed(2, &["APP/NAME=FILE"]);
    // A pipe can be read once, and an empty value is none.
    let two = format!("{usb} --board acme.board-1 --board acme.board-2");
    for option in ["--secret web/db=", "--site "] {
        place
            .run(&format!("{two} {option}/dev/null"))
            .failed(2, &["/dev/null", "several boards need a file"]);
    }
    place.write("empty.txt", "");
    place
        .run(&format!("{two} --secret web/db=empty.txt"))
        .failed(1, &["secret `db` of app `web` is empty"]);
    assert!(!place.path("stick/coracle/stick.json").exists());

    place
        .run(&format!(
            "{usb} --board acme.board-1 --board acme.board-2 --site north.toml --site acme.board-2=south.toml \
             --secret web/db=db.txt --secret acme.board-2:web/db=db-2.txt"
        ))
        .ok();
    let json = place.read("stick/coracle/stick.json");
    assert!(!String::from_utf8_lossy(&json).contains("hunter"));
    let stick = Stick::parse(&json).unwrap();
    let root = root(&place);
    let release = VerifiedRelease::open(&stick.release, &root).unwrap();
    for ((board, key), (site, value)) in boards
        .iter()
        .zip(&keys)
        .zip([("north", "hunter2"), ("south", "hunter3")])
    {
        let id = BoardId::new(board).unwrap();
        let deploy = VerifiedDeploy::open(stick.assignment_for(Some(&id)), &root).unwrap();
        let board = Board {
            id: &id,
            hardware: &HardwareClass::new("qemux86-64").unwrap(),
            seen: &Seen::default(),
            built_at: TimeBound::at(0),
        };
        let accepted = VerifiedDeployment::accept(release.clone(), deploy, board, &[]).unwrap();
        let document = accepted.deploy().document();
        let applied = site::applied(accepted.release().document(), document).unwrap();
        assert_eq!(applied.apps[0].env["SITE"], site);
        let [sealed] = &document.secrets[..] else {
            panic!("{document:?}")
        };
        assert_eq!(key.open(&id, sealed).unwrap(), value.as_bytes());
    }
    let readme = String::from_utf8(place.read("stick/README.txt")).unwrap();
    assert!(
        readme.contains("acme.board-1, acme.board-2") && readme.contains("2 secrets"),
        "{readme}"
    );

    // Settings alone go to a whole class.
    place.write("r1.toml", toml.replace("secrets = [\"db\"]\n", ""));
    place
        .run("release create r1.toml --images images --key release.pk8 --root root.json --platform linux/amd64 --output r1.json")
        .ok();
    let usb = usb.replace("r.json", "r1.json");
    place
        .run(&format!("{usb} --hardware qemux86-64 --site north.toml"))
        .ok();
    let stick = Stick::parse(&place.read("stick/coracle/stick.json")).unwrap();
    assert!(stick.deploys.is_empty());
    let deploy = VerifiedDeploy::open(&stick.deploy, &root).unwrap();
    assert_eq!(deploy.document().site.len(), 1);
    place
        .run(&format!(
            "{usb} --hardware qemux86-64 --site acme.board-1=north.toml"
        ))
        .failed(2, &["name it by --board"]);
}

#[test]
fn what_boards_left_on_sticks_is_shown_in_a_table() {
    let place = Place::with_keys().with_images();
    place.with_release("2", "shop/web:2");
    let usb = "usb --release release-2.json --images images --key offline.pk8 --root root.json \
               --hardware qemux86-64 --seq 3 --platform linux/amd64";
    place.run(&format!("{usb} --result --output stick")).ok();
    let stick = Stick::parse(&place.read("stick/coracle/stick.json")).unwrap();
    assert!(accepted(&place, &stick).deploy().document().result);
    let readme = String::from_utf8(place.read("stick/README.txt")).unwrap();
    assert!(readme.contains("coracle/result-BOARD.json"), "{readme}");
    place.run(&format!("{usb} --output plain")).ok();
    let plain = Stick::parse(&place.read("plain/coracle/stick.json")).unwrap();
    assert!(!accepted(&place, &plain).deploy().document().result);
    let payload = plain.deploy.payload_unverified().unwrap();
    let without = "boards that know no results take it";
    assert!(
        !String::from_utf8_lossy(&payload).contains("result"),
        "{without}"
    );

    let none = place.run("usb-results stick").ok();
    assert!(none.contains("no board has left anything"), "{none}");
    let left = |board: &str, outcome: &str, reason: &str, kept: bool| {
        serde_json::json!({"result_version": 1, "board": board, "serial": "s", "product": "shop",
            "version": "2", "stick": 3, "outcome": outcome, "code": "old-release", "reason": reason,
            "runs": "shop 1", "agent": "0.1.0", "time": {"clock": "2027-03-01T09:12:44Z", "kept": kept, "at_least": 1_800_000_000}})
        .to_string()
    };
    let write = |name: &str, text: &str| {
        fs::write(place.path(&format!("stick/coracle/{name}")), text).unwrap()
    };
    write(
        "result-acme.b.json",
        &left("acme.b", "refused", "too\u{1b}[2J old", false),
    );
    write("result-acme.a.json", &left("acme.a", "committed", "", true));
    write("result-acme.c.json", "{\"result_version\": 2");
    let said = place.run("usb-results stick").ok();
    let lines: Vec<&str> = said.lines().map(str::trim_end).collect();
    assert!(lines[0].starts_with("BOARD   STICK  BROUGHT"), "{said}");
    assert_eq!(
        lines[1],
        "acme.a  3      shop 2   committed  shop 1   2027-03-01T09:12:44Z"
    );
    assert!(
        lines[2].ends_with("after 2027-01-15T08:00:00Z  old-release: too?[2J old"),
        "{said}"
    );
    assert_eq!(lines.len(), 3, "{said}");
    let json = place.run("usb-results --json stick").ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[1]["board"], "acme.b");
}
