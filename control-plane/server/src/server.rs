//! The process: its parts, started together and ended in order.

use crate::admin::{self, Views};
use crate::ads::authorise::AllowNodes;
use crate::ads::{Ads, Drain};
use crate::config::{Config, SourceConfig};
use crate::election::{Election, Outcome};
use crate::metrics::Metrics;
use crate::model::Mesh;
use crate::publish::{self, Inlets, Outlets};
use crate::rls::RateLimits;
use crate::saved::Origin;
use crate::saved::folder::Folder;
use crate::saved::saver;
use crate::scaling::keda::Keda;
use crate::scaling::{self, Pools};
use crate::secrets::Watcher;
use crate::source::Health;
use crate::source::etcd::EtcdSource;
use crate::source::folder::FolderSource;
use crate::source::intake::Intake;
use crate::status::writer::StatusWriter;
use crate::status::{self, Book};
use crate::sync::{Channel, Office};
use crate::weights::SharedWeights;
use kilocard_quota::Settings;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::TcpIncoming;

/// Time for what is under way to end once all streams have; what is left then is cut.
const OVERDUE: Duration = Duration::from_secs(5);
/// A proxy that vanished without closing its connection is dropped after these two.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the process cannot run, or ran into the ground.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address is taken, or not ours.
    #[error("cannot listen on {address} ({flag}): {source}")]
    Listen {
        /// Which flag it came from.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The addresses cannot be handed on.
    #[error("cannot write the endpoints file {path}: {source}")]
    EndpointsFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The gRPC server failed.
    #[error("the xDS server failed: {0}")]
    Xds(#[from] tonic::transport::Error),
    /// The HTTP server failed.
    #[error("the admin server failed: {0}")]
    Admin(std::io::Error),
}

/// The addresses that were bound, as written to `--endpoints-file`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Endpoints {
    /// ADS, the filters' channel, Envoy's rate-limit protocol, and KEDA's external scaler.
    pub xds: SocketAddr,
    /// `/ready`, `/metrics`, `/status`.
    pub admin: SocketAddr,
}

/// Runs until `stop` is cancelled, then drains. etcd need not be there.
///
/// # Errors
/// [`ServeError`] if an address cannot be bound or a server fails.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), ServeError> {
    let args = config.args.clone();
    let (xds, xds_address) = listen("--xds-listen", args.xds_listen).await?;
    let (http, admin_address) = listen("--admin-listen", args.admin_listen).await?;

    let (health, metrics, tasks) = (Health::default(), Metrics::default(), TaskTracker::new());
    let (intake, feeds) = Intake::new(config.layout.clone(), origin(&config), args.hold_for(), health.clone());
    let (snapshots, snapshot) = watch::channel(None);
    let weights = SharedWeights::default();
    let (states, state) = watch::channel(Arc::default());
    let outlets = Outlets {
        snapshots,
        state: states,
        weights: weights.clone(),
    };
    let drain = Drain::within(Duration::from_secs(args.drain_seconds));
    let mut ads = Ads::new(snapshot.clone(), stop.clone())
        .drained_by(drain)
        .paced(args.new_streams_per_second);
    if !args.allow_nodes.is_empty() {
        ads = ads.authorised_by(Arc::new(AllowNodes(args.allow_nodes)));
    }
    let (watcher, first) = Watcher::open(args.secrets);
    let (secrets_out, secrets) = watch::channel(Arc::new(first));
    tasks.spawn(watcher.run(secrets_out, stop.clone()));
    let inlets = Inlets {
        mesh: feeds.mesh.clone(),
        secrets: secrets.clone(),
    };
    if let Some(dir) = &config.state_dir {
        let folder = Folder::new(dir);
        load_saved(&folder, &origin(&config), &intake);
        tasks.spawn(saver::run(folder, intake.clone(), health.clone(), stop.clone()));
    }
    tasks.spawn(intake.clone().run_clock(stop.clone()));
    let election = start_source(&config, &intake, &health, feeds.book, (&tasks, &stop));
    tasks.spawn(publish::run(
        inlets,
        config.build,
        outlets,
        metrics.clone(),
        stop.clone(),
    ));
    let division = (&config.source, config.args.division());
    let (channel, limits) = start_limits(division, &election, &feeds.mesh, &metrics, (&tasks, &stop));
    let pools = start_scaling(&feeds.mesh, &weights, (&tasks, &stop));
    tasks.close();

    let views = Views {
        health,
        intake,
        replica: config.replica.clone(),
        election,
        mesh: feeds.mesh,
        snapshot,
        state,
        secrets,
        weights,
        pools: pools.clone(),
        channel: channel.clone(),
        nodes: ads.nodes(),
        metrics,
    };
    // The builder's own `tcp_nodelay` does not reach sockets that it did not bind itself; without it a push waits some
    // 40 ms for the ACK of the one before.
    let incoming = TcpIncoming::from(xds).with_nodelay(Some(true));
    let grpc = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .add_routes(
            ads.routes()
                .add_service(channel.server())
                .add_service(limits.server())
                .add_service(Keda::new(pools, stop.clone()).into_service()),
        )
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let admin = axum::serve(http, admin::router(views)).with_graceful_shutdown(stop.clone().cancelled_owned());
    let admin = async { admin.await.map_err(ServeError::Admin) };
    let grpc = async { grpc.await.map_err(ServeError::Xds) };

    let endpoints = Endpoints {
        xds: xds_address,
        admin: admin_address,
    };
    if let Some(path) = &args.endpoints_file {
        write_endpoints(path, &endpoints)?;
    }
    tracing::info!(xds = %xds_address, admin = %admin_address, "listening");
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(drain.window() + OVERDUE).await;
    };
    tokio::select! {
        served = async { tokio::try_join!(grpc, admin) } => {
            served?;
            tasks.wait().await;
        }
        () = overdue => tracing::warn!("streams are still open: ending anyway"),
    }
    Ok(())
}

