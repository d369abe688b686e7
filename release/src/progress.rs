//! How far it is: bars when stderr is a terminal, nothing on the way otherwise. What was done is said
//! in either case, by whoever did it.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::Read;
use std::time::Duration;

/// A bar over bytes; invisible when stderr is no terminal (indicatif sees to that).
pub fn bytes(what: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{msg:<40!} {bar:24} {bytes:>10} of {total_bytes} {bytes_per_sec} {eta}",
    );
    let bar = ProgressBar::new(total);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

/// A spinner for work whose length is not known.
pub fn work(what: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Moves `bar` as `source` is read.
pub fn reading<R: Read>(bar: &ProgressBar, source: R) -> impl Read + use<R> {
    bar.wrap_read(source)
}
