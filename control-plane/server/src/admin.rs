//! The admin side: `/ready` for orchestrators, `/metrics` for Prometheus, `/status` for operators.

pub mod report;

use crate::ads::Nodes;
use crate::metrics::Metrics;
use crate::model::Mesh;
use crate::secrets::Secrets;
use crate::source::Health;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use kilocard_policy::config::MeshState;
use kilocard_xds::snapshot::Snapshot;
use std::sync::Arc;
use tokio::sync::watch;

/// What the admin side looks at; it changes nothing.
#[derive(Clone)]
pub struct Views {
    /// How the source is doing.
    pub health: Health,
    /// The mesh.
    pub mesh: watch::Receiver<Option<Arc<Mesh>>>,
    /// What is served.
    pub snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    /// What it tells the filters of the versions.
    pub state: watch::Receiver<Arc<MeshState>>,
    /// Secrets from the folder.
    pub secrets: watch::Receiver<Arc<Secrets>>,
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
        .with_state(views)
}

/// Ready once proxies can be served: etcd was listed and a snapshot built. An outage of etcd later on does not unmake it,
/// since the last good state is served on.
async fn ready(State(views): State<Views>) -> Response {
    let etcd = if views.health.is_connected() {
        "connected"
    } else {
        "not reachable now"
    };
    if views.snapshot.borrow().is_some() {
        (StatusCode::OK, format!("ready (etcd: {etcd})\n")).into_response()
    } else {
        let text = format!("not ready: the first listing of etcd is missing (etcd: {etcd})\n");
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
    };
    Json(report::report(&mesh, &views.health, given, views.nodes.report())).into_response()
}
