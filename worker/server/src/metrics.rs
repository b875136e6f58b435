//! Prometheus metrics, `kilocard_worker_*`.

use crate::{meter::Meter, models::Models};
use kilocard_engine::{embedder::BatchReport, repository::VersionId};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{fmt, time::Duration};

/// A version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabels {
    model: String,
    version: String,
}

/// A version and how a request to it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    model: String,
    version: String,
    status: &'static str,
}

/// What the worker counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    shadow_requests: Family<VersionLabels, Counter>,
    request_seconds: Family<VersionLabels, Histogram>,
    batch_rows: Family<VersionLabels, Histogram>,
    inference_seconds: Family<VersionLabels, Histogram>,
    tokens: Family<VersionLabels, Counter>,
    padded_tokens: Family<VersionLabels, Counter>,
    queue_depth: Family<VersionLabels, Gauge>,
    registered: Gauge,
    meter: Meter,
}

/// 1 ms to 16 s, doubling.
fn seconds() -> Histogram {
    Histogram::new((0..15).map(|power| 0.001 * f64::from(1 << power)))
}

/// 1 to 512, doubling.
fn rows() -> Histogram {
    Histogram::new((0..10).map(|power| f64::from(1 << power)))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("kilocard_worker"),
            requests: Family::default(),
            shadow_requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            batch_rows: Family::new_with_constructor(rows),
            inference_seconds: Family::new_with_constructor(seconds),
            tokens: Family::default(),
            padded_tokens: Family::default(),
            queue_depth: Family::default(),
            registered: Gauge::default(),
            meter: Meter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "requests",
            "Inference requests by gRPC status",
            metrics.requests.clone(),
        );
        registry.register(
            "shadow_requests",
            "Those among the requests that are copies of requests to another version",
            metrics.shadow_requests.clone(),
        );
        registry.register_with_unit(
            "request",
            "Time from a request's arrival to its answer",
            Unit::Seconds,
            metrics.request_seconds.clone(),
        );
        registry.register("batch_rows", "Texts computed together", metrics.batch_rows.clone());
        registry.register_with_unit(
            "inference",
            "Time that the backend took for a batch",
            Unit::Seconds,
            metrics.inference_seconds.clone(),
        );
        registry.register("tokens", "Tokens computed, padding left out", metrics.tokens.clone());
        registry.register(
            "padded_tokens",
            "Tokens computed, padding included",
            metrics.padded_tokens.clone(),
        );
        registry.register(
            "queue_depth",
            "Texts that wait to be computed",
            metrics.queue_depth.clone(),
        );
        registry.register(
            "registered",
            "Whether this worker is in etcd under a live lease",
            metrics.registered.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// A request ended. `id` is `None` when it named nothing that is served: what callers make up must not become labels.
    pub fn request(&self, id: Option<&VersionId>, status: tonic::Code, took: Duration) {
        self.meter.ended(status);
        let labels = id.map_or_else(VersionLabels::unknown, VersionLabels::of);
        self.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        let VersionLabels { model, version } = labels;
        self.requests
            .get_or_create(&RequestLabels {
                model,
                version,
                status: code_name(status),
            })
            .inc();
    }

    /// The request that ended was a copy. `id` as for [`Metrics::request`].
    pub fn shadow_request(&self, id: Option<&VersionId>) {
        let labels = id.map_or_else(VersionLabels::unknown, VersionLabels::of);
        self.shadow_requests.get_or_create(&labels).inc();
    }

    /// What the load report is made of.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// A batch ended.
    pub fn batch(&self, id: &VersionId, report: &BatchReport) {
        self.meter.computed(report.tokens, report.compute);
        let labels = VersionLabels::of(id);
        self.batch_rows.get_or_create(&labels).observe(report.rows as f64);
        self.inference_seconds
            .get_or_create(&labels)
            .observe(report.compute.as_secs_f64());
        self.tokens.get_or_create(&labels).inc_by(report.tokens as u64);
        self.padded_tokens
            .get_or_create(&labels)
            .inc_by(report.padded_tokens as u64);
    }

    /// Whether the worker is in etcd.
    pub fn set_registered(&self, registered: bool) {
        self.registered.set(registered.into());
    }

    /// Whether the worker is in etcd.
    pub fn is_registered(&self) -> bool {
        self.registered.get() == 1
    }

    /// In the OpenMetrics text format.
    ///
    /// # Errors
    /// A metric cannot be written.
    pub fn render(&self, models: &Models) -> Result<String, fmt::Error> {
        for served in models.iter() {
            let depth = i64::try_from(served.embedder.queue_depth()).unwrap_or(i64::MAX);
            self.queue_depth
                .get_or_create(&VersionLabels::of(&served.id))
                .set(depth);
        }
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

impl VersionLabels {
    fn of(id: &VersionId) -> Self {
        Self {
            model: id.model.to_string(),
            version: id.version.to_string(),
        }
    }

    fn unknown() -> Self {
        Self {
            model: "unknown".to_owned(),
            version: "unknown".to_owned(),
        }
    }
}

/// The code as the gRPC specification spells it.
fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
