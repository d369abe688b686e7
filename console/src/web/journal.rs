//! The audit log.

use super::layout::{self, ago};
use super::session::SignedIn;
use super::{Page, Web};
use axum::extract::State;
use axum::response::IntoResponse;
use maud::html;

pub async fn page(State(web): State<Web>, SignedIn(who): SignedIn) -> Page {
    let lines = web.rest.store.audit(200).await?;
    let body = html! {
        h1 { "Audit" }
        div #audit data-live="" {
            table {
                thead { tr { th { "When" } th { "Who" } th { "Did" } th { "To" } th { "Detail" } } }
                tbody {
                    @for line in &lines {
                        tr {
                            td data-label="When" { (ago(line.at)) }
                            td data-label="Who" { (line.actor) }
                            td data-label="Did" { (line.action) }
                            td.long data-label="To" { (line.subject) }
                            td.long data-label="Detail" { (line.detail) }
                        }
                    }
                }
            }
        }
    };
    let up = web.rest.link.is_up();
    Ok(layout::page("Audit", &who, up, &body).into_response())
}
