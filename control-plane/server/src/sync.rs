//! The channel between the filters and the control plane: `kilocard.sync.v1.MeshSync`.
//!
//! Owns: who of the replicas divides the limits of the mesh, and the wire form of reports and grants. Must not know: how
//! they are divided (`kilocard_quota`), or what a limit says.
//!
//! One replica divides: the elected one, or the only one where documents come from a folder. Its authority begins with its
//! leadership and ends with it. The others refuse, and a proxy tries again elsewhere.

use crate::election::Outcome;
use crate::metrics::Metrics;
use crate::model::Mesh;
use kilocard_proto::kilocard::sync::v1::mesh_sync_server::{MeshSync, MeshSyncServer};
use kilocard_proto::kilocard::sync::v1::{self as wire, ExchangeRequest, ExchangeResponse};
use kilocard_quota::{Authority, Demand, Grant, Report, ReportError, Settings, Share};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

mod headroom;
mod standing;

use headroom::Arrivals;

/// Between the policy's name and the key in the authority's keys; no name holds it.
const SEPARATOR: char = '\n';

/// Who divides.
#[derive(Clone, Debug)]
pub enum Office {
    /// This replica: there is no other.
    Sole,
    /// This one while it is elected.
    Elected(watch::Receiver<Outcome>),
}

/// The service. Clones share the authority.
#[derive(Clone)]
pub struct Channel {
    office: Office,
    settings: Settings,
    origin: Instant,
    authority: Arc<Mutex<Option<Term>>>,
    mesh: watch::Receiver<Option<Arc<Mesh>>>,
    arrivals: Arc<Mutex<Arrivals>>,
    metrics: Metrics,
}

/// Between two looks at how the division stands: each is a walk over all that is divided.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An authority and the leadership that it belongs to.
struct Term {
    /// The revision of the leadership; 0 for the sole replica.
    revision: i64,
    authority: Authority,
    looked_at: Option<Duration>,
}

impl Channel {
    /// A service that divides while it is its office to.
    pub fn new(office: Office, settings: Settings, mesh: watch::Receiver<Option<Arc<Mesh>>>, metrics: Metrics) -> Self {
        Self {
            office,
            settings,
            origin: Instant::now(),
            authority: Arc::default(),
            mesh,
            arrivals: Arc::default(),
            metrics,
        }
    }

    /// For a tonic router.
    pub fn server(&self) -> MeshSyncServer<Self> {
        MeshSyncServer::new(self.clone())
    }

