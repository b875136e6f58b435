//! The ways of pooling that are compared, each with a model of its own.

use super::worker::{WORK, Work};
use crate::open_loop::Ask;
use serde::Serialize;
use serde_json::{Value, json};

/// The one version of every model.
pub(super) const VERSION: &str = "v1";

/// Requests under way that the default pool admits, in each of the ways.
const SHARED_LIMIT: u32 = 64;
/// Requests under way that the declared pool admits: fewer than the workers' slots, so that some are always free.
const DECLARED_LIMIT: u32 = 6;

/// A way of pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Variant {
    /// One pool for all: nothing says that the burst is less urgent.
    Shared,
    /// The same, with one stream a connection, as pools of HTTP/1.1 connections have it.
    SharedOneStream,
    /// No pool is declared, and the burst says `x-priority: P2`.
    BuiltIn,
    /// A PoolPolicy takes P2.
    Declared,
}

impl Variant {
    pub(super) const ALL: [Self; 4] = [Self::Shared, Self::SharedOneStream, Self::BuiltIn, Self::Declared];

    /// For the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Shared => "one pool",
            Self::SharedOneStream => "one pool, 1 stream a connection",
            Self::BuiltIn => "P2 apart, built in",
            Self::Declared => "P2 in a declared pool",
        }
    }

    pub(super) fn model(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::SharedOneStream => "one-stream",
            Self::BuiltIn => "built-in",
            Self::Declared => "declared",
        }
    }

    /// What the names of all statistics of its clusters begin with.
    pub(super) fn stat_prefix(self) -> String {
        format!("cluster.{}_{VERSION}", self.model())
    }

    /// A request of this kind.
    pub(super) fn ask(self, work: Work) -> Ask {
        let mut headers = vec![
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "grpc-rust/0.14"),
            ("x-model", self.model()),
            (WORK, work.label()),
        ];
        if work == Work::Batch && matches!(self, Self::BuiltIn | Self::Declared) {
            headers.push(("x-priority", "P2"));
        }
        Ask::new("/inference.GRPCInferenceService/ModelInfer", &headers)
    }
}

/// The policies: a model for each way, and the pools.
pub(super) fn documents() -> Vec<Value> {
    let document = |kind: &str, name: &str, spec: Value| json!({"api_version": "kilocard/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let routing = |variant: Variant| {
        let spec = json!({"model": variant.model(), "versions": [{"version": VERSION, "weight": 100}]});
        document("RoutingPolicy", variant.model(), spec)
    };
    let limits = |most: u32| json!({"max_requests": most, "max_pending_requests": most, "max_connections": most});
    let pools = [
        document("PoolPolicy", "default", json!({"limits": limits(SHARED_LIMIT)})),
        document(
            "PoolPolicy",
            "one-stream",
            json!({
                "match": {"models": [Variant::SharedOneStream.model()]},
                "limits": limits(SHARED_LIMIT), "connections": {"max_concurrent_streams": 1},
            }),
        ),
        document(
            "PoolPolicy",
            "batch",
            json!({
                "match": {"models": [Variant::Declared.model()], "priorities": ["P2"]},
                "limits": limits(DECLARED_LIMIT),
            }),
        ),
    ];
    Variant::ALL.into_iter().map(routing).chain(pools).collect()
}
