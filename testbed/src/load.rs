//! A closed-loop load: lanes that each send one real inference after the other, and remember every one.

use crate::client::Client;
use crate::poll::{self, DEADLINE};
use anyhow::{Result, ensure};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::task::JoinSet;

/// One request of the load.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was sent.
    pub started: Instant,
    /// When its answer was there.
    pub finished: Instant,
    /// The worker that served it, or what the client was told.
    pub outcome: Result<String, String>,
}

impl Sample {
    /// Whether it failed.
    pub fn failed(&self) -> bool {
        self.outcome.is_err()
    }
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    lanes: JoinSet<()>,
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Starts `lanes` connections, each with one request under way at any time, with this metadata.
    ///
    /// # Errors
    /// If a lane cannot connect.
    pub async fn start(gateway: SocketAddr, lanes: usize, metadata: &[(&str, &str)]) -> Result<Self> {
        let metadata: Arc<Vec<(String, String)>> = Arc::new(
            metadata
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        );
        let mut load = Self {
            lanes: JoinSet::new(),
            samples: Arc::default(),
            stop: Arc::new(AtomicBool::new(false)),
        };
        for _ in 0..lanes {
            let client = Client::connect(gateway).await?;
            load.lanes
                .spawn(drive(client, metadata.clone(), load.samples.clone(), load.stop.clone()));
        }
        Ok(load)
    }

    /// Everything so far.
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `count` requests that were sent after `since` have been served.
    ///
    /// # Errors
    /// After the deadline.
    pub async fn await_served(&self, count: usize, since: Instant) -> Result<()> {
        poll::until("the load to be served", DEADLINE, async || {
            let samples = self.samples();
            let served = samples
                .iter()
                .filter(|sample| sample.started >= since && !sample.failed())
                .count();
            let failure = samples.iter().rev().find_map(|sample| sample.outcome.as_ref().err());
            ensure!(served >= count, "{served} of {count} served; last failure: {failure:?}");
            Ok(())
        })
        .await
    }

    /// Lets what is under way finish, and gives everything.
    pub async fn stop(mut self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        while self.lanes.join_next().await.is_some() {}
        self.samples()
    }
}

async fn drive(
    client: Client,
    metadata: Arc<Vec<(String, String)>>,
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
) {
    let metadata: Vec<(&str, &str)> = metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let outcome = match client.infer(&["a short text"], &metadata).await {
            Ok(inference) => Ok(inference.worker),
            Err(status) => Err(format!("{:?}: {}", status.code(), status.message())),
        };
        let sample = Sample {
            started,
            finished: Instant::now(),
            outcome,
        };
        samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }
}
