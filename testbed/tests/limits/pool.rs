//! The real mesh before an upstream that stands in for a worker: its memory is what the held requests leave.

use anyhow::{Context, Result, ensure};
use kilocard_proto::inference::ServerReadyRequest;
use kilocard_testbed::harness::Testbed;
use kilocard_testbed::harness::record::{Record, StandIn};
use kilocard_testbed::harness::upstream::{HOLD, Upstream};
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::raw::{self, Reply};
use kilocard_testbed::starter;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::{JoinHandle, JoinSet};

pub(crate) type Headers = &'static [(&'static str, &'static [u8])];

/// What a request needs.
const MIB: u64 = 1 << 20;
/// Requests for which the card has room, by the policy's own count.
pub(crate) const ROOM: usize = 100;

pub(crate) struct Pool {
    pub(crate) testbed: Testbed,
    pub(crate) upstream: Arc<Upstream>,
    _record: Record,
}

/// Each request takes a hundredth of the card, each token as much again.
pub(crate) fn admission(wait_ms: u32) -> Value {
    let memory = json!({
        "bytes_per_request": MIB, "bytes_per_token": MIB, "watermark_percent": 0, "floor_percent": 0,
        "p1_margin_percent": 0, "p2_margin_percent": 0, "wait_ms": wait_ms,
    });
    let spec = json!({"model": "minilm", "memory": memory});
    json!({"api_version": "kilocard/v1", "kind": "AdmissionPolicy", "metadata": {"name": "minilm"}, "spec": spec})
}

impl Pool {
    pub(crate) async fn start(name: &str, wait_ms: u32) -> Result<Self> {
        let builder = Testbed::builder(name)
            .policy(starter::routing(0))
            .policy(admission(wait_ms).to_string());
        let mut testbed = builder.start().await?;
        let upstream = Arc::new(Upstream::start("arena").await?);
        let worker = StandIn {
            id: "arena".to_owned(),
            address: upstream.address(),
            model: "minilm".to_owned(),
            version: "v1".to_owned(),
        };
        let card = upstream.clone();
        let memory = move || (ROOM as u64 * MIB, ROOM.saturating_sub(card.held()) as u64 * MIB);
        let record = Record::keep(testbed.etcd(), worker, memory).await?;
        let pool = Self {
            testbed,
            upstream,
            _record: record,
        };
        pool.await_room(pool.testbed.gateway()).await?;
        Ok(pool)
    }

    /// Until a request that needs hardly any memory passes at this proxy.
    pub(crate) async fn await_room(&self, gateway: SocketAddr) -> Result<()> {
        poll::until("memory for a request", DEADLINE, async || {
            let reply = call(gateway, &[]).await?;
            ensure!(reply.grpc_status == Some(0), "{reply:?}");
            Ok(())
        })
        .await
    }

    /// Asks each of these proxies for so much at once, by requests that hold what they get, until all are either held or
    /// refused.
    pub(crate) async fn fill(&self, asks: &[(SocketAddr, usize)], headers: Headers) -> Result<Fill> {
        let before = self.upstream.held();
        let mut asked = JoinSet::new();
        let all = asks
            .iter()
            .flat_map(|(proxy, count)| std::iter::repeat_n(*proxy, *count));
        for proxy in all {
            let headers = [&[(HOLD, b"1".as_slice())], headers].concat();
            asked.spawn(async move { call(proxy, &headers).await });
        }
        let count = asked.len();
        let mut refused = 0;
        poll::until("all to be held or refused", DEADLINE, async || {
            while let Some(ended) = asked.try_join_next() {
                let reply = ended??;
                ensure!(reply.grpc_status == Some(8), "{reply:?}");
                ensure!(
                    reply.header("x-kilocard-reason") == Some("MEMORY_EXHAUSTED"),
                    "{reply:?}"
                );
                refused += 1;
            }
            let held = self.upstream.held().saturating_sub(before);
            ensure!(held + refused == count, "{held} held, {refused} refused");
            Ok(())
        })
        .await?;
        Ok(Fill {
            held: count - refused,
            asked,
        })
    }

    /// Lets all end that are held.
    pub(crate) async fn empty(&self) -> Result<()> {
        self.upstream.release_held();
        poll::until("all to have ended", DEADLINE, async || {
            ensure!(self.upstream.held() == 0, "{} are held", self.upstream.held());
            Ok(())
        })
        .await
    }
}

/// Requests that hold memory; they are given up when this is dropped.
pub(crate) struct Fill {
    /// How many.
    pub(crate) held: usize,
    asked: JoinSet<Result<Reply>>,
}

impl Fill {
    /// Waits for their answers: all served.
    pub(crate) async fn end(mut self) -> Result<()> {
        while let Some(reply) = self.asked.join_next().await {
            let reply = reply??;
            ensure!(reply.grpc_status == Some(0), "{reply:?}");
        }
        Ok(())
    }
}

/// A request that needs a hundredth of the card, and as much for each token of `x-max-tokens`.
pub(crate) async fn call(gateway: SocketAddr, headers: &[(&str, &[u8])]) -> Result<Reply> {
    let mut headers = headers.to_vec();
    if !headers.iter().any(|(name, _)| *name == "x-max-tokens") {
        headers.push(("x-max-tokens", b"0"));
    }
    raw::call(gateway, "ServerReady", &headers, &ServerReadyRequest {}).await
}

/// The same, on its way.
pub(crate) fn send(gateway: SocketAddr, headers: Headers) -> JoinHandle<Result<Reply>> {
    tokio::spawn(async move { call(gateway, headers).await.context("a request") })
}
