//! Programs of an app's own that run around its start and its end, in its own container.

use super::App;
use crate::document::{text, within};
use crate::limits::LIMITS;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A hook before or after the start that says nothing may take so long.
pub const DEFAULT_HOOK_SECONDS: u32 = 30;

/// As long as the longest grace: an app that takes longer to start is an app of its own (`depends_on`).
const LONGEST_SECONDS: u64 = 600;

/// The hooks of an app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// Before each start, in a container like the app's; without its success the app is not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_start: Option<Hook>,
    /// In the running app, after each start; without its success the app is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_start: Option<Hook>,
    /// In the running app, before its stop signal and within its grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<Hook>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// The program and its arguments; no shell reads them.
    pub argv: Vec<String>,
    /// It is killed after so long. When left out [`DEFAULT_HOOK_SECONDS`]; before a stop half of `stop_grace_seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
}

/// Which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookKind {
    /// Before a start.
    PreStart,
    /// After a start.
    PostStart,
    /// Before a stop.
    PreStop,
}

/// The word in the release.
impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PreStart => "pre_start",
            Self::PostStart => "post_start",
            Self::PreStop => "pre_stop",
        })
    }
}

impl Hooks {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl<L> App<L> {
    /// The program of a hook, and how long it may take.
    pub fn hook(&self, kind: HookKind) -> Option<(&[String], Duration)> {
        let (hook, default) = match kind {
            HookKind::PreStart => (&self.hooks.pre_start, DEFAULT_HOOK_SECONDS),
            HookKind::PostStart => (&self.hooks.post_start, DEFAULT_HOOK_SECONDS),
            HookKind::PreStop => (&self.hooks.pre_stop, self.stop_grace_seconds / 2),
        };
        let hook = hook.as_ref()?;
        let seconds = hook.timeout_seconds.unwrap_or(default);
        Some((&hook.argv, Duration::from_secs(seconds.into())))
    }

    pub(super) fn check_hooks(&self) -> Result<(), String> {
        for kind in [HookKind::PreStart, HookKind::PostStart, HookKind::PreStop] {
            let Some((argv, timeout)) = self.hook(kind) else {
                continue;
            };
            let field = format!("hooks.{kind}.argv");
            within(&field, argv.len() as u64, LIMITS.entries_per_app as u64)?;
            if argv.first().is_none_or(String::is_empty) {
                return Err(format!("{field} names no program"));
            }
            argv.iter().try_for_each(|arg| text(&field, arg))?;
            let field = format!("hooks.{kind}.timeout_seconds");
            within(&field, timeout.as_secs(), LONGEST_SECONDS)?;
            let grace = self.stop_grace_seconds;
            if kind == HookKind::PreStop && (grace < 2 || timeout.as_secs() >= grace.into()) {
                return Err(format!(
                    "{field} is {} and stop_grace_seconds {grace}: the hook runs within the grace and leaves a second of it at least to the app; \
                     stop_grace_seconds has to be 2 at least, and more than the hook's time",
                    timeout.as_secs()
                ));
            }
            if timeout.is_zero() {
                return Err(format!("{field} is 0; leave it out for the default"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::plain_app::app;
    use super::*;

    fn fault(hooks: serde_json::Value, grace: u32) -> String {
        app(serde_json::json!({ "hooks": hooks, "stop_grace_seconds": grace }))
            .check_hooks()
            .unwrap_err()
    }

    #[test]
    fn what_is_left_out_has_a_bound() {
        let hook = serde_json::json!({ "argv": ["/bin/x", "1"] });
        let plain = serde_json::json!({ "pre_start": hook, "post_start": hook, "pre_stop": hook });
        let app = app(serde_json::json!({ "hooks": plain, "stop_grace_seconds": 9 }));
        assert_eq!(app.check_hooks(), Ok(()));
        let seconds = |kind| app.hook(kind).unwrap().1.as_secs();
        assert_eq!(seconds(HookKind::PreStart), 30);
        assert_eq!(seconds(HookKind::PostStart), 30);
        assert_eq!(seconds(HookKind::PreStop), 4);
        assert_eq!(app.hook(HookKind::PreStart).unwrap().0, ["/bin/x", "1"]);
    }

    #[test]
    fn who_has_none_says_nothing() {
        let json = serde_json::to_string(&app(serde_json::json!({}))).unwrap();
        assert!(!json.contains("hooks"), "{json}");
    }

    #[test]
    fn a_hook_has_a_program_and_an_end() {
        let with = |argv: serde_json::Value, seconds: u64| serde_json::json!({ "pre_start": { "argv": argv, "timeout_seconds": seconds } });
        for (argv, seconds, words) in [
            (
                serde_json::json!([]),
                1,
                "hooks.pre_start.argv names no program",
            ),
            (
                serde_json::json!([""]),
                1,
                "hooks.pre_start.argv names no program",
            ),
            (
                serde_json::json!(["/a\0b"]),
                1,
                "hooks.pre_start.argv holds a NUL byte",
            ),
            (
                serde_json::json!(vec!["x"; 129]),
                1,
                "hooks.pre_start.argv is 129; the limit is 128",
            ),
            (
                serde_json::json!(["/x"]),
                0,
                "hooks.pre_start.timeout_seconds is 0",
            ),
            (
                serde_json::json!(["/x"]),
                601,
                "hooks.pre_start.timeout_seconds is 601; the limit is 600",
            ),
        ] {
            let text = fault(with(argv, seconds), 10);
            assert!(text.starts_with(words), "{text}");
        }
        let longest = serde_json::json!({ "hooks": with(serde_json::json!(["/x"]), 600) });
        assert_eq!(app(longest).check_hooks(), Ok(()));
    }

    #[test]
    fn before_a_stop_the_app_keeps_some_of_its_grace() {
        let hook = |seconds: Option<u64>| serde_json::json!({ "pre_stop": { "argv": ["/x"], "timeout_seconds": seconds } });
        let words = "hooks.pre_stop.timeout_seconds is 10 and stop_grace_seconds 10";
        assert!(fault(hook(Some(10)), 10).starts_with(words));
        for grace in [0, 1] {
            assert!(fault(hook(None), grace).contains("stop_grace_seconds has to be 2 at least"));
        }
        let fits = serde_json::json!({ "hooks": hook(Some(9)), "stop_grace_seconds": 10 });
        assert_eq!(app(fits).check_hooks(), Ok(()));
    }
}
