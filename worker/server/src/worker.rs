//! A running worker: started whole or not at all, and drained in the order that loses no request.
//!
//! Draining: first it leaves etcd and says NOT_SERVING, so that proxies stop choosing it; then it serves on for a while,
//! since they learn of it late; then it takes nothing new and finishes what is in flight.

use crate::{
    admin::{self, Admin},
    config::{Config, Gpu, RegistrationConfig},
    endpoints::{self, Endpoints},
    health::Health,
    load_report::{CardSource, Reporter, Sources},
    metrics::Metrics,
    models::{LoadOptions, Models, ModelsError},
    rdma::{self, Ports},
    registration::{Records, Registration},
    service::InferenceService,
};
use kilocard_engine::repository::Repository;
use kilocard_proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use kilocard_registry::{
    keepalive,
    layout::{DeviceId, InvalidPrefix},
    worker::WorkerRecord,
};
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::server::HealthReporter;

/// The largest request. Far above any batch of texts that makes sense, far below what would hurt.
const MAX_REQUEST_BYTES: usize = 16 << 20;
/// Requests that one connection may have open: what is more waits with the client, and not here with its body decoded.
/// A proxy opens further connections when it needs more.
const MAX_STREAMS: u32 = 256;
/// The largest header list of a request. Validation lets 32 KiB through unless told otherwise and Envoy up to 192 KiB;
/// hyper's own 16 KiB would answer those with a bare 431, and end the whole connection over the largest.
const MAX_HEADER_BYTES: u32 = 256 << 10;
/// Streams that the peer reset before they were looked at. The peer is a proxy that multiplexes all its clients over one
/// connection and guards itself against rapid resets: with the default of 20, one client that cancels a burst of requests
/// would have the connection closed under all others.
const MAX_RESETS: usize = 10_000;
/// How long etcd has to let this worker go; it must not hold up the end, and the lease runs out by itself.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a worker did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Nothing can be served.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The endpoints file cannot be written.
    #[error("cannot write the endpoints file {path}: {source}")]
    EndpointsFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The prefix is wrong.
    #[error(transparent)]
    Prefix(#[from] InvalidPrefix),
    /// A server ended by itself.
    #[error("serving ended: {0}")]
    Server(String),
}

/// What is listened on.
struct Sockets {
    grpc: (TcpListener, SocketAddr),
    admin: (TcpListener, SocketAddr),
}

/// A worker that serves.
#[derive(Debug)]
pub struct Worker {
    endpoints: Endpoints,
    health: Arc<Health>,
    teller: HealthReporter,
    registration: Option<Registration>,
    draining: CancellationToken,
    stop: CancellationToken,
    grpc: JoinHandle<Result<(), tonic::transport::Error>>,
    admin: JoinHandle<io::Result<()>>,
    drain_delay: Duration,
    drain_timeout: Duration,
}

impl Worker {
    /// Loads the models, binds the addresses, serves, and registers, in this order.
    ///
    /// # Errors
    /// [`WorkerError`]; nothing is left running.
    pub async fn start(config: Config) -> Result<Self, WorkerError> {
        // Bound before the models are loaded: a port that is taken is known at once.
        let sockets = Sockets {
            grpc: listen(config.listen).await?,
            admin: listen(config.admin_listen).await?,
        };
        let metrics = Arc::new(Metrics::default());
        let models = Arc::new(load(&config, metrics.clone()).await?);
        Self::serve(config, sockets, models, metrics).await
    }

    async fn serve(
        config: Config,
        sockets: Sockets,
        models: Arc<Models>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, WorkerError> {
        let ((grpc, grpc_address), (admin, admin_address)) = (sockets.grpc, sockets.admin);
        let endpoints = Endpoints {
            grpc: grpc_address,
            admin: admin_address,
        };
        let (draining, stop) = (CancellationToken::new(), CancellationToken::new());
        let health = Arc::new(Health::default());
        let (teller, health_service) = tonic_health::server::health_reporter();
        health.tell(&teller).await;
        let service = InferenceService::new(
            models.clone(),
            metrics.clone(),
            health.clone(),
            stop.clone(),
            &config.id,
        );
        let service = GrpcInferenceServiceServer::new(service).max_decoding_message_size(MAX_REQUEST_BYTES);
        let server = Server::builder()
            // A client that vanished without closing is noticed within these two together …
            .http2_keepalive_interval(Some(keepalive::INTERVAL))
            .http2_keepalive_timeout(Some(keepalive::TIMEOUT))
            .max_concurrent_streams(Some(MAX_STREAMS))
            .http2_max_header_list_size(Some(MAX_HEADER_BYTES))
            .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
            .add_service(health_service)
            .add_service(service);
        let incoming = TcpIncoming::from(grpc)
            .with_nodelay(Some(true))
            // … and one of which not even the machine is left, by the kernel.
            .with_keepalive(Some(keepalive::INTERVAL))
            .with_keepalive_interval(Some(keepalive::TIMEOUT))
            .with_keepalive_retries(Some(keepalive::PROBES));
        let grpc = tokio::spawn(server.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()));
        let pages = Admin {
            metrics: metrics.clone(),
            models: models.clone(),
            health: health.clone(),
        };
        let admin_stop = stop.clone().cancelled_owned();
        let admin = tokio::spawn(async {
            axum::serve(admin, admin::router(pages))
                .with_graceful_shutdown(admin_stop)
                .await
        });

        look_after(&health, teller.clone(), models.clone(), &stop);
        let mut worker = Self {
            endpoints,
            health,
            teller,
            registration: None,
            draining,
            stop,
            grpc,
            admin,
            drain_delay: config.drain_delay,
            drain_timeout: config.drain_timeout,
        };
        if let Some(registration) = config.registration {
            worker.registration = Some(register(
                registration,
                config.id,
                grpc_address,
                (models, metrics, worker.health.clone()),
                &worker.draining,
            )?);
        }
        if let Some(path) = config.endpoints_file {
            endpoints::write(&path, &endpoints).map_err(|source| WorkerError::EndpointsFile { path, source })?;
        }
        Ok(worker)
    }

