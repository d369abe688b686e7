//! What root on the board asks the supervisor itself.

mod supervisor;

use coracle_protocol::local::{Answer, Request};
use std::path::Path;
use std::process::{Command, Output};
use supervisor::{asked_once, folder};

fn coracle(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_coracle"))
        .args(line.split(' '))
        .arg("--config")
        .arg(folder.join("coracle.toml"))
        .output()
        .unwrap()
}

/// A supervisor that is asked once, and gives this answer; what it was asked.
fn asked(line: &str, answer: Answer) -> (Request, Output) {
    let folder = folder();
    let supervisor = asked_once(folder.path(), answer, || ());
    let output = coracle(folder.path(), line);
    (supervisor.join().unwrap(), output)
}

#[test]
fn a_reset_asks_the_supervisor_and_only_with_a_yes() {
    for (line, decommission, volumes) in [
        ("factory-reset --yes", false, false),
        ("factory-reset --yes --volumes", false, true),
        ("decommission --yes", true, false),
    ] {
        let (request, output) = asked(line, Answer::Done);
        let expected = Request::Reset {
            decommission,
            volumes,
        };
        assert_eq!(request, expected);
        assert!(output.status.success(), "{output:?}");
    }
    let refused = Answer::Refused {
        code: "not-root".into(),
        reason: "only root on the board may do that".into(),
    };
    let (_, output) = asked("decommission --yes", refused);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("nothing was reset: only root"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let text = format!("[agent]\nrun_dir = \"{}\"\n", folder.path().display());
    std::fs::write(folder.path().join("coracle.toml"), text).unwrap();
    let output = coracle(folder.path(), "decommission");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = coracle(folder.path(), "factory-reset --yes");
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("supervisor.sock"), "{said}");
}
