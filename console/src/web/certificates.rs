//! A board's certificates on its page, and the form that takes them back.

use super::layout::ago;
use super::session::SignedIn;
use super::{Page, Web, see_other};
use crate::boards::day;
use crate::problem::Problem;
use crate::rest;
use crate::store::{Board, CertificateRow, Identity, Role};
use axum::extract::{Form, Path, State};
use coracle_protocol::names::BoardId;
use maud::{Markup, html};
use serde::Deserialize;

/// That a board is revoked.
pub(super) fn notice(board: &Board) -> Markup {
    html! {
        @if let Some(at) = board.revoked_at {
            p.warning role="alert" {
                "Revoked " (ago(at))
                @if let Some(why) = board.revoked_why.as_deref().filter(|why| !why.is_empty()) { ": " (why) }
                ". What runs there goes on; it comes back by a new enrolment file."
            }
        }
    }
}

/// The certificates, the newest first.
pub(super) fn table(all: &[CertificateRow]) -> Markup {
    html! {
        @if !all.is_empty() {
            h2 { "Certificates" }
            table {
                thead { tr { th { "Serial" } th { "Issued" } th { "Until" } th { "Last used" } th { "State" } } }
                tbody {
                    @for row in all {
                        tr {
                            td data-label="Serial" { code { (row.serial) } }
                            td data-label="Issued" { (ago(row.issued_at)) ", " (row.how) }
                            td data-label="Until" { (day(row.not_after)) }
                            td data-label="Last used" {
                                @match row.last_used { Some(at) => { (ago(at)) } None => { "–" } }
                            }
                            td data-label="State" { (state(row)) }
                        }
                    }
                }
            }
        }
    }
}

fn state(row: &CertificateRow) -> Markup {
    match (row.revoked_at, row.superseded_at) {
        (Some(at), _) => html! { span.bad { "revoked " (ago(at)) } },
        (None, Some(_)) => html! { "superseded" },
        (None, None) => html! { span.good { "in force" } },
    }
}

/// For admins, of a board that has something to take back.
pub(super) fn form(board: &Board, who: &Identity) -> Markup {
    let possible = board.enrolled_at.is_some() && board.revoked_at.is_none();
    html! {
        @if possible && who.role == Role::Admin {
            details.card {
                summary { "Revoke this board" }
                form.line method="post" action={ "/boards/" (board.id) "/revoke" } {
                    label for="reason" { "Reason" }
                    input #reason name="reason" maxlength=(crate::boards::REASON)
                        placeholder="stolen, sold, scrapped";
                    button type="submit" { "Take its certificates back" }
                }
                p.quiet { "Console and broker end its connections. It comes back by enrolling again." }
            }
        }
    }
}

#[derive(Deserialize)]
pub struct Reason {
    #[serde(default)]
    reason: String,
}

pub async fn revoke(
    State(web): State<Web>,
    SignedIn(who): SignedIn,
    Path(id): Path<String>,
    Form(form): Form<Reason>,
) -> Page {
    let board = BoardId::new(&id)
        .map_err(|e| Problem::bad(e.to_string(), "a board is called `tenant.name`"))?;
    rest::revoke_board(&web.rest, &who.name, &board, &form.reason).await?;
    Ok(see_other(&format!("/boards/{board}")))
}
