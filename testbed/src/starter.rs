//! The mesh that the demonstration, `up`, the tests and the benches start from: two workers of `minilm` version `v1` with
//! unlike simulated cards, one of `v2` on the CPU, and a policy that gives `v2` a share.

use crate::harness::worker::{SimulatedGpu, WorkerSpec};
use crate::harness::{Builder, Testbed};
use anyhow::{Result, anyhow};
use kilocard_policy::config::{self, Document};
use kilocard_policy::{Policy, RequestView, Verdict};
use serde_json::json;

/// First worker of `v1`, with the stronger card.
pub const V1_A: &str = "v1-a";
/// Second worker of `v1`.
pub const V1_B: &str = "v1-b";
/// The worker of `v2`.
pub const V2: &str = "v2-a";

/// Buckets of a cohort in a whole: a weight of 1 % is 100 of them.
pub const BUCKETS: u16 = 10_000;

/// The first worker of `v1`.
pub fn v1_a() -> WorkerSpec {
    WorkerSpec::minilm(V1_A, "v1").with_gpu(SimulatedGpu::h100("0000:1b:00.0"))
}

/// The second worker of `v1`.
pub fn v1_b() -> WorkerSpec {
    WorkerSpec::minilm(V1_B, "v1").with_gpu(SimulatedGpu::a100("0000:1c:00.0"))
}

/// The worker of `v2`.
pub fn v2() -> WorkerSpec {
    WorkerSpec::minilm(V2, "v2")
}

/// All three workers with `v2` at this share, not started yet.
pub fn mesh(name: &str, v2_percent: u16) -> Builder {
    Testbed::builder(name)
        .worker(v1_a())
        .worker(v1_b())
        .worker(v2())
        .policy(routing(v2_percent))
}

/// The routing policy of `minilm` with `v2` at this share.
pub fn routing(v2_percent: u16) -> String {
    let v1_percent = 100 - v2_percent;
    format!(
        "api_version: kilocard/v1
kind: RoutingPolicy
metadata: {{name: minilm}}
spec:
  model: minilm
  default: true
  salt: minilm-2026
  versions:
    - {{version: v1, weight: {v1_percent}}}
    - {{version: v2, weight: {v2_percent}}}
"
    )
}

/// The same as a document, as it stands in etcd.
///
/// # Errors
/// Never for a share of at most 100; the document is this module's own.
pub fn routing_document(v2_percent: u16) -> Result<Document> {
    let value = json!({
        "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "minilm"},
        "spec": {
            "model": "minilm", "default": true, "salt": "minilm-2026",
            "versions": [{"version": "v1", "weight": 100 - v2_percent}, {"version": "v2", "weight": v2_percent}],
        },
    });
    config::parse(&value).map_err(|violations| anyhow!("{violations:?}"))
}

/// The version that a worker of this mesh serves.
pub fn version_of(worker: &str) -> &str {
    worker.split_once('-').map_or(worker, |(version, _)| version)
}

/// Users by the bucket that the policy code itself gives them, so that a test can ask for one that must move.
#[derive(Debug)]
pub struct Cohorts {
    policy: Policy,
}

impl Cohorts {
    /// # Errors
    /// If the policy does not compile.
    pub fn new() -> Result<Self> {
        let document = routing_document(50)?;
        let policy = Policy::compile("cohorts", [&document]).map_err(|violations| anyhow!("{violations:?}"))?;
        Ok(Self { policy })
    }

    /// The bucket of a user, of [`BUCKETS`].
    ///
    /// # Errors
    /// If the policy does not place the user by its id.
    pub fn bucket(&self, user: &str) -> Result<u16> {
        let headers: [(&[u8], &[u8]); 4] = [
            (b":method", b"POST"),
            (b":path", b"/inference.GRPCInferenceService/ServerReady"),
            (b"content-type", b"application/grpc"),
            (b"x-user-id", user.as_bytes()),
        ];
        match self.policy.decide(&RequestView::new(&headers), 0).verdict {
            Verdict::Route(route) => route.bucket.ok_or_else(|| anyhow!("{user} was not placed by id")),
            other => Err(anyhow!("{user}: {other:?}")),
        }
    }

    /// The first `count` users of the series `user-0`, `user-1`, … whose bucket lies in `percent.start..percent.end`.
    ///
    /// The canary is given the lowest buckets: at 10 % a user with bucket below 1000 is on `v2`.
    ///
    /// # Errors
    /// See [`Cohorts::bucket`].
    pub fn users(&self, percent: std::ops::Range<u16>, count: usize) -> Result<Vec<String>> {
        let per_cent = BUCKETS / 100;
        let wanted = percent.start * per_cent..percent.end * per_cent;
        let mut users = Vec::with_capacity(count);
        for number in 0u32.. {
            let user = format!("user-{number}");
            if wanted.contains(&self.bucket(&user)?) {
                users.push(user);
            }
            if users.len() == count {
                break;
            }
        }
        Ok(users)
    }
}