    /// Takes down when workers' reports come, until cancelled or the source is gone.
    pub async fn run(self, cancel: CancellationToken) {
        let mut mesh = self.mesh.clone();
        let noting = async {
            loop {
                if let Some(mesh) = mesh.borrow_and_update().clone() {
                    self.arrivals().note(&mesh, self.origin.elapsed());
                }
                if mesh.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = cancel.run_until_cancelled(noting).await;
    }

    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision of the leadership under which this replica may divide now.
    ///
    /// # Errors
    /// If another replica divides; which one, if that is known.
    pub(crate) fn revision(&self) -> Result<i64, Status> {
        let Office::Elected(outcome) = &self.office else {
            return Ok(0);
        };
        let outcome = outcome.borrow();
        match &outcome.ours {
            Some(leadership) => Ok(leadership.revision()),
            None => {
                let leader = outcome.leader.as_deref().unwrap_or("not known yet");
                Err(Status::unavailable(format!(
                    "another replica divides the limits of the mesh ({leader}): ask that one"
                )))
            }
        }
    }

    /// The authority of this leadership; a new one begins without knowing what an earlier one gave.
    fn term(&self, revision: i64) -> MutexGuard<'_, Option<Term>> {
        let mut term = self.authority.lock().unwrap_or_else(PoisonError::into_inner);
        if term.as_ref().is_none_or(|term| term.revision != revision) {
            let settings = Settings {
                first_sequence: micros_since_epoch(),
                ..self.settings.clone()
            };
            let authority = Authority::new(settings, self.origin.elapsed());
            *term = Some(Term {
                revision,
                authority,
                looked_at: None,
            });
            tracing::info!(revision, "this replica divides the limits of the mesh");
        }
        term
    }

    /// Answers one report, of a proxy that speaks to the authority of this leadership.
    ///
    /// # Errors
    /// If another replica divides, or this one under another leadership, or the report is malformed.
    pub(crate) fn exchange(&self, revision: i64, report: &Report) -> Result<Grant, Status> {
        if self.revision()? != revision {
            return Err(Status::aborted("this replica has been elected anew: join again"));
        }
        let now = self.origin.elapsed();
        let mut term = self.term(revision);
        let Some(Term {
            authority, looked_at, ..
        }) = term.as_mut()
        else {
            return Err(Status::internal("there is no authority"));
        };
        let granted = authority.exchange(now, report);
        if looked_at.is_none_or(|last| now.saturating_sub(last) >= LOOK_EVERY) {
            *looked_at = Some(now);
            self.metrics.quota.take_down(authority);
        }
        drop(term);
        granted.map_err(|error| refusal(&error))
    }

    /// Answers one report.
    ///
    /// # Errors
    /// If another replica divides, or the report is malformed.
    pub fn answer(&self, request: ExchangeRequest) -> Result<ExchangeResponse, Status> {
        let report = Report {
            proxy: request.proxy,
            node: request.node,
            acknowledged: request.acknowledged,
            base: share(request.base_share),
            leaving: false,
            demands: request.demands.iter().map(demand).collect(),
        };
        let grant = self.exchange(self.revision()?, &report)?;
        let mesh = self.mesh.borrow().clone();
        let now = self.origin.elapsed();
        let memory = mesh.map_or_else(Vec::new, |mesh| self.arrivals().headroom(&mesh, now));
        Ok(ExchangeResponse {
            memory,
            ..response(&grant)
        })
    }
}

/// The authority's key of a policy's key.
pub(crate) fn join(policy: &str, key: &str) -> Arc<str> {
    format!("{policy}{SEPARATOR}{key}").into()
}

/// The policy and its key.
pub(crate) fn part(key: &str) -> Option<(&str, &str)> {
    key.split_once(SEPARATOR)
}

fn demand(demand: &wire::Demand) -> Demand {
    Demand {
        key: join(&demand.policy, &demand.key),
        parts: demand.parts_per_million,
    }
}

fn share(parts_per_million: u32) -> Share {
    Share::from_parts(parts_per_million)
}

fn response(grant: &Grant) -> ExchangeResponse {
    let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    let leases = grant.leases.iter().filter_map(|lease| {
        let (policy, key) = part(&lease.key)?;
        Some(wire::Lease {
            policy: policy.to_owned(),
            key: key.to_owned(),
            share: lease.share.parts(),
        })
    });
    ExchangeResponse {
        sequence: grant.sequence,
        base_share: grant.base.parts(),
        leases: leases.collect(),
        ttl_ms: millis(grant.ttl),
        next_report_ms: millis(grant.next_report),
        memory: Vec::new(),
    }
}

fn refusal(error: &ReportError) -> Status {
    match error {
        ReportError::Proxies { .. } => Status::resource_exhausted(error.to_string()),
        ReportError::Left => Status::failed_precondition(error.to_string()),
        _ => Status::invalid_argument(error.to_string()),
    }
}

/// No authority answers a million times a second, so no two of them ever give one number.
fn micros_since_epoch() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX).max(1)
}

#[tonic::async_trait]
impl MeshSync for Channel {
    async fn exchange(&self, request: Request<ExchangeRequest>) -> Result<Response<ExchangeResponse>, Status> {
        self.answer(request.into_inner()).map(Response::new)
    }
}

#[cfg(test)]
mod tests;
