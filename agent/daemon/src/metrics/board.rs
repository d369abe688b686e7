//! What the board itself uses, as metrics.

use coracle_protocol::report::BoardUse;
use std::fmt::Write;

/// Lines of what is known.
pub fn text(board: &BoardUse) -> String {
    let mut out = String::new();
    let figures = [
        (
            "memory_bytes",
            "The board's memory.",
            board.memory_total_bytes,
        ),
        (
            "memory_used_bytes",
            "Of it, what is in use.",
            board.memory_used_bytes,
        ),
        (
            "agent_memory_bytes",
            "Of it, the agent's own.",
            board.agent_memory_bytes,
        ),
        (
            "load_hundredths",
            "Load average of the last minute.",
            board.load_hundredths,
        ),
        (
            "uptime_seconds",
            "Since the kernel started.",
            board.uptime_seconds,
        ),
        (
            "state_bytes",
            "File system of the state folder.",
            board.state_total_bytes,
        ),
        ("state_free_bytes", "Free there.", board.state_free_bytes),
        (
            "images_bytes",
            "File system of the images, where it is another one.",
            board.images_total_bytes,
        ),
        ("images_free_bytes", "Free there.", board.images_free_bytes),
    ];
    let mut line = |name: &str, help: &str, value: i64| {
        let name = format_args!("coracle_board_{name}");
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}"
        );
    };
    for (name, help, value) in figures {
        if let Some(value) = value.and_then(|value| i64::try_from(value).ok()) {
            line(name, help, value);
        }
    }
    if let Some(at) = board.millidegrees {
        line(
            "temperature_millidegrees",
            "Of its hottest zone, in thousandths of a degree Celsius.",
            at.into(),
        );
    }
    out
}
