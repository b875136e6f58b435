//! A worker's record in etcd, written anew as a worker does, for what stands in for one in a test or a bench.

use super::etcd::Etcd;
use anyhow::Result;
use etcd_client::Client;
use kilocard_registry::layout::{Key, Layout};
use kilocard_registry::worker::{ServedModel, Telemetry, WorkerRecord};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often it is written.
pub const EVERY: Duration = Duration::from_millis(250);

/// A record that is kept new; it is no longer when this is dropped.
pub struct Record {
    key: String,
    etcd: Client,
    task: JoinHandle<Result<()>>,
}

/// What stands in for a worker.
#[derive(Clone, Debug)]
pub struct StandIn {
    /// Its id.
    pub id: String,
    /// Where it serves.
    pub address: SocketAddr,
    /// The model of which it serves one version.
    pub model: String,
    /// The version.
    pub version: String,
}

impl Record {
    /// Writes it, with what `memory` says of its simulated card each time: all of it, and what is free, bytes.
    ///
    /// # Errors
    /// If etcd cannot be reached.
    pub async fn keep(etcd: &Etcd, worker: StandIn, memory: impl Fn() -> (u64, u64) + Send + 'static) -> Result<Self> {
        let key = Layout::default().key(&Key::Worker(worker.id.clone()));
        let etcd = etcd.client().await?;
        let (to, mut client) = (key.clone(), etcd.clone());
        let task = tokio::spawn(async move {
            for sequence in 1.. {
                let record = worker.record(sequence, memory());
                client.put(to.clone(), serde_json::to_vec(&record)?, None).await?;
                tokio::time::sleep(EVERY).await;
            }
            Ok(())
        });
        Ok(Self { key, etcd, task })
    }

    /// Takes it away.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub async fn withdraw(mut self) -> Result<()> {
        self.task.abort();
        self.etcd.delete(self.key.clone(), None).await?;
        Ok(())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl StandIn {
    fn record(&self, sequence: u64, (total, free): (u64, u64)) -> WorkerRecord {
        WorkerRecord {
            id: self.id.clone(),
            address: self.address.to_string(),
            node: "simulated".to_owned(),
            models: vec![ServedModel {
                model: self.model.clone(),
                version: self.version.clone(),
            }],
            telemetry: Some(Telemetry {
                simulated: true,
                memory_total_bytes: total,
                memory_free_bytes: free,
                sequence,
                ..Telemetry::default()
            }),
            ..WorkerRecord::default()
        }
    }
}
