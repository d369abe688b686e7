//! `POST /enrol/manufacturing`: the fleet's certificate for a board that shows who made it.

use super::certificate::too_many;
use super::{BoardsApi, UNUSED, record, unsigned};
use crate::audit;
use crate::ca::BoardRequest;
use crate::clock::now;
use crate::live::Change;
use crate::problem::Problem;
use crate::rest::parse;
use crate::store::TakenIn;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use coracle_protocol::enrol::{EnrolAnswer, ManufacturingRequest};

fn forbidden(error: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, error, hint)
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
        tracing::warn!(%error, "an enrolment by a manufacturing certificate was refused");
        forbidden(
            error.to_string(),
            "the board needs the certificate and the key of its maker, and the fleet.json of this console",
        )
    })?;
    let request = BoardRequest::read(&asked.csr_pem).map_err(unsigned)?;
    if api
        .store
        .key_is_used_up(&request.key_hash(), &board)
        .await?
    {
        return Err(Problem::bad(
            "this key had a certificate before",
            "make a new key for each certificate",
        ));
    }
    let issued = api.ca.issue_board(&board, &request).map_err(unsigned)?;
    let certificate_pem = issued.pem.clone();
    let row = record(&board, issued, now, "manufacturing");
    let taken = api
        .store
        .take_in_as_made(&row, makers.unknown_too, now, UNUSED)
        .await?;
    let again = match taken {
        TakenIn::Noted { again } => again,
        TakenIn::NotNamed => {
            return Err(forbidden(
                format!("board {board} is not known here"),
                format!(
                    "`coracle-console boards add {board}` lets it in; the board asks again by itself"
                ),
            ));
        }
        TakenIn::Revoked => {
            return Err(forbidden(
                format!("board {board} was revoked"),
                "it comes back by an enrolment file: `coracle enrol FILE`",
            ));
        }
        TakenIn::TooMany => return Err(too_many()),
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
