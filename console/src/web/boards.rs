//! The boards, one board, and a form that makes one known.

use super::board_use;
use super::certificates;
use super::commands;
use super::layout::{self, ago, bytes, short};
use super::session::SignedIn;
use super::{Page, Web};
use crate::live::Dropped;
use crate::problem::Problem;
use crate::rest;
use crate::store::{Assignment, Board, Role};
use axum::extract::{Form, Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use coracle_protocol::names::BoardId;
use coracle_protocol::report::{AppStatus, BoardUse, Current, OwnProgram};
use maud::{Markup, html};
use serde::Deserialize;
use std::collections::HashMap;

#[derive(Deserialize)]
pub struct Search {
    #[serde(default)]
    q: String,
}

pub async fn list(
    State(web): State<Web>,
    SignedIn(who): SignedIn,
    Query(search): Query<Search>,
) -> Page {
    let store = &web.rest.store;
    let all = store.boards().await?;
    let assignments: HashMap<BoardId, Assignment> = store
        .latest_assignments()
        .await?
        .into_iter()
        .map(|a| (a.board.clone(), a))
        .collect();
    let online = all.iter().filter(|b| b.presence.online).count();
    let wanted = search.q.trim().to_lowercase();
    let shown: Vec<&Board> = all.iter().filter(|b| matches(b, &wanted)).collect();
    let body = html! {
        div.head {
            h1 { "Boards" }
            form.search method="get" action="/" role="search" {
                input name="q" type="search" value=(search.q) placeholder="Name, hardware, version"
                    aria-label="Search";
            }
        }
        div #boards data-live="" {
            p.quiet { (online) " of " (all.len()) " online" }
            @if shown.is_empty() { p { "No boards here yet." } } @else {
                table {
                    thead { tr {
                        th { "Board" } th { "Presence" } th { "Hardware" } th { "Runs" }
                        th { "Deployment" }
                    } }
                    tbody {
                        @for board in shown { (row(board, assignments.get(&board.id), web.rest.live.used(board).as_ref())) }
                    }
                }
            }
        }
        @if who.role == Role::Admin {
            details.card {
                summary { "Add a board" }
                form.line method="post" action="/enrol" {
                    label for="board" { "Name" }
                    input #board name="board" required placeholder="tenant.name"
                        pattern="[a-z0-9-]+\\.[a-z0-9-]+";
                    button type="submit" { "Download its enrolment file" }
                }
                p.quiet { "One file, good for this board, once, for a week." }
            }
        }
    };
    let up = web.rest.link.is_up();
    Ok(layout::page("Boards", &who, up, &body).into_response())
}

fn matches(board: &Board, wanted: &str) -> bool {
    let current = board.current.as_ref();
    let set = current.and_then(|c| c.set.as_ref());
    wanted.is_empty()
        || board.id.as_str().contains(wanted)
        || current.is_some_and(|c| c.board.hardware.to_lowercase().contains(wanted))
        || set.is_some_and(|s| {
            s.version.to_lowercase().contains(wanted) || s.product.contains(wanted)
        })
}

fn row(board: &Board, assignment: Option<&Assignment>, used: Option<&(BoardUse, u64)>) -> Markup {
    let current = board.current.as_ref();
    html! {
        tr {
            td data-label="Board" { a href={ "/boards/" (board.id) } { (board.id) } }
            td data-label="Presence" { (layout::dot(board)) (board_use::marks(board, used)) }
            td data-label="Hardware" { (current.map_or("–", |c| c.board.hardware.as_str())) }
            td data-label="Runs" { (runs(current)) }
            td data-label="Deployment" { (deployment(assignment)) }
        }
    }
}

fn runs(current: Option<&Current>) -> Markup {
    match current.and_then(|c| c.set.as_ref()) {
        Some(set) => html! { span { (set.product) " " b { (set.version) } } },
        None => html! { "–" },
    }
}

fn deployment(assignment: Option<&Assignment>) -> Markup {
    match assignment {
        Some(a) => layout::progress(a.progress.as_ref().map(|p| &p.feedback)),
        None => html! { "–" },
    }
}

pub async fn one(State(web): State<Web>, SignedIn(who): SignedIn, Path(id): Path<String>) -> Page {
    let unknown = || Problem::missing("no such board", "the boards are listed at /");
    let id = BoardId::new(&id).map_err(|_| unknown())?;
    let board = web.rest.store.board(&id).await?.ok_or_else(unknown)?;
    let assignment = web.rest.store.latest_assignment(&id).await?;
    let last = web.rest.store.last_feedback(&id).await?;
    let held = web.rest.store.certificates(&id).await?;
    let commanded = commands::of(&web.rest.store, &id).await?;
    let telemetry = web.rest.live.telemetry(&id);
    let uses = |app: &AppStatus| {
        telemetry
            .as_ref()
            .and_then(|(t, _)| t.apps.iter().find(|u| u.name == app.name))
            .map(|u| u.memory_bytes)
            .or(app.memory_bytes)
    };
    let body = html! {
        div #board data-live="" {
            div.head { h1 { (board.id) } (layout::dot(&board)) }
            (certificates::notice(&board))
            @if let Some(since) = board.presence.since {
                p.quiet { "since " (ago(since)) }
            }
            @if let Some(current) = &board.current {
                (facts(&board, current))
                (odd_messages(web.rest.live.dropped(&id)))
                @if let Some((used, at)) = web.rest.live.used(&board) {
                    (board_use::facts(&used, at, Some(current.board.cpus)))
                }
                h2 { "Apps" }
                @match &current.set {
                    Some(set) => {
                        p { (set.product) " " b { (set.version) } ", " (layout::set_state(set.state))
                            ", release " code { (short(&set.release)) } }
                        @if let Some(since) = set.stale_since {
                            p.reason { "Its documents expired " (ago(since))
                                ". It runs on: assign it anew, or a newer release." }
                        }
                        (apps(&set.apps, uses))
                    }
                    None => { p { "Nothing runs here yet." } }
                }
            } @else {
                p { "This board has not said anything yet." }
            }
            h2 { "Deployment" }
            @if let Some(a) = &assignment {
                p { a href={ "/deployments/" (a.deployment) } { "Assignment " (a.seq) } ", "
                    (ago(a.created_at)) }
                (deployment(Some(a)))
            } @else { p { "Nothing was assigned." } }
            @if let Some(last) = last.filter(|l| {
                assignment.as_ref().is_none_or(|a| a.activity != l.feedback.activity)
            }) {
                h2 { "By stick or by hand" }
                (layout::progress(Some(&last.feedback)))
            }
            (commands::table(&commanded))
            (certificates::table(&held))
        }
        (certificates::form(&board, &who))
    };
    let up = web.rest.link.is_up();
    Ok(layout::page(board.id.as_str(), &who, up, &body).into_response())
}

