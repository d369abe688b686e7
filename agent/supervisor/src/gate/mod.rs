//! What can stand against a switch to a set that is staged. Pure: times and facts come in.

use crate::machine::Why;
use coracle_board_support::config::{Window, Zone};
use coracle_protocol::names::AppName;
use std::time::Duration;

/// A lock that an app holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Whose.
    pub app: AppName,
    /// So long it may.
    pub longest: Duration,
}

/// Everything that stands against it: the first one's word, and all reasons.
pub fn all<const N: usize>(each: [Option<Why>; N]) -> Option<Why> {
    let mut all = each.into_iter().flatten();
    let first = all.next()?;
    Some(all.fold(first, |one, more| {
        Why::new(one.code, format!("{}; {}", one.reason, more.reason))
    }))
}

/// Locks whose time is not over, when locks have put a switch off for so long.
pub fn locked(locks: &[Lock], deferred: Duration) -> Option<Why> {
    let holds: Vec<String> = locks
        .iter()
        .filter(|lock| deferred < lock.longest)
        .map(|lock| {
            let longest = lock.longest.as_secs();
            format!(
                "app `{}` holds the update lock, for at most {longest} s",
                lock.app
            )
        })
        .collect();
    (!holds.is_empty()).then(|| Why::new("update-lock", holds.join(", ")))
}

/// How long a board that does not know the time waits for a maintenance window: each of a day has come by then.
const WITHOUT_CLOCK: Duration = Duration::from_secs(24 * 3600);

/// Maintenance windows, none of which is open. `minute`: of the day, where the board knows the time. `waited`: since the set
/// was staged, on a clock that nobody sets.
pub fn outside(
    windows: &[Window],
    zone: Zone,
    minute: Option<u16>,
    waited: Duration,
) -> Option<Why> {
    let why = |text: String| Some(Why::new("window", text));
    let names: Vec<String> = windows.iter().map(Window::to_string).collect();
    let names = names.join(", ");
    let zone = match zone {
        Zone::Utc => "UTC",
        Zone::Local => "local time",
    };
    match minute {
        _ if windows.is_empty() => None,
        Some(minute) if windows.iter().any(|window| window.has(minute)) => None,
        Some(_) => why(format!("the maintenance window is {names} {zone}")),
        None if waited >= WITHOUT_CLOCK => None,
        None => why(format!(
            "the maintenance window is {names} {zone}, and nobody keeps the board's clock: for 24 hours at most"
        )),
    }
}

/// Nobody has accepted it yet, on a board where somebody has to.
pub fn unaccepted(consent: bool, accepted: bool) -> Option<Why> {
    let text = "somebody on the board has to accept it (`coracle update accept`)";
    (consent && !accepted).then(|| Why::new("consent", text))
}

/// A volume is being restored, which apps of the new set could have.
pub fn restoring(is: bool) -> Option<Why> {
    is.then(|| Why::new("restore", "a volume is being restored"))
}

#[cfg(test)]
mod tests;
