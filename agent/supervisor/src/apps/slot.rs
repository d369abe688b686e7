//! What an app's container is called on the board: its cgroup, its folders, whose address it has. That is the app's name; but
//! while an app is handed over there are two containers of it, and the later one takes the slot that the earlier one does not
//! have. It stays there for as long as its set runs.

use crate::apps::layer;
use coracle_board_support::config::Config;
use coracle_protocol::names::AppName;

/// Ends the name of the second slot. No app can be called so.
const SECOND: char = '~';

/// Where the app of a set (`container`) is: its writable layer says so.
pub fn of(config: &Config, app: &AppName, container: &str) -> String {
    let second = other_than(app.as_str());
    match layer::is_of(config, &second, container) {
        true => second,
        false => app.to_string(),
    }
}

/// The other slot of the same app.
pub fn other_than(slot: &str) -> String {
    match slot.strip_suffix(SECOND) {
        Some(first) => first.to_owned(),
        None => format!("{slot}{SECOND}"),
    }
}

/// Whether it is an app's second one.
pub fn is_second(slot: &str) -> bool {
    slot.ends_with(SECOND)
}

/// Whether an app can have it.
pub fn is_one(name: &str) -> bool {
    AppName::new(name.strip_suffix(SECOND).unwrap_or(name)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_two_and_no_other_app_has_either() {
        assert_eq!(other_than("web"), "web~");
        assert_eq!(other_than("web~"), "web");
        assert!(is_second("web~") && !is_second("web"));
        assert!(is_one("web") && is_one("web~"));
        for none in ["", "~", "web~~", "We", "web~b"] {
            assert!(!is_one(none), "{none}");
        }
        assert!(AppName::new("web~").is_err());
    }
}
