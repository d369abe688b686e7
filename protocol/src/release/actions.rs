//! What an operator may have an app do: programs in its own container, each named in the signed release with every argument.

use super::App;
use crate::document::{line, text, within};
use crate::limits::LIMITS;
use crate::names::ActionName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A program that a command may name. The command adds nothing to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedAction {
    /// What a command calls it.
    pub name: ActionName,
    /// The program and its arguments; its user, environment, folder and limits are the app's.
    pub argv: Vec<String>,
    /// It is killed after so long, in seconds.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u32,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

fn default_timeout() -> u32 {
    30
}

impl<L> App<L> {
    /// The action of this name; otherwise which there are, in words.
    ///
    /// # Errors
    /// A sentence for whoever asked.
    pub fn action(&self, name: &ActionName) -> Result<&NamedAction, String> {
        if let Some(action) = self.actions.iter().find(|action| action.name == *name) {
            return Ok(action);
        }
        let names: Vec<&str> = self.actions.iter().map(|a| a.name.as_str()).collect();
        Err(match names.is_empty() {
            true => format!("app `{}` has no actions in the running release", self.name),
            false => format!(
                "app `{}` has no action `{name}`; the running release names {}",
                self.name,
                names.join(", ")
            ),
        })
    }

    pub(super) fn check_actions(&self) -> Result<(), String> {
        let l = &LIMITS;
        within("actions", self.actions.len() as u64, l.actions as u64)?;
        let mut names = BTreeSet::new();
        for action in &self.actions {
            let at = |fault: String| format!("action `{}`: {fault}", action.name);
            if !names.insert(&action.name) {
                return Err(at("is named twice".into()));
            }
            action.check().map_err(at)?;
        }
        Ok(())
    }
}

impl NamedAction {
    fn check(&self) -> Result<(), String> {
        let l = &LIMITS;
        within("argv", self.argv.len() as u64, l.entries_per_app as u64)?;
        if self.argv.first().is_none_or(String::is_empty) {
            return Err("argv names no program".into());
        }
        self.argv.iter().try_for_each(|arg| text("argv", arg))?;
        if self.timeout_seconds == 0 {
            return Err("timeout_seconds is 0; the least is 1".into());
        }
        let longest = l.action_seconds.into();
        within("timeout_seconds", self.timeout_seconds.into(), longest)?;
        let description = self.description.as_ref();
        description.map_or(Ok(()), |text| line("description", text))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    fn checked(actions: Value) -> Result<(), String> {
        let blob = json!({ "digest": format!("sha256:{}", "0".repeat(64)), "size": 0 });
        let app: crate::release::SignedApp = serde_json::from_value(json!({
            "name": "web",
            "image": { "name": "a:1", "manifest": blob, "config": blob, "layers": [] },
            "limits": { "memory_bytes": 1 << 20, "cpu_millis": 100, "pids": 1 },
            "actions": actions,
        }))
        .map_err(|e| e.to_string())?;
        app.check_actions()
    }

    #[test]
    fn an_action_is_whole_and_ends() {
        let one = |more: Value| {
            let mut action = json!({"name": "reindex", "argv": ["/bin/reindex", "--all"]});
            let more = more.as_object().unwrap().clone();
            action.as_object_mut().unwrap().extend(more);
            checked(json!([action]))
        };
        assert_eq!(one(json!({})), Ok(()));
        assert_eq!(one(json!({"timeout_seconds": 300})), Ok(()));
        for (more, says) in [
            (json!({"timeout_seconds": 301}), "the limit is 300"),
            (json!({"timeout_seconds": 0}), "the least is 1"),
            (json!({"argv": []}), "names no program"),
            (json!({"argv": ["a\0b"]}), "NUL"),
            (json!({"description": "a\u{1b}[2J"}), "control character"),
            (json!({"name": "Re index"}), "action name: 1 to 48"),
            (json!({"user": "root"}), "unknown field"),
        ] {
            let fault = one(more).unwrap_err();
            assert!(fault.contains(says), "{fault}");
        }
        let twice = json!({"name": "a", "argv": ["x"]});
        let fault = checked(json!([twice, twice])).unwrap_err();
        assert_eq!(fault, "action `a`: is named twice");
        let many: Vec<Value> = (0..17)
            .map(|n| json!({"name": format!("a{n}"), "argv": ["x"]}))
            .collect();
        assert!(
            checked(json!(many))
                .unwrap_err()
                .contains("the limit is 16")
        );
    }
}
