//! What can stand against a switch to a set that is staged. Pure: times and facts come in.

use crate::machine::Why;
use coracle_board_support::config::{Window, Zone};
use coracle_protocol::names::{AppName, VolumeName};
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

/// What a board that does not know the time has instead of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Up {
    /// So long it was up since the set was staged, on a clock that nobody sets, all its starts together.
    pub waited: Duration,
    /// So long is enough; `None`: never.
    pub enough: Option<Duration>,
}

/// Maintenance windows, none of which is open. `minute`: of the day, where the board knows the time.
pub fn outside(windows: &[Window], zone: Zone, minute: Option<u16>, up: Up) -> Option<Why> {
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
        None => match up.enough {
            Some(enough) if up.waited >= enough => None,
            Some(enough) => why(format!(
                "the maintenance window is {names} {zone}, and nobody keeps the board's clock: until it was up for {} hours",
                enough.as_secs() / 3600
            )),
            None => why(format!(
                "the maintenance window is {names} {zone}, and nobody keeps the board's clock: until somebody does"
            )),
        },
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

/// One that the new set converts is being backed up: it could not be copied.
pub fn backing_up(volume: Option<VolumeName>) -> Option<Why> {
    let volume = volume?;
    let text = format!("volume `{volume}`, which it converts, is being backed up");
    Some(Why::new("backup", text))
}

/// Work that the execution of another program would cut off holds that off for so long altogether, and no longer.
const WORK: Duration = Duration::from_secs(3600);

/// Such work, unless it has held for as long as it may.
pub fn working(work: Option<String>, held: Duration) -> Option<String> {
    work.filter(|_| held < WORK)
}

mod spent;

pub use spent::Spent;

#[cfg(test)]
mod tests;