    /// Where it listens.
    pub fn endpoints(&self) -> Endpoints {
        self.endpoints
    }

    /// Waits for a server to end by itself, which it should not.
    pub async fn failure(&mut self) -> WorkerError {
        let (server, how) = tokio::select! {
            ended = &mut self.grpc => ("gRPC", format!("{ended:?}")),
            ended = &mut self.admin => ("admin", format!("{ended:?}")),
        };
        WorkerError::Server(format!("{server}: {how}"))
    }

    /// Ends it without losing a request.
    pub async fn drain(mut self) {
        tracing::info!(delay = ?self.drain_delay, "draining");
        self.health.drain();
        self.health.tell(&self.teller).await;
        self.draining.cancel();
        let leave = async {
            if let Some(registration) = self.registration.take() {
                registration.leave().await;
            }
        };
        retire(leave, LEAVE_TIMEOUT, self.drain_delay).await;
        self.stop.cancel();
        if timeout(self.drain_timeout, &mut self.grpc).await.is_err() {
            tracing::warn!(after = ?self.drain_timeout, "requests were still in flight; ending them");
        }
        tracing::info!("drained");
    }
}

impl Drop for Worker {
    /// Nothing runs on by itself, however the worker ended.
    fn drop(&mut self) {
        self.draining.cancel();
        self.stop.cancel();
        self.grpc.abort();
        self.admin.abort();
    }
}

/// Leaves, and then waits for those who are still to learn of it: what passes before the record is gone teaches nobody.
async fn retire(leave: impl Future<Output = ()>, patience: Duration, delay: Duration) {
    if timeout(patience, leave).await.is_err() {
        tracing::warn!(after = ?patience, "etcd did not answer; the lease runs out by itself");
    }
    tokio::time::sleep(delay).await;
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), WorkerError> {
    let error = |source| WorkerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let bound = listener.local_addr().map_err(error)?;
    Ok((listener, bound))
}

async fn load(config: &Config, metrics: Arc<Metrics>) -> Result<Models, WorkerError> {
    let repository = Repository::new(&config.repository);
    let wanted = config.models.clone();
    let options = LoadOptions {
        device: config.device,
        max_queue: config.max_queue,
        max_batch_tokens: config.max_batch_tokens,
    };
    let loading = tokio::task::spawn_blocking(move || {
        Models::load(&repository, &wanted, options, |id| {
            let (metrics, id) = (metrics.clone(), id.clone());
            Arc::new(move |report| metrics.batch(&id, report))
        })
    });
    Ok(loading
        .await
        .map_err(|error| WorkerError::Server(format!("loading panicked: {error}")))??)
}

/// Keeps the state of the engines in view, and the gRPC health service in step with it, until the worker ends.
fn look_after(health: &Arc<Health>, teller: HealthReporter, models: Arc<Models>, ended: &CancellationToken) {
    let (of_engines, told) = (health.clone(), health.clone());
    tokio::spawn(ended.clone().run_until_cancelled_owned(async move {
        tokio::join!(of_engines.watch(&models), told.tell_on(&teller));
    }));
}

/// Registers, and keeps the load report in the record up to date.
fn register(
    config: RegistrationConfig,
    id: String,
    bound: SocketAddr,
    served: (Arc<Models>, Arc<Metrics>, Arc<Health>),
    ended: &CancellationToken,
) -> Result<Registration, WorkerError> {
    let layout = config.etcd.layout()?;
    let (models, metrics, health) = served;
    let pci = config.gpu.as_ref().map(|gpu| gpu.pci().to_owned());
    let simulated_profile = match &config.gpu {
        Some(Gpu::Simulated(_, gpu)) => gpu.mig_profile.clone(),
        Some(Gpu::Real(_)) | None => None,
    };
    let card = CardSource::open(config.gpu);
    let device = pci.clone().zip(card.device().cloned()).map(|(pci, device)| {
        let node = config.node.clone();
        (DeviceId { node, pci }, device)
    });
    let model_records = models.served();
    let sources = Sources {
        metrics: metrics.clone(),
        models,
        health,
        card,
        ports: Ports::watch(Path::new(rdma::ROOT)),
    };
    let mut reporter = Reporter::new(sources, config.report_interval);
    let worker = WorkerRecord {
        id,
        address: config.advertise.unwrap_or(bound).to_string(),
        node: config.node.clone(),
        device: pci,
        mig_profile: simulated_profile.or(config.mig_profile),
        zone: config.zone,
        rack: config.rack,
        models: model_records,
        telemetry: Some(reporter.first()),
        draining: false,
    };
    let (sender, receiver) = watch::channel(Records { worker, device });
    tokio::spawn(ended.clone().run_until_cancelled_owned(reporter.run(sender)));
    Ok(Registration::start(
        config.etcd,
        layout,
        config.lease_ttl,
        receiver,
        metrics,
    ))
}

#[cfg(test)]
mod tests;
