//! Deployments, and a form that makes one.

use super::layout::{self, ago, bytes, short};
use super::session::SignedIn;
use super::{Page, Web, see_other};
use crate::deploy::{EXPIRES_IN, Order, Standing};
use crate::problem::Problem;
use crate::rest;
use crate::store::{Assignment, Board, Deployment, Fate, ReleaseRow, Role};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use coracle_protocol::names::BoardId;
use maud::{Markup, html};
use std::collections::BTreeSet;

/// Rows on the page.
const SHOWN: u32 = 50;

pub async fn list(State(web): State<Web>, SignedIn(who): SignedIn) -> Page {
    let store = &web.rest.store;
    let deployments = store.deployments(SHOWN).await?;
    let releases = store.releases(SHOWN).await?;
    let mut rows = Vec::new();
    for deployment in &deployments {
        let release = store.release(&deployment.release).await?;
        rows.push(row(
            deployment,
            release.as_ref(),
            &store.assignments(&deployment.id).await?,
        ));
    }
    let body = html! {
        h1 { "Deployments" }
        @if who.role == Role::Admin {
            (form(&releases, &store.boards().await?))
        }
        div #deployments data-live="" {
            @for line in preparing(&web, &releases) { p.quiet { (line) } }
            @if rows.is_empty() { p { "None yet." } } @else {
                table {
                    thead { tr {
                        th { "Release" } th { "When" } th { "By" } th { "Boards" } th { "Outcome" }
                    } }
                    tbody { @for row in rows { (row) } }
                }
            }
        }
    };
    let up = web.rest.link.is_up();
    Ok(layout::page("Deployments", &who, up, &body).into_response())
}

/// A line for each release whose deltas are being made.
fn preparing(web: &Web, releases: &[ReleaseRow]) -> Vec<String> {
    let line = |release: &ReleaseRow| {
        let progress = web.rest.deltas.progress(&release.digest)?;
        let (product, version) = (&release.product, &release.version);
        (progress.done < progress.pairs).then(|| {
            format!(
                "Making deltas for {product} {version}: {} of {} layers looked at. A deployment now sends full layers where one is missing.",
                progress.done, progress.pairs
            )
        })
    };
    releases.iter().filter_map(line).collect()
}

fn row(deployment: &Deployment, release: Option<&ReleaseRow>, boards: &[Assignment]) -> Markup {
    let ends = |good: bool| {
        boards
            .iter()
            .filter_map(|a| a.progress.as_ref())
            .filter(|p| p.feedback.phase.is_end())
            .filter(|p| (p.feedback.phase == coracle_protocol::report::Phase::Committed) == good)
            .count()
    };
    let (good, bad) = (ends(true), ends(false));
    let is_open = |a: &&Assignment| {
        let ended = a
            .progress
            .as_ref()
            .is_some_and(|p| p.feedback.phase.is_end());
        !ended && a.withdrawn_at.is_none()
    };
    let open = boards.iter().filter(is_open).count();
    html! {
        tr {
            td data-label="Release" {
                a href={ "/deployments/" (deployment.id) } { (title(deployment, release)) }
                @if rest::state(deployment) != "open" { " " span.phase { (rest::state(deployment)) } }
            }
            td data-label="When" { (ago(deployment.created_at)) }
            td data-label="By" { (deployment.created_by) }
            td data-label="Boards" { (boards.len()) }
            td data-label="Outcome" {
                @if good > 0 { span.phase.good { (good) " running" } " " }
                @if bad > 0 { span.phase.bad { (bad) " not" } " " }
                @if open > 0 { span.phase.busy { (open) " under way" } }
            }
        }
    }
}

fn title(deployment: &Deployment, release: Option<&ReleaseRow>) -> String {
    release.map_or_else(
        || short(&deployment.release),
        |r| format!("{} {}", r.product, r.version),
    )
}

fn form(releases: &[ReleaseRow], boards: &[Board]) -> Markup {
    html! {
        details.card {
            summary { "New deployment" }
            @if releases.is_empty() || boards.is_empty() {
                p { "It takes a release (" code { "coracle-release push" } ") and a board." }
            } @else {
                form method="post" action="/deployments" {
                    label for="release" { "Release" }
                    select #release name="release" {
                        @for release in releases {
                            option value=(release.digest) {
                                (release.product) " " (release.version) " (" (short(&release.digest)) ")"
                            }
                        }
                    }
                    fieldset {
                        legend { "Boards" }
                        @for board in boards {
                            label.check {
                                input type="checkbox" name="board" value=(board.id);
                                " " (board.id)
                            }
                        }
                    }
                    button type="submit" { "Deploy" }
                }
            }
        }
    }
}

pub async fn one(State(web): State<Web>, SignedIn(who): SignedIn, Path(id): Path<String>) -> Page {
    let store = &web.rest.store;
    let unknown = || Problem::missing("no such deployment", "they are listed at /deployments");
    let deployment = store.deployment(&id).await?.ok_or_else(unknown)?;
    let release = store.release(&deployment.release).await?;
    let boards = rest::standings(store, &deployment).await?;
    let title = title(&deployment, release.as_ref());
    let body = html! {
        h1 { (title) }
        p.quiet {
            "by " (deployment.created_by) ", release " code { (short(&deployment.release)) }
        }
        @if who.role == Role::Admin { (changes(&deployment, &boards)) }
        div #deployment data-live="" {
            (notice(&deployment))
            table {
                thead { tr { th { "Board" } th { "Where it is" } th { "Fetched" } th { "Deltas" } } }
                tbody {
                    @for (a, standing) in &boards {
                        tr {
                            td data-label="Board" { a href={ "/boards/" (a.board) } { (a.board) } }
                            td data-label="Where it is" {
                                (layout::progress(a.progress.as_ref().map(|p| &p.feedback)))
                                @if let Some(p) = &a.progress { p.quiet { (ago(p.at)) } }
                                @if let Some(standing) = standing { p.reason { (in_words(standing)) } }
                            }
                            td data-label="Fetched" { (fetched(a)) }
                            td data-label="Deltas" { (deltas(a)) }
                        }
                    }
                }
            }
        }
    };
    let up = web.rest.link.is_up();
    Ok(layout::page(&title, &who, up, &body).into_response())
}

