//! Whether the worker takes requests: one state, from which its gRPC health service, its readiness and its load report speak.
//!
//! It does not while it drains, nor while an engine is broken: its thread has ended, or several batches in a row have failed,
//! as after an error of the card that only a new process gets rid of. A proxy sends a broken worker nothing that could show
//! that it has recovered; so it computes a text of its own now and then.

use crate::models::{Models, Served};
use kilocard_registry::telemetry::ServingHealth;
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tonic_health::{ServingStatus, server::HealthReporter};

/// So many batches in a row are not the fault of what is in them.
const BROKEN_AFTER: u32 = 3;
/// How often the engines are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Between two texts that a broken engine is tried with, and how long it has for one.
const TRIAL: Duration = Duration::from_secs(1);
/// What it is tried with.
const TEXT: &str = "Is it well?";
/// Names in the gRPC health service: the whole server, and the service.
const NAMES: [&str; 2] = ["", "inference.GRPCInferenceService"];

/// The state.
#[derive(Debug)]
pub struct Health(watch::Sender<Condition>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Condition {
    draining: bool,
    broken: bool,
}

impl Default for Health {
    /// Takes requests.
    fn default() -> Self {
        Self(watch::Sender::new(Condition::default()))
    }
}

impl Health {
    /// What it says.
    pub fn told(&self) -> ServingHealth {
        let Condition { draining, broken } = *self.0.borrow();
        if draining || broken {
            ServingHealth::NotServing
        } else {
            ServingHealth::Serving
        }
    }

    /// Whether the worker takes requests.
    pub fn is_serving(&self) -> bool {
        self.told() == ServingHealth::Serving
    }

    /// It is about to end, and takes no more for good.
    pub fn drain(&self) {
        self.change(|condition| condition.draining = true);
    }

    /// Gives whether that is new.
    fn set_broken(&self, broken: bool) -> bool {
        self.change(|condition| condition.broken = broken)
    }

    fn change(&self, change: impl FnOnce(&mut Condition)) -> bool {
        self.0.send_if_modified(|condition| {
            let before = *condition;
            change(condition);
            *condition != before
        })
    }

    /// Has the gRPC health service say the same.
    pub async fn tell(&self, service: &HealthReporter) {
        let status = if self.is_serving() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for name in NAMES {
            service.set_service_status(name, status).await;
        }
    }

    /// Does so whenever it changes, for ever.
    pub async fn tell_on(&self, service: &HealthReporter) {
        let mut changes = self.0.subscribe();
        loop {
            self.tell(service).await;
            // The sender is this very state.
            let _ = changes.changed().await;
        }
    }

    /// Looks after the engines, for ever.
    pub async fn watch(&self, models: &Models) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tried = Instant::now();
        loop {
            look.tick().await;
            let broken: Vec<&Served> = models.iter().map(AsRef::as_ref).filter(|it| is_broken(it)).collect();
            if self.set_broken(!broken.is_empty()) {
                let versions: Vec<String> = broken.iter().map(|served| served.id.to_string()).collect();
                if broken.is_empty() {
                    tracing::info!("the engines compute again");
                } else {
                    tracing::error!(?versions, "batch after batch fails: taking no requests");
                }
            }
            if tried.elapsed() >= TRIAL {
                for served in broken {
                    try_out(served).await;
                }
                tried = Instant::now();
            }
        }
    }
}

fn is_broken(served: &Served) -> bool {
    served.embedder.has_ended() || served.embedder.failures_in_a_row() >= BROKEN_AFTER
}

/// Has it compute something; the embedder itself notes how that went.
async fn try_out(served: &Served) {
    let Ok(sequence) = served.embedder.tokenize(TEXT) else {
        return;
    };
    let deadline = std::time::Instant::now() + TRIAL;
    if let Ok(pending) = served.embedder.submit(vec![sequence], Some(deadline)) {
        // Whether it fails or is late: what counts is the batch.
        let _ = timeout(TRIAL, pending).await;
    }
}