/// The source, as far as it has to be told from others.
fn origin(config: &Config) -> Origin {
    match &config.source {
        SourceConfig::Etcd => Origin::Etcd {
            endpoints: config.args.etcd.without_credentials(),
            prefix: config.args.etcd.prefix.clone(),
            cluster: 0,
        },
        SourceConfig::Folder { root, .. } => Origin::Folder {
            path: root.display().to_string(),
        },
    }
}

/// Starts the source, and what writes verdicts back to it; gives the election of who does that. A folder has none: each
/// replica writes for itself.
fn start_source(
    config: &Config,
    intake: &Intake,
    health: &Health,
    book: watch::Receiver<Book>,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> watch::Receiver<Outcome> {
    let (layout, intake, health) = (config.layout.clone(), intake.clone(), health.clone());
    let (election, outcome) = Election::new(
        config.args.etcd.clone(),
        layout.election(),
        config.replica.clone(),
        Duration::from_secs(config.args.election_ttl_s.into()),
        health.clone(),
    );
    let standing = outcome.clone();
    match &config.source {
        SourceConfig::Etcd => {
            let etcd = config.args.etcd.clone();
            let writer = StatusWriter::new(etcd.clone(), layout.clone(), health.clone(), outcome);
            tasks.spawn(writer.run(book, stop.clone()));
            tasks.spawn(election.run(stop.clone()));
            tasks.spawn(EtcdSource::new(etcd, layout, intake, health).run(stop.clone()));
        }
        SourceConfig::Folder { root, statuses } => {
            if let Some(dir) = statuses {
                tasks.spawn(status::folder::run(dir.clone(), book, health.clone(), stop.clone()));
            }
            tasks.spawn(FolderSource::new(root.clone(), layout, intake, health).run(stop.clone()));
        }
    }
    standing
}

/// Starts what decides how many replicas there shall be.
fn start_scaling(
    mesh: &watch::Receiver<Option<Arc<Mesh>>>,
    weights: &SharedWeights,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> watch::Receiver<Option<Arc<Pools>>> {
    let (told, pools) = watch::channel(None);
    tasks.spawn(scaling::run(mesh.clone(), weights.clone(), told, stop.clone()));
    pools
}

/// Starts what divides limits, and what serves Envoy's own rate-limit filter.
fn start_limits(
    (source, settings): (&SourceConfig, Settings),
    election: &watch::Receiver<Outcome>,
    mesh: &watch::Receiver<Option<Arc<Mesh>>>,
    metrics: &Metrics,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> (Channel, RateLimits) {
    let office = match source {
        SourceConfig::Etcd => Office::Elected(election.clone()),
        SourceConfig::Folder { .. } => Office::Sole,
    };
    let channel = Channel::new(office, settings, mesh.clone(), metrics.clone());
    tasks.spawn(channel.clone().run(stop.clone()));
    let limits = RateLimits::new(channel.clone(), mesh.clone(), metrics.clone());
    tasks.spawn(limits.clone().run(stop.clone()));
    (channel, limits)
}

/// Tells the source's intake what an earlier process left.
fn load_saved(folder: &Folder, origin: &Origin, intake: &Intake) {
    let (state, passed) = folder.load(origin);
    for file in passed {
        let path = file.path.display();
        tracing::warn!(%path, "a file of the last good state is passed over: it {}", file.reason);
    }
    if let Some(state) = state {
        intake.offer(state);
    }
}

async fn listen(flag: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { flag, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Whoever waits for the file never sees half of it: it is written beside and renamed.
fn write_endpoints(path: &Path, endpoints: &Endpoints) -> Result<(), ServeError> {
    let failed = |source| ServeError::EndpointsFile {
        path: path.to_owned(),
        source,
    };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let json = serde_json::to_vec(endpoints).map_err(|error| failed(error.into()))?;
    std::fs::write(&beside, json).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}
