//! Envoy's own rate-limit protocol, `envoy.service.ratelimit.v3`, over the RateLimitPolicies in force: for meshes whose Envoys
//! have the stock filter `envoy.filters.http.ratelimit` and not ours.
//!
//! Owns: what was taken by those Envoys, and the place of this service among the proxies that share the limits of the mesh.
//! Must not know: how a limit decides (`kilocard_policy::limit`), or how limits are divided ([`crate::sync`]).
//!
//! Only the replica that divides decides: so a limit of `scope: proxy` is counted in one place, this service being one proxy,
//! and a share of one of `scope: mesh` never has to cross the network. One lock guards it all, for some ten microseconds.

mod answer;
mod ask;
mod ledger;
mod member;
mod store;

use crate::metrics::Metrics;
use crate::model::{Mesh, Policies};
use crate::sync::Channel;
use ask::Ask;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use kilocard_policy::Policy;
use ledger::Ledger;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code as GrpcCode, Request, Response, Status};

/// The domain whose descriptors are ours.
pub const DOMAIN: &str = "kilocard";
/// Most descriptors of a request. Envoy makes one of each `rate_limits` of a route.
const MAX_DESCRIPTORS: usize = 64;

/// The service. Clones share what is counted.
#[derive(Clone)]
pub struct RateLimits {
    channel: Channel,
    mesh: watch::Receiver<Option<Arc<Mesh>>>,
    ledger: Arc<Mutex<Ledger>>,
    origin: Instant,
    joined: Arc<Notify>,
    metrics: Metrics,
}

impl RateLimits {
    /// A service that decides while the channel divides. Policies come in where [`run`](Self::run) runs.
    pub fn new(channel: Channel, mesh: watch::Receiver<Option<Arc<Mesh>>>, metrics: Metrics) -> Self {
        Self {
            channel,
            mesh,
            ledger: Arc::new(Mutex::new(Ledger::new(fastrand::u64(..)))),
            origin: Instant::now(),
            joined: Arc::default(),
            metrics,
        }
    }

    /// For a tonic router.
    pub fn server(&self) -> RateLimitServiceServer<Self> {
        RateLimitServiceServer::new(self.clone())
    }

    /// Puts policies in force as they change, and reports to the authority, until cancelled or the source is gone.
    pub async fn run(self, cancel: CancellationToken) {
        let mut mesh = self.mesh.clone();
        let running = async {
            let mut enacted = None;
            loop {
                let newest = mesh.borrow_and_update().clone();
                if let Some(newest) = newest {
                    self.enact(&newest.policies, &mut enacted);
                }
                let due = self.report();
                let waiting = async {
                    match due {
                        Some(due) => tokio::time::sleep_until((self.origin + due).into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    changed = mesh.changed() => if changed.is_err() { return },
                    () = waiting => {}
                    () = self.joined.notified() => {}
                }
            }
        };
        let _ = cancel.run_until_cancelled(running).await;
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compiles policies if they are others than those in force.
    fn enact(&self, policies: &Arc<Policies>, enacted: &mut Option<Arc<Policies>>) {
        if enacted.as_ref().is_some_and(|before| Arc::ptr_eq(before, policies)) {
            return;
        }
        let documents = policies.values().map(|policy| policy.document.as_ref());
        match Policy::compile("", documents) {
            Ok(policy) => self.ledger().enact(policy),
            Err(violations) => tracing::warn!(
                ?violations,
                "policies in force cannot be compiled for Envoy's rate limits"
            ),
        }
        *enacted = Some(Arc::clone(policies));
    }

    /// Reports if that is due; when the next one is, since the origin.
    fn report(&self) -> Option<Duration> {
        let mut ledger = self.ledger();
        let (due, term) = ledger.due()?;
        if due <= self.origin.elapsed() {
            self.exchange(&mut ledger, term);
        }
        ledger.due().map(|(due, _)| due)
    }

    /// One report to the authority and its answer. Where this replica no longer divides, the place in the division is gone.
    fn exchange(&self, ledger: &mut Ledger, term: i64) {
        let sent = self.origin.elapsed();
        let Some(report) = ledger.report(sent) else { return };
        let granted = self.channel.exchange(term, &report);
        let received = self.origin.elapsed();
        match granted {
            Ok(_) if report.leaving => ledger.leave(received),
            Ok(granted) => ledger.answered(Some(granted), (sent, received)),
            Err(status) if matches!(status.code(), GrpcCode::Unavailable | GrpcCode::Aborted) => ledger.leave(received),
            Err(status) => {
                tracing::warn!(%status, "the rate-limit service has no share of the limits of the mesh");
                ledger.answered(None, (sent, received));
            }
        }
    }

    /// Decides about a request.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it says too little or too much, `UNAVAILABLE` if another replica decides, or no policies are
    /// known yet.
    pub fn answer(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, Status> {
        let count = request.descriptors.len();
        if request.domain.is_empty() {
            return Err(Status::invalid_argument("the domain is empty; ours is \"kilocard\""));
        }
        if count == 0 || count > MAX_DESCRIPTORS {
            return Err(Status::invalid_argument(format!(
                "there are {count} descriptors; there must be 1 to {MAX_DESCRIPTORS}"
            )));
        }
        if request.domain != DOMAIN {
            return Ok(answer::unlimited(count));
        }
        let revision = self.channel.revision()?;
        let Some(policy) = self.ledger().policy() else {
            return Err(Status::unavailable("no policies are known here yet; try again"));
        };
        let descriptors = request.descriptors.iter();
        let asks: Vec<_> = descriptors
            .map(|descriptor| Ask::of(descriptor, request.hits_addend, &policy))
            .collect();
        let mut ledger = self.ledger();
        if ledger::is_shared(&policy, &asks) {
            let before = ledger.due();
            ledger.join(revision, self.origin.elapsed());
            if before.is_none_or(|(_, term)| term != revision) {
                self.exchange(&mut ledger, revision);
                self.joined.notify_one();
            }
        }
        let ruling = ledger.decide(&policy, &asks, self.origin.elapsed());
        drop(ledger);
        for policy in &ruling.met {
            self.metrics.rls.refuse(policy);
        }
        Ok(answer::response(ruling))
    }
}

/// How a request ended, for the metrics.
fn outcome(domain: &str, answered: &Result<RateLimitResponse, Status>) -> &'static str {
    match answered {
        Ok(_) if domain != DOMAIN => "unknown_domain",
        Ok(response) if response.overall_code == i32::from(Code::OverLimit) => "over_limit",
        Ok(_) => "ok",
        Err(status) if status.code() == GrpcCode::Unavailable => "unavailable",
        Err(_) => "invalid",
    }
}

#[tonic::async_trait]
impl RateLimitService for RateLimits {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let request = request.into_inner();
        let answered = self.answer(&request);
        self.metrics.rls.count(outcome(&request.domain, &answered));
        answered.map(Response::new)
    }
}

#[cfg(test)]
mod tests;