fn facts(board: &Board, current: &Current) -> Markup {
    let facts = &current.board;
    html! {
        dl.facts {
            div { dt { "Hardware" } dd { (facts.hardware) " (" (facts.profile) ")" } }
            div { dt { "Processor" } dd { (facts.cpus) " × " (facts.architecture) } }
            div { dt { "Memory" } dd { (bytes(facts.memory_bytes)) } }
            div { dt { "Kernel" } dd { (facts.kernel) } }
            div { dt { "Agent" } dd { (agent(current)) } }
            div { dt { "Layers held" } dd { (current.layers.len()) } }
            @if let Some(at) = board.current_at { div { dt { "Heard" } dd { (ago(at)) } } }
        }
    }
}

/// What a board with a fault, or in foreign hands, sends; a repetition is neither.
fn odd_messages(dropped: Dropped) -> Markup {
    let Dropped {
        too_long,
        malformed,
        ..
    } = dropped;
    html! {
        @if too_long + malformed > 0 {
            p.reason { "Messages that were of no use since the console started: "
                (too_long) " too long, " (malformed) " not readable." }
        }
    }
}

/// What runs as the board's own two processes.
fn agent(current: &Current) -> String {
    let Some(supervisor) = &current.supervisor else {
        return current.board.agent.clone();
    };
    let one = |program: &OwnProgram| match program.brought {
        Some(_) => format!("{} of a release", program.version),
        None => format!("{} of the root file system", program.version),
    };
    match &current.daemon {
        Some(daemon) if daemon != supervisor => {
            format!("{}; coracled is {}", one(supervisor), one(daemon))
        }
        _ => one(supervisor),
    }
}

fn apps(apps: &[AppStatus], uses: impl Fn(&AppStatus) -> Option<u64>) -> Markup {
    html! {
        table {
            thead { tr {
                th { "App" } th { "State" } th { "Memory" } th { "Limits" } th { "Restarts" }
                th { "Ports" }
            } }
            tbody {
                @for app in apps {
                    tr {
                        td data-label="App" { b { (app.name) } br; span.quiet { (app.image) } }
                        td data-label="State" { (state(app)) }
                        td data-label="Memory" { (memory(app, uses(app))) }
                        td data-label="Limits" {
                            (bytes(app.limits.memory_bytes)) ", "
                            (cores(app.limits.cpu_millis)) ", "
                            (app.limits.pids) " processes"
                        }
                        td data-label="Restarts" { (app.restarts) }
                        td data-label="Ports" { (ports(app)) }
                    }
                }
            }
        }
    }
}

fn state(app: &AppStatus) -> Markup {
    html! {
        (layout::app_state(app))
        @if let Some(code) = app.exit_code { ", code " (code) }
        @if app.oom_killed { span.bad { " out of memory" } }
        @match app.healthy {
            Some(true) => { span.good { " healthy" } }
            Some(false) => { span.bad { " unhealthy" } }
            None => {}
        }
        @if let Some(text) = app.health_text.as_ref().filter(|_| app.healthy == Some(false)) {
            p.reason { (text) }
        }
    }
}

fn memory(app: &AppStatus, used: Option<u64>) -> Markup {
    match used {
        Some(used) => html! {
            (bytes(used))
            meter min="0" max=(app.limits.memory_bytes) high=(app.limits.memory_bytes / 10 * 9)
                value=(used) {}
        },
        None => html! { "–" },
    }
}

fn cores(millis: u32) -> String {
    format!("{}.{:02} cores", millis / 1000, millis % 1000 / 10)
}

fn ports(app: &AppStatus) -> String {
    let all: Vec<String> = app
        .ports
        .iter()
        .map(|p| format!("{}→{}", p.host, p.container))
        .collect();
    if all.is_empty() {
        "–".into()
    } else {
        all.join(", ")
    }
}

#[derive(Deserialize)]
pub struct NewBoard {
    board: String,
}

pub async fn enrol(
    State(web): State<Web>,
    SignedIn(who): SignedIn,
    Form(form): Form<NewBoard>,
) -> Page {
    let board = BoardId::new(form.board.trim())
        .map_err(|e| Problem::bad(e.to_string(), "a board is called `tenant.name`"))?;
    let name = format!("attachment; filename=\"{board}.enrolment.json\"");
    let file = rest::new_enrolment(&web.rest, &who.name, board, None).await?;
    let text = serde_json::to_string_pretty(&file).map_err(Problem::inside)?;
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, text).into_response())
}
