//! The ways of limiting that are compared, each with a model of its own.

use crate::open_loop::Ask;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use super::worker::{BLOCK_BYTES, BLOCK_TOKENS, OUTPUT, PROMPT};

/// The one version of every model.
pub(super) const VERSION: &str = "v1";
/// Requests that differ; then they begin again.
const ASKS: usize = 997;

/// A way of limiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Variant {
    /// None.
    None,
    /// Queries a second.
    Queries,
    /// GPU memory.
    Memory,
    /// Both.
    Joint,
    /// Both, at 0.8 of the capacity without bursts: the latency to compare with.
    Below,
    /// None, and so much memory that nothing is ever lost: the goodput to compare with.
    Ample,
}

impl Variant {
    pub(super) const ALL: [Self; 6] = [
        Self::None,
        Self::Queries,
        Self::Memory,
        Self::Joint,
        Self::Below,
        Self::Ample,
    ];

    /// For the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "no limit",
            Self::Queries => "queries only",
            Self::Memory => "memory only",
            Self::Joint => "joint",
            Self::Below => "joint, at 0.8 load",
            Self::Ample => "no limit, ample memory",
        }
    }

    pub(super) fn model(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Queries => "queries",
            Self::Memory => "memory",
            Self::Joint => "joint",
            Self::Below => "below",
            Self::Ample => "ample",
        }
    }

    fn limits_queries(self) -> bool {
        matches!(self, Self::Queries | Self::Joint | Self::Below)
    }

    fn limits_memory(self) -> bool {
        matches!(self, Self::Memory | Self::Joint | Self::Below)
    }

    /// Requests with heavy-tailed prompts and answers, the same in every run. Clients allow far more output than they get, as
    /// they do.
    pub(super) fn asks(self) -> Vec<Ask> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut drawn = |mean: f64| {
            // Lognormal with sigma 0.6 (Box and Muller).
            let normal = (-2.0 * random.f64().max(1e-12).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos();
            (mean * (0.6 * normal - 0.18).exp()).clamp(1.0, 400.0) as u32
        };
        let ask = |_| {
            let (prompt, output) = (drawn(96.0), drawn(64.0));
            let fixed = [
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("x-model", self.model()),
                ("x-max-tokens", "512"),
            ];
            Ask::new("/kilocard.inference.v1.InferenceService/Generate", &fixed)
                .with("x-prompt-tokens", prompt.into())
                .with(PROMPT, prompt.into())
                .with(OUTPUT, output.into())
        };
        (0..ASKS).map(ask).collect()
    }
}

/// The policies: a model for each way, and its limits.
pub(super) fn documents(capacity: u32, percentile: u32) -> Vec<Value> {
    let document = |kind: &str, name: &str, spec: Value| json!({"api_version": "kilocard/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let mut documents = Vec::new();
    for variant in Variant::ALL {
        let model = variant.model();
        let routing = json!({"model": model, "versions": [{"version": VERSION, "weight": 100}]});
        documents.push(document("RoutingPolicy", model, routing));
        if variant.limits_queries() {
            let limit = json!({"unit": "requests", "rate": capacity, "burst": capacity / 4});
            documents.push(document(
                "RateLimitPolicy",
                model,
                json!({"match": {"models": [model]}, "limits": [limit]}),
            ));
        }
        if variant.limits_memory() {
            let memory = json!({
                "bytes_per_request": BLOCK_BYTES, "bytes_per_token": BLOCK_BYTES / BLOCK_TOKENS, "watermark_percent": 5,
                "output_percentile": percentile,
            });
            let tokens = json!({"default_output": 128});
            documents.push(document(
                "AdmissionPolicy",
                model,
                json!({"model": model, "tokens": tokens, "memory": memory}),
            ));
        }
    }
    documents
}
