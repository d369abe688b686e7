//! Answers and errors. An error is `{"message": …}` with a status, as Docker's are.

use super::Body;
use crate::deployment::Outcome;
use crate::supervisor::SupervisorError;
use bytes::Bytes;
use coracle_protocol::local::Answer;
use coracle_protocol::report::Phase;
use hyper::{Response, StatusCode};
use serde::Serialize;

/// An answer.
pub type Reply = Response<Body>;

/// An error with a status.
#[derive(Debug)]
pub struct Fault {
    /// The status.
    pub status: StatusCode,
    /// A stable word, where there is one.
    pub code: Option<String>,
    /// In words.
    pub message: String,
}

impl Fault {
    /// A fault without a stable word.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            code: None,
            message: message.into(),
        }
    }
    /// 400.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
    /// As an answer.
    pub fn reply(&self) -> Reply {
        #[derive(Serialize)]
        struct Shape<'a> {
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            code: Option<&'a str>,
        }
        let shape = Shape {
            message: &self.message,
            code: self.code.as_deref(),
        };
        let mut reply = json(&shape);
        *reply.status_mut() = self.status;
        reply
    }
}

impl From<SupervisorError> for Fault {
    fn from(error: SupervisorError) -> Self {
        let status = match error {
            SupervisorError::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<Outcome> for Fault {
    fn from(outcome: Outcome) -> Self {
        let status = match (outcome.phase, outcome.code.as_deref()) {
            (_, Some("busy")) => StatusCode::CONFLICT,
            (_, Some("no-offer")) => StatusCode::NOT_FOUND,
            (_, Some("supervisor")) => StatusCode::SERVICE_UNAVAILABLE,
            (Phase::Refused | Phase::RolledBack, _) => StatusCode::FORBIDDEN,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            status,
            code: outcome.code,
            message: outcome.reason.unwrap_or_default(),
        }
    }
}

/// A supervisor's answer that is no success.
pub fn of_answer(answer: Answer) -> Fault {
    let (status, code, message) = match answer {
        Answer::Refused { code, reason } => (StatusCode::FORBIDDEN, Some(code), reason),
        Answer::Failed { code, reason } => {
            let status = match code.as_str() {
                "bad-signal" => StatusCode::BAD_REQUEST,
                "no-app" => StatusCode::NOT_FOUND,
                // As Docker has it: that one is not paused is no conflict.
                "not-running" | "paused" => StatusCode::CONFLICT,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, Some(code), reason)
        }
        other => {
            let error = crate::supervisor::unexpected("done", &other);
            (StatusCode::BAD_GATEWAY, None, error.to_string())
        }
    };
    Fault {
        status,
        code,
        message,
    }
}

/// 200 and JSON.
pub fn json<T: Serialize>(value: &T) -> Reply {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    typed("application/json", Body::whole(bytes))
}

/// 200 and a body of a type.
pub fn typed(content_type: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    let value = hyper::header::HeaderValue::from_static(content_type);
    reply
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, value);
    reply
}

/// A status and nothing else.
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::whole(Bytes::new()));
    *reply.status_mut() = status;
    reply
}