fn notice(deployment: &Deployment) -> Markup {
    html! {
        @match (deployment.cancelled_at, deployment.paused_at) {
            (Some(at), _) => { p.warning { "Cancelled " (ago(at)) "." } }
            (None, Some(at)) => { p.warning { "Paused " (ago(at)) ": boards that were not sent to are held." } }
            (None, None) => {}
        }
    }
}

/// For admins, as long as it is not cancelled, or not everywhere.
fn changes(deployment: &Deployment, boards: &[(Assignment, Option<Standing>)]) -> Markup {
    let to = |change: &str| format!("/deployments/{}/{change}", deployment.id);
    let is_left = |(_, standing): &&(_, Option<Standing>)| *standing == Some(Standing::NotSigned);
    let left = boards.iter().filter(is_left).count();
    html! {
        @if left > 0 {
            form.line method="post" action=(to("cancel")) {
                button type="submit" { "Cancel once more" }
                p.quiet { "What takes it back is not signed for " (left) " of " (boards.len()) " boards." }
            }
        }
        @if deployment.cancelled_at.is_none() {
            details.card {
                summary { "Hold it, or take it back" }
                @if deployment.paused_at.is_some() {
                    form.line method="post" action=(to("resume")) {
                        button type="submit" { "Resume" }
                        p.quiet { "The boards that are held are sent to." }
                    }
                } @else {
                    form.line method="post" action=(to("pause")) {
                        button type="submit" { "Pause" }
                        p.quiet { "Boards that have said nothing of it yet are held. What has begun goes on." }
                    }
                }
                form.line method="post" action=(to("cancel")) {
                    button type="submit" { "Cancel" }
                    p.quiet { "Boards that fetch or wait drop it and keep what runs. One that has switched is beyond it." }
                }
            }
        }
    }
}

fn in_words(standing: &Standing) -> String {
    match standing {
        Standing::Held => "held".into(),
        Standing::NotSent => "cancelled before it was sent to this board".into(),
        Standing::Cancelling => "cancelled; the board has not answered yet".into(),
        Standing::Cancelled => "cancelled: the board keeps what runs".into(),
        Standing::NotTaken(why) => format!("cancelled, which the board refused: {why}"),
        Standing::NotSigned => {
            "cancelled; what takes it back on this board is not signed yet".into()
        }
        Standing::Left(Fate::TooLate) => "too late to cancel: the board has switched".into(),
        Standing::Left(Fate::Ended) => "nothing to cancel: it did not stay".into(),
        Standing::Left(Fate::Superseded) => "superseded: a newer deployment is wanted there".into(),
        Standing::Left(Fate::GoesOn(why)) => format!("cannot be cancelled: {why}"),
    }
}

fn fetched(assignment: &Assignment) -> String {
    let said = assignment
        .progress
        .as_ref()
        .and_then(|p| p.feedback.fetched);
    said.map_or_else(
        || "–".into(),
        |f| {
            if f.full_bytes > 0 {
                format!("{} instead of {}", bytes(f.wire_bytes), bytes(f.full_bytes))
            } else {
                bytes(f.wire_bytes)
            }
        },
    )
}

fn deltas(assignment: &Assignment) -> String {
    let rows = assignment.deltas.as_array().cloned().unwrap_or_default();
    let sum = |key: &str| -> u64 { rows.iter().filter_map(|d| d[key].as_u64()).sum() };
    if rows.is_empty() {
        "none".into()
    } else {
        format!("{} for {}", bytes(sum("size")), bytes(sum("full_size")))
    }
}

pub async fn change(
    State(web): State<Web>,
    SignedIn(who): SignedIn,
    Path((id, change)): Path<(String, String)>,
) -> Page {
    let change = rest::Change::named(&change)?;
    let deployment = rest::change_deployment(&web.rest, &who.name, &id, change).await?;
    Ok(see_other(&format!("/deployments/{}", deployment.id)))
}

// A form repeats `board` for each box, which a map would not keep.
pub async fn add(State(web): State<Web>, SignedIn(who): SignedIn, body: Bytes) -> Page {
    let pairs: Vec<(String, String)> = axum::extract::Query::try_from_uri(
        &format!("/?{}", String::from_utf8_lossy(&body))
            .parse()
            .map_err(|_| Problem::bad("the form cannot be read", "use the form on the page"))?,
    )
    .map_err(|e| Problem::bad(e.to_string(), "use the form on the page"))?
    .0;
    let release = pairs
        .iter()
        .find(|(name, _)| name == "release")
        .and_then(|(_, value)| value.parse().ok())
        .ok_or_else(|| Problem::bad("no release is named", "choose one in the form"))?;
    let boards = pairs
        .iter()
        .filter(|(name, _)| name == "board")
        .map(|(_, value)| BoardId::new(value))
        .collect::<Result<BTreeSet<_>, _>>()
        .map_err(|e| Problem::bad(e.to_string(), "choose boards in the form"))?;
    let order = Order {
        release,
        boards,
        expires_in: EXPIRES_IN,
        site: Default::default(),
        actor: who.name,
    };
    let ordered = rest::deploy(&web.rest, order).await?;
    Ok(see_other(&format!("/deployments/{}", ordered.id)))
}
