//! The admin endpoint: `/ready` and `/metrics`.

use crate::{health::Health, metrics::Metrics, models::Models};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use std::sync::Arc;

/// What the pages show.
#[derive(Clone, Debug)]
pub struct Admin {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is served.
    pub models: Arc<Models>,
    /// Whether it is.
    pub health: Arc<Health>,
}

/// The pages.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

/// 200 while this worker takes requests, 503 while it does not.
async fn ready(State(admin): State<Admin>) -> Response {
    let ready = admin.health.is_serving();
    let body = json!({
        "ready": ready,
        "registered": admin.metrics.is_registered(),
        "models": admin.models.iter().map(|served| served.id.to_string()).collect::<Vec<_>>(),
    });
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(body)).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match admin.metrics.render(&admin.models) {
        Ok(page) => ([(header::CONTENT_TYPE, FORMAT)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
