//! The load: lanes that each ask over a connection of their own, one request after the other, and count what fails.

use super::plan::STABLE;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Between two requests of a lane, at least.
const PACE: Duration = Duration::from_millis(2);
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many failures are kept with their reason.
const KEPT: usize = 20;
/// gRPC's frame of an empty message.
const EMPTY: &[u8] = &[0, 0, 0, 0, 0];

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// After the load began.
    pub at: Duration,
    /// What was asked for.
    pub model: &'static str,
    /// What came instead of an answer.
    pub why: String,
}

/// What the lanes saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) failures: Vec<Failure>,
}

/// A running load; it ends when dropped.
#[derive(Debug)]
pub(super) struct Lanes {
    tasks: JoinSet<()>,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
}

impl Lanes {
    pub(super) async fn start(gateway: SocketAddr, lanes: usize) -> Result<Self> {
        let mut load = Self {
            tasks: JoinSet::new(),
            seen: Arc::default(),
            stop: Arc::default(),
        };
        let begun = Instant::now();
        for lane in 0..lanes {
            let connection = connect(gateway).await?;
            let (seen, stop) = (load.seen.clone(), load.stop.clone());
            load.tasks.spawn(async move {
                drive((gateway, connection), lane, begun, &seen, &stop).await;
            });
        }
        Ok(load)
    }

    /// Lets what is under way finish.
    pub(super) async fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One request on a connection of its own.
pub(super) async fn ask_once(gateway: SocketAddr, model: &str) -> Result<()> {
    let mut connection = connect(gateway).await?;
    ask(&mut connection, gateway, model, 0).await
}

async fn drive(
    (gateway, mut connection): (SocketAddr, SendRequest<Bytes>),
    lane: usize,
    begun: Instant,
    seen: &Mutex<Seen>,
    stop: &AtomicBool,
) {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let models = STABLE.into_iter().cycle().skip(lane);
    for (number, model) in models.enumerate() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        pace.tick().await;
        let answer = tokio::time::timeout(PATIENCE, ask(&mut connection, gateway, model, number));
        let answer = answer
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {PATIENCE:?}")));
        let failure = answer.err().map(|error| Failure {
            at: begun.elapsed(),
            model,
            why: format!("{error:#}"),
        });
        if failure.is_some() {
            // The connection may be what broke.
            if let Ok(fresh) = connect(gateway).await {
                connection = fresh;
            }
        }
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.requests += 1;
        seen.failed += u64::from(failure.is_some());
        if seen.failures.len() < KEPT {
            seen.failures.extend(failure);
        }
    }
}

async fn connect(gateway: SocketAddr) -> Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(gateway)
        .await
        .with_context(|| format!("connect to {gateway}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Succeeds if a worker answered with OK.
async fn ask(connection: &mut SendRequest<Bytes>, gateway: SocketAddr, model: &str, user: usize) -> Result<()> {
    let request = Request::builder()
        .method("POST")
        .uri(format!("http://{gateway}/inference.GRPCInferenceService/ServerReady"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-model", model)
        .header("x-user-id", format!("user-{user}"))
        .body(())?;
    let mut ready = connection.clone().ready().await?;
    let (response, mut body) = ready.send_request(request, false)?;
    // A refusal on the headers resets the stream before the body is sent.
    let _ = body.send_data(Bytes::from_static(EMPTY), true);
    let response = response.await?;
    let (http_status, headers) = (response.status(), response.headers().clone());
    let mut body = response.into_body();
    while let Some(chunk) = body.data().await {
        let length = chunk?.len();
        body.flow_control().release_capacity(length)?;
    }
    let trailers = body.trailers().await?.unwrap_or_else(|| headers.clone());
    let text = |name: &str| {
        trailers
            .get(name)
            .or_else(|| headers.get(name))
            .map(|value| value.to_str())
    };
    let (status, message) = (text("grpc-status"), text("grpc-message"));
    ensure!(
        http_status.is_success() && matches!(status, Some(Ok("0"))),
        "HTTP {http_status}, grpc-status {status:?}, {message:?}"
    );
    ensure!(headers.contains_key("x-upstream"), "answered by nobody");
    Ok(())
}
