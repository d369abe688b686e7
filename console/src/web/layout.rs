//! The frame of every page, and words and numbers for people.

use crate::clock::now;
use crate::problem::Problem;
use crate::store::{Board, Identity, Role};
use coracle_protocol::report::{AppState, AppStatus, Feedback, Phase, SetState};
use maud::{DOCTYPE, Markup, html};

/// A page with navigation; `body` lies in `main`.
pub fn page(title: &str, who: &Identity, broker_up: bool, body: &Markup) -> Markup {
    frame(
        title,
        &html! {
            header {
                a.brand href="/" { "Coracle" }
                nav {
                    a href="/" { "Boards" }
                    a href="/deployments" { "Deployments" }
                    a href="/audit" { "Audit" }
                }
                form.out method="post" action="/sign-out" {
                    span { (who.name) @if who.role == Role::ReadOnly { " (read only)" } }
                    button.plain type="submit" { "Sign out" }
                }
            }
            main {
                div #link data-live="" {
                    @if !broker_up {
                        p.warning role="alert" {
                            "No connection to the MQTT broker: what is shown may be old, and \
                             assignments wait until it is back."
                        }
                    }
                }
                (body)
            }
        },
    )
}

fn frame(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Coracle" }
                link rel="stylesheet" href="/style.css";
                script src="/app.js" defer {}
            }
            body { (body) }
        }
    }
}

/// The sign-in page.
pub fn sign_in(fault: Option<&str>) -> Markup {
    frame(
        "Sign in",
        &html! {
            main.narrow {
                h1 { "Coracle console" }
                form.card method="post" action="/sign-in" {
                    label for="token" { "API token" }
                    input #token name="token" type="password" required autofocus
                        autocomplete="current-password";
                    @if let Some(fault) = fault { p.warning role="alert" { (fault) } }
                    button type="submit" { "Sign in" }
                    p.quiet {
                        "The first token is in " code { "STATE/admin.token" } ". "
                        code { "coracle-console token new" } " makes more."
                    }
                }
            }
        },
    )
}

/// A page that says why there is none.
pub fn problem(problem: &Problem) -> Markup {
    frame(
        "Refused",
        &html! {
            main.narrow {
                h1 { "That did not work" }
                p.warning { (problem.error()) }
                p { (problem.hint()) }
                p { a href="/" { "Back to the boards" } }
            }
        },
    )
}

/// Online or not, as a dot and in words.
pub fn dot(board: &Board) -> Markup {
    let (class, word) = match (board.enrolled_at, board.presence.since) {
        _ if board.revoked_at.is_some() => ("dot offline", "revoked"),
        (None, _) => ("dot waiting", "not enrolled"),
        (_, None) => ("dot waiting", "never seen"),
        _ if board.presence.online => ("dot online", "online"),
        _ => ("dot offline", "offline"),
    };
    html! { span.presence { span class=(class) aria-hidden="true" {} (word) } }
}

/// Where a deployment is on a board, with its reason.
pub fn progress(feedback: Option<&Feedback>) -> Markup {
    let Some(feedback) = feedback else {
        return html! { span.phase { "waiting for the board" } };
    };
    let (class, word) = phase(feedback.phase);
    html! {
        span class={ "phase " (class) } {
            (word)
            @if let Some(percent) = feedback.percent.filter(|_| !feedback.phase.is_end()) {
                " " (percent) " %"
            }
        }
        @if let Some(percent) = feedback.percent.filter(|_| !feedback.phase.is_end()) {
            progress max="100" value=(percent) {}
        }
        @if let Some(blob) = feedback.blob.as_ref().filter(|_| !feedback.phase.is_end()) { p.reason { (blob) } }
        @if let Some(reason) = &feedback.reason { p.reason { (reason) } }
        @if let Some(code) = &feedback.code { code.code { (code) } }
    }
}

fn phase(phase: Phase) -> (&'static str, &'static str) {
    match phase {
        Phase::Received => ("busy", "received"),
        Phase::Verified => ("busy", "signatures checked"),
        Phase::Fetching => ("busy", "fetching"),
        Phase::Staging => ("busy", "unpacking"),
        Phase::Waiting => ("busy", "waiting"),
        Phase::Switching => ("busy", "switching"),
        Phase::Trial => ("busy", "on trial"),
        Phase::Committed => ("good", "running"),
        Phase::Refused => ("bad", "refused"),
        Phase::RolledBack => ("bad", "rolled back"),
        Phase::Failed => ("bad", "failed"),
    }
}

/// A set's state in words.
pub fn set_state(state: SetState) -> &'static str {
    match state {
        SetState::Trial => "on trial",
        SetState::Committed => "kept",
    }
}

/// An app's state in words.
pub fn app_state(app: &AppStatus) -> &'static str {
    match app.state {
        _ if app.paused => "paused",
        AppState::Created => "created",
        AppState::Running => "running",
        AppState::Restarting => "restarting",
        AppState::Exited => "exited",
    }
}

/// `64 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut rest = 0;
    let mut value = count;
    while value >= 1024 && unit + 1 < UNITS.len() {
        rest = value % 1024;
        value /= 1024;
        unit += 1;
    }
    let tenth = rest * 10 / 1024;
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 || value >= 100 || tenth == 0 {
        format!("{value} {name}")
    } else {
        format!("{value}.{tenth} {name}")
    }
}

/// `3 min ago`.
pub fn ago(at: u64) -> String {
    let seconds = now().saturating_sub(at);
    match seconds {
        0..=4 => "just now".into(),
        5..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// The first digits of a digest.
pub fn short(digest: &coracle_digest::Sha256Digest) -> String {
    digest.hex()[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (64 << 20, "64 MiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn the_blob_that_comes_is_told_until_the_end() {
        let mut feedback = Feedback {
            activity: "a".into(),
            sequence: 1,
            phase: Phase::Fetching,
            percent: Some(40),
            code: None,
            reason: None,
            fetched: None,
            blob: Some("layer 2 of 3 of web".into()),
        };
        let shown = progress(Some(&feedback)).into_string();
        assert!(
            shown.contains("40 %") && shown.contains("layer 2 of 3 of web"),
            "{shown}"
        );
        feedback.phase = Phase::Failed;
        let shown = progress(Some(&feedback)).into_string();
        assert!(!shown.contains("layer 2"), "{shown}");
    }

    #[test]
    fn what_a_board_says_is_text_and_not_markup() {
        let feedback = Feedback {
            activity: "a".into(),
            sequence: 1,
            phase: Phase::Refused,
            percent: None,
            code: Some("x".into()),
            reason: Some("<script>alert(1)</script>".into()),
            fetched: None,
            blob: None,
        };
        let shown = progress(Some(&feedback)).into_string();
        assert!(
            shown.contains("&lt;script&gt;") && !shown.contains("<script>"),
            "{shown}"
        );
    }
}
