//! AppArmor profiles. `CORACLE_APPARMOR` names one that is loaded, and denies `/secret` alone: in a virtual board. Where this
//! kernel has no AppArmor the refusal is held to its word instead.

mod support;

use std::fs;
use std::path::Path;

use serde_json::json;
use support::{Bundle, Said};

fn is_here() -> bool {
    Path::new("/sys/kernel/security/apparmor").exists()
}

/// The profile's name, or the refusal was right.
fn loaded(bundle: &mut Bundle) -> Option<String> {
    let Some(profile) = std::env::var_os("CORACLE_APPARMOR") else {
        bundle.config["process"]["apparmorProfile"] = json!("coracle-no-such-profile");
        let said = bundle.run();
        assert_eq!(said.code, 1, "{said:?}");
        let why = if is_here() {
            "coracle-no-such-profile"
        } else {
            "this kernel has no AppArmor"
        };
        assert!(said.err.contains(why), "{said:?}");
        return None;
    };
    assert!(is_here(), "a profile is loaded nowhere");
    Some(profile.into_string().expect("text"))
}

fn forbids(said: &Said, current: &str) {
    assert!(said.out.contains(current), "{said:?}");
    assert!(said.out.contains("open\n"), "{said:?}");
    assert!(
        said.err.contains("'/secret': Permission denied"),
        "{said:?}"
    );
}

#[test]
fn a_profile_holds_for_the_program_and_for_what_is_executed_later() {
    let script = "cat /proc/self/attr/current; cat /open; cat /secret";
    let mut bundle = Bundle::new(script);
    for name in ["open", "secret"] {
        fs::write(bundle.root().join(name), format!("{name}\n")).unwrap();
    }
    let Some(profile) = loaded(&mut bundle) else {
        return;
    };
    let current = format!("{profile} (enforce)\n");
    let free = bundle.run();
    assert_eq!(
        (free.code, free.out.as_str()),
        (0, "unconfined\nopen\nsecret\n"),
        "{free:?}"
    );
    bundle.config["process"]["apparmorProfile"] = json!(profile);
    for no_new_privs in [true, false] {
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privs);
        let said = bundle.run();
        assert_eq!(said.code, 1, "{said:?}");
        forbids(&said, &current);
    }

    bundle.config["process"]["args"] = json!(["/bin/sleep", "100"]);
    let id = bundle.id();
    bundle.start(&id);
    forbids(
        &bundle.runtime(&["exec", &id, "sh", "-c", script]),
        &current,
    );
    bundle.ok(&["delete", "--force", &id]);

    // Of one without, a process alone can have it.
    bundle.config["process"]["apparmorProfile"] = json!(null);
    let id = bundle.id();
    bundle.start(&id);
    let alone = bundle.runtime(&["exec", "--apparmor", &profile, &id, "sh", "-c", script]);
    forbids(&alone, &current);
    let free = bundle.ok(&["exec", &id, "sh", "-c", script]);
    assert_eq!(free, "unconfined\nopen\nsecret\n");
}

#[test]
fn a_profile_that_is_not_loaded_is_told_and_nothing_runs() {
    let mut bundle = Bundle::new("touch /ran");
    if loaded(&mut bundle).is_none() {
        return;
    }
    bundle.config["process"]["apparmorProfile"] = json!("coracle-no-such-profile");
    let said = bundle.run();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("coracle-no-such-profile"), "{said:?}");
    assert!(!bundle.root().join("ran").exists());
    assert_eq!(bundle.ok(&["list", "-q"]), "");
}
