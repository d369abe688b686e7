//! `coracle-console check`: is everything there that a start needs, and does it fit together?

use crate::ca;
use crate::commands;
use crate::deploy::Signer;
use crate::mosquitto;
use crate::settings::{Check, State};
use crate::store::Store;
use coracle_keys::{Key, KeyRef};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::root::TrustedRoot;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why root document and deploy key do not serve.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is in it.
    #[error("{path}: {fault}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// The key.
    #[error("deploy key {place}: {fault}")]
    Key {
        /// Where it should be.
        place: KeyRef,
        /// What is wrong.
        fault: String,
    },
}

/// Reads root document and deploy key, and sees whether they fit.
pub fn trust(root: &Path, deploy_key: &KeyRef) -> Result<Signer, TrustError> {
    let document = trusted_root(root)?;
    let unusable = |fault: anyhow::Error| TrustError::Key {
        place: deploy_key.clone(),
        fault: format!("{fault:#}"),
    };
    let key = Key::open(deploy_key).map_err(|error| unusable(error.into()))?;
    Signer::new(deploy_key.clone(), key, document).map_err(|error| unusable(error.into()))
}

fn trusted_root(path: &Path) -> Result<TrustedRoot, TrustError> {
    TrustedRoot::from_image(&root_envelope(path)?).map_err(|e| TrustError::Content {
        path: path.to_owned(),
        fault: e.to_string(),
    })
}

/// The root document as it is in its file.
pub fn root_envelope(path: &Path) -> Result<Envelope, TrustError> {
    Envelope::parse(&read(path)?).map_err(|e| TrustError::Content {
        path: path.to_owned(),
        fault: e.to_string(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    std::fs::read(path).map_err(|source| TrustError::File {
        path: path.to_owned(),
        source,
    })
}

/// What was found, line by line.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<(bool, String)>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.lines.iter().all(|(good, _)| *good)
    }
    fn add(&mut self, what: &str, result: Result<String, String>) {
        match result {
            Ok(text) => self.lines.push((true, format!("{what}: {text}"))),
            Err(text) => self.lines.push((false, format!("{what}: {text}"))),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (good, line) in &self.lines {
            writeln!(f, "{} {line}", if *good { "ok  " } else { "FAIL" })?;
        }
        Ok(())
    }
}

/// Looks at everything; changes nothing but a database of an older version.
pub async fn run(settings: &Check) -> Report {
    let mut report = Report::default();
    let state = State {
        root: settings.state.clone(),
    };
    report.add(
        "broker program",
        mosquitto::find(&settings.mosquitto)
            .map(|path| path.display().to_string())
            .ok_or_else(|| {
                format!(
                    "`{}` is not installed: apt install mosquitto, or serve with --mqtt-broker",
                    settings.mosquitto.display()
                )
            }),
    );
    if let (Some(root), Some(key)) = (&settings.root, &settings.deploy_key) {
        let good = trust(root, key).map(|signer| match commands::epoch(&signer) {
            Ok(_) => "fit together; the key may command boards".to_owned(),
            Err(why) => format!("fit together; no commands to boards: {why}"),
        });
        report.add(
            "root document and deploy key",
            good.map_err(|e| e.to_string()),
        );
    } else if let Some(root) = &settings.root {
        let good = trusted_root(root).map(|r| format!("version {}", r.document().version));
        report.add("root document", good.map_err(|e| e.to_string()));
    }
    if let Some(key) = &settings.ca_key {
        let good = ca::check_token(&state.pki(), key).map(|()| "opens".to_owned());
        report.add("the CA's key in its token", good.map_err(|e| e.to_string()));
    }
    if !state.database().exists() {
        report.add(
            "state",
            Err(format!(
                "{} holds no database yet; `coracle-console serve` makes it",
                state.root.display()
            )),
        );
        return report;
    }
    let files: &[&str] = match settings.ca_key {
        Some(_) => &["ca.crt"],
        None => &["ca.crt", "ca.key"],
    };
    for file in files {
        let path = state.pki().join(file);
        let found = std::fs::metadata(&path);
        report.add(
            file,
            found
                .map(|_| "there".to_owned())
                .map_err(|e| format!("{}: {e}", path.display())),
        );
    }
    match counts(&state).await {
        Ok(text) => report.add("database", Ok(text)),
        Err(error) => report.add("database", Err(error.to_string())),
    }
    report
}

async fn counts(state: &State) -> Result<String, crate::store::StoreError> {
    let store = Store::open(&state.database()).await?;
    let text = format!(
        "{} boards, {} API tokens",
        store.boards().await?.len(),
        store.tokens().await?.len()
    );
    store.close().await;
    Ok(text)
}
