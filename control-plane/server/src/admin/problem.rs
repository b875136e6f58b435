//! What the admin API answers when it cannot do what it was asked.

use axum::Json;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// An error, for programs by its code, for people by what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// What is wrong.
    pub error: Details,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Details {
    /// Stable: `not_ready`, `not_found`, `wrong_method`, `internal`.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// A problem.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            error: Details {
                code: code.to_owned(),
                message: message.into(),
            },
        }
    }

    /// As an answer.
    pub fn answer(self, status: StatusCode) -> Response {
        (status, Json(self)).into_response()
    }
}

/// For paths that there are not.
pub(super) async fn not_found(uri: Uri) -> Response {
    let message = format!("there is no {}; GET /openapi.json lists what there is", uri.path());
    Problem::new("not_found", message).answer(StatusCode::NOT_FOUND)
}

/// For methods that a path does not take.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!(
        "{} does not take {method}; GET /openapi.json says what it takes",
        uri.path()
    );
    Problem::new("wrong_method", message).answer(StatusCode::METHOD_NOT_ALLOWED)
}
