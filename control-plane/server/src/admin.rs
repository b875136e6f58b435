//! The admin side: `/ready` for orchestrators, `/metrics` for Prometheus, `/status` for operators, and `POST /hold/release`
//! for one who knows that the workers that are held will not come back.

pub mod report;
pub mod source;

use crate::ads::Nodes;
use crate::election::Outcome;
use crate::metrics::Metrics;
use crate::model::Mesh;
use crate::secrets::Secrets;
use crate::snapshot::editions::Editions;
use crate::source::Health;
use crate::source::intake::Intake;
use crate::weights::SharedWeights;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use kilocard_policy::config::MeshState;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;

/// What the admin side looks at.
#[derive(Clone)]
pub struct Views {
    /// How the source is doing.
    pub health: Health,
    /// Whom the source holds; the only thing here that can be changed.
    pub intake: Intake,
    /// This replica's name among the others.
    pub replica: String,
    /// Who leads.
    pub election: watch::Receiver<Outcome>,
    /// The mesh.
    pub mesh: watch::Receiver<Option<Arc<Mesh>>>,
    /// What is served.
    pub snapshot: watch::Receiver<Option<Arc<Editions>>>,
    /// What it tells the filters of the versions.
    pub state: watch::Receiver<Arc<MeshState>>,
    /// Secrets from the folder.
    pub secrets: watch::Receiver<Arc<Secrets>>,
    /// What endpoints weigh and why.
    pub weights: SharedWeights,
    /// Connected proxies.
    pub nodes: Nodes,
    /// Counters.
    pub metrics: Metrics,
}

/// The routes.
pub fn router(views: Views) -> Router {
    Router::new()
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/hold/release", post(release))
        .with_state(views)
}

/// Ready once proxies can be served: etcd was listed and a snapshot built. An outage of etcd later on does not unmake it,
/// since the last good state is served on.
async fn ready(State(views): State<Views>) -> Response {
    let source = if views.health.is_connected() {
        "connected"
    } else {
        "not reachable now"
    };
    if views.snapshot.borrow().is_some() {
        (StatusCode::OK, format!("ready (source: {source})\n")).into_response()
    } else {
        let text = format!("not ready: nothing was read from etcd or --source-dir yet (source: {source})\n");
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

async fn metrics(State(views): State<Views>) -> Response {
    match views.metrics.render(&views.health, &views.nodes) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Lets go of all workers that are held, on this replica.
async fn release(State(views): State<Views>) -> Response {
    let released = views.intake.release();
    tracing::warn!(released, "an operator let go of the workers that were held");
    Json(serde_json::json!({ "released": released })).into_response()
}

async fn status(State(views): State<Views>) -> Response {
    let mesh = views.mesh.borrow().clone().unwrap_or_default();
    let snapshot_version = views
        .snapshot
        .borrow()
        .as_deref()
        .map(|s| s.version().to_string())
        .unwrap_or_default();
    let given = report::Given {
        snapshot_version,
        state: views.state.borrow().clone(),
        secrets: views.secrets.borrow().clone(),
        weights: views.weights.clone(),
    };
    let mut report = report::report(&mesh, &views.health, &given, views.nodes.report());
    report.control_plane.source = source::source(&views.intake.standing(), SystemTime::now());
    report.control_plane.election = source::election(&views.replica, &views.election.borrow());
    Json(report).into_response()
}
