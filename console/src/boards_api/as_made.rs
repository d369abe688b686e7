//! `POST /enrol/manufacturing`: the fleet's certificate for a board that shows who made it.

use super::{BoardsApi, issue, of_a_new_key, record};
use crate::audit;
use crate::clock::now;
use crate::live::Change;
use crate::problem::Problem;
use crate::rest::parse;
use crate::store::{Expected, TakenIn};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use coracle_protocol::enrol::{EnrolAnswer, ManufacturingRequest};
use coracle_protocol::names::BoardId;

/// Enrolments of a board in a day.
const LATELY: u32 = 16;

fn forbidden(error: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, error, hint)
}

fn refuse(board: &BoardId, expected: Expected) -> Result<(), Problem> {
    match expected {
        Expected::Yes => Ok(()),
        Expected::NotNamed => Err(forbidden(
            format!("board {board} is not expected here"),
            format!(
                "`coracle-console boards add {board}` lets it in; the board asks again by itself"
            ),
        )),
        Expected::Revoked => Err(forbidden(
            format!(
                "board {board} was revoked once, and whoever had its key may have this one too"
            ),
            format!(
                "an enrolment file lets it in, or `coracle-console boards add --again {board}`"
            ),
        )),
    }
}

pub(super) async fn enrol(
    State(api): State<BoardsApi>,
    body: Bytes,
) -> Result<Json<EnrolAnswer>, Problem> {
    let makers = api.makers.as_ref().ok_or_else(|| {
        forbidden(
            "this console takes no manufacturing certificates",
            "start it with --manufacturing-ca, or enrol the board with an enrolment file",
        )
    })?;
    let asked: ManufacturingRequest = parse(&body)?;
    let now = now();
    let board = makers.board(&asked, now).map_err(|error| {
        // Whoever reaches the port can have it said: no line of the log for each.
        tracing::debug!(%error, "an enrolment by a manufacturing certificate was refused");
        forbidden(
            error.to_string(),
            "the board needs the certificate and the key of its maker, and the fleet.json of this console",
        )
    })?;
    refuse(&board, api.store.expects(&board, makers.unknown_too).await?)?;
    let request = of_a_new_key(&api, &asked.csr_pem, &board).await?;
    let issued = issue(&api, &board, request).await?;
    let certificate_pem = issued.pem.clone();
    let row = record(&board, issued, now, "manufacturing");
    let forget = now.saturating_sub(api.policy.grace.as_secs());
    let taken = api
        .store
        .take_in_as_made(&row, makers.unknown_too, now, forget, LATELY)
        .await?;
    let again = match taken {
        TakenIn::Noted { again } => again,
        TakenIn::Refused(expected) => {
            refuse(&board, expected)?;
            false
        }
        TakenIn::TooMany => {
            return Err(Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!("{LATELY} enrolments of this board in a day"),
                "the board does not keep what it gets, or another machine has its manufacturing key; it may ask again tomorrow",
            ));
        }
    };
    api.revocations.changed();
    let detail = format!(
        "certificate {}, by its manufacturing certificate{}",
        row.serial,
        if again {
            ", not for the first time"
        } else {
            ""
        }
    );
    let name = board.as_str();
    audit::note(&api.store, name, "board.enrol", name, &detail).await;
    api.live.tell(Change::Board(board.clone()));
    Ok(Json(EnrolAnswer {
        board,
        certificate_pem,
    }))
}
