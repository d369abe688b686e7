//! What a board was commanded, on its page, and what it said of it. Nothing is sent from here.

use super::layout::ago;
use crate::rest::command_state;
use crate::store::{CommandRow, Outcome, Store, StoreError};
use coracle_protocol::names::BoardId;
use maud::{Markup, html};

/// Characters of an answer that the page shows, the last ones; REST gives all of it.
const SHOWN: usize = 2000;

/// Those that are kept of a board, the newest first.
pub(super) async fn of(
    store: &Store,
    board: &BoardId,
) -> Result<Vec<(CommandRow, Option<Outcome>)>, StoreError> {
    let mut all = Vec::new();
    for row in store.commands(board).await? {
        let outcome = store.command_outcome(&row.id).await?;
        all.push((row, outcome));
    }
    Ok(all)
}

/// As a table.
pub(super) fn table(all: &[(CommandRow, Option<Outcome>)]) -> Markup {
    html! {
        @if !all.is_empty() {
            h2 { "Commands" }
            table {
                thead { tr { th { "Command" } th { "Sent" } th { "State" } th { "Answer" } } }
                tbody {
                    @for (row, outcome) in all {
                        tr {
                            td data-label="Command" { (row.action) }
                            td data-label="Sent" { (ago(row.created_at)) ", " (row.created_by) }
                            td data-label="State" { (state(row, outcome.as_ref())) }
                            td data-label="Answer" {
                                @match outcome {
                                    Some(outcome) if !outcome.text.is_empty() => {
                                        details { summary { "show" } pre { (end_of(&outcome.text)) } }
                                    }
                                    _ => { "–" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn state(row: &CommandRow, outcome: Option<&Outcome>) -> Markup {
    let word = command_state(row, outcome);
    let code = outcome.and_then(|outcome| outcome.code.as_deref());
    match word {
        "failed" => html! { span.bad { (word) } @if let Some(code) = code { ", " (code) } },
        "done" => html! { span.good { (word) } },
        _ => html! { (word) },
    }
}

fn end_of(text: &str) -> &str {
    match text.char_indices().rev().nth(SHOWN - 1) {
        Some((at, _)) => &text[at..],
        None => text,
    }
}
