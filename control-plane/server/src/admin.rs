//! The admin side: `/ready` for orchestrators, `/metrics` for Prometheus, `/status` and `/devices` for operators,
//! `/openapi.json` for programs, and `POST /hold/release` for one who knows that the workers that are held will not come back.

pub mod devices;
pub mod openapi;
pub mod problem;
pub mod report;
pub mod source;

use crate::ads::Nodes;
use crate::election::Outcome;
use crate::metrics::Metrics;
use crate::model::Mesh;
use crate::scaling::Pools;
use crate::secrets::Secrets;
use crate::snapshot::editions::Editions;
use crate::source::Health;
use crate::source::intake::Intake;
use crate::sync::Channel;
use crate::weights::SharedWeights;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use kilocard_policy::config::MeshState;
use kilocard_registry::device_report::DevicesReport;
use kilocard_registry::report::MeshReport;
use problem::Problem;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
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
    /// How many replicas there shall be.
    pub pools: watch::Receiver<Option<Arc<Pools>>>,
    /// Who divides the limits of the mesh.
    pub channel: Channel,
    /// Connected proxies.
    pub nodes: Nodes,
    /// Counters.
    pub metrics: Metrics,
}

/// Content type of the metrics.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The routes.
pub fn router(views: Views) -> Router {
    Router::new()
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/devices", get(devices))
        .route("/openapi.json", get(async || Json(openapi::document())))
        .route("/hold/release", post(release))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::wrong_method)
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
        let message = format!(
            "nothing was read from the source yet ({source}); ready once it was: see the log, and --etcd or --source-dir"
        );
        Problem::new("not_ready", message).answer(StatusCode::SERVICE_UNAVAILABLE)
    }
}

async fn metrics(State(views): State<Views>) -> Response {
    let pools = views.pools.borrow().clone().unwrap_or_default();
    match views.metrics.render(&views.health, &views.nodes, &pools) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => Problem::new(
            "internal",
            format!("the metrics cannot be written: {error}; please report it"),
        )
        .answer(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// What `POST /hold/release` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Released {
    /// How many workers were held until then.
    pub released: usize,
}

/// Lets go of all workers that are held, on this replica.
async fn release(State(views): State<Views>) -> Json<Released> {
    let released = views.intake.release();
    tracing::warn!(released, "an operator let go of the workers that were held");
    Json(Released { released })
}

async fn status(State(views): State<Views>) -> Json<MeshReport> {
    Json(report_of(&views))
}

async fn devices(State(views): State<Views>) -> Json<DevicesReport> {
    let mesh = views.mesh.borrow().clone().unwrap_or_default();
    Json(devices::devices(&mesh, &report_of(&views).clusters))
}

fn report_of(views: &Views) -> MeshReport {
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
        pools: views.pools.borrow().clone().unwrap_or_default(),
        limits: views.channel.standing(&mesh),
    };
    let mut report = report::report(&mesh, &views.health, &given, views.nodes.report(), Instant::now());
    report.control_plane.source = source::source(&views.intake.standing(), SystemTime::now());
    report.control_plane.election = source::election(&views.replica, &views.election.borrow());
    report
}
