//! HTTP/2 load: an open loop for what is measured, a closed loop for what only has to be many.
//!
//! The open loop follows a schedule that is fixed before it starts: request `i` is due `i / rate` seconds after the start,
//! whatever has become of those before. A slow server therefore meets the same load as a fast one, and its delay shows as
//! latency (counted from when a request was due) instead of as fewer requests. How late the generator itself was is recorded
//! too: where that is not small, the machine had no room for the generator and the run says little.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use http::{Method, Request};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;

/// The headers of a request as a gRPC client of the mesh sends them: what a filter has to look at. With the pseudo-headers
/// and what Envoy adds there are fifteen.
pub(super) const HEADERS: [(&str, &str); 9] = [
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("user-agent", "grpc-rust/0.14"),
    ("grpc-timeout", "5S"),
    ("grpc-accept-encoding", "identity, gzip"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("x-model", "minilm"),
    ("x-user-id", "user-4711"),
    ("x-request-source", "bench"),
];

/// gRPC `UNKNOWN`: what Envoy makes of its own direct response to a gRPC request, hence the mark of one that no filter
/// refused.
pub(super) const PASSED: &str = "2";

/// A load with a fixed schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenLoop {
    /// How many requests.
    pub(super) requests: u32,
    /// Requests a second.
    pub(super) rate: u32,
    /// Over how many connections they go in turn.
    pub(super) connections: u32,
}

/// What the generator saw, in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// From when a request was due until its answer was there.
    pub(super) latency: Histogram<u64>,
    /// From when a request was due until it was handed to HTTP/2.
    pub(super) lateness: Histogram<u64>,
}

/// When each request is due.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    start: Instant,
    requests: u32,
    rate: u32,
}

impl Schedule {
    fn due(&self, index: u32) -> Instant {
        // Not a multiple of a rounded interval: at 3000 a second that would drift.
        self.start + Duration::from_nanos(u64::from(index) * 1_000_000_000 / u64::from(self.rate))
    }

    /// Tells of each request when it is due, until all are told or nobody listens. Blocks.
    fn follow(&self, tell: &UnboundedSender<Instant>) {
        for due in (0..self.requests).map(|index| self.due(index)) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if tell.send(due).is_err() {
                return;
            }
        }
    }
}

impl OpenLoop {
    /// Sends them all and waits for the answers; each must be a success. The generator has threads of its own: one that
    /// sleeps until the next request is due, and one that does all the rest.
    pub(super) async fn run(self, address: SocketAddr) -> Result<Seen> {
        let run = move || -> Result<Seen> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(self.send(address))
        };
        tokio::task::spawn_blocking(run).await?
    }

    async fn send(self, address: SocketAddr) -> Result<Seen> {
        ensure!(
            self.rate > 0 && self.connections > 0,
            "a load needs a rate and a connection"
        );
        let mut senders = Vec::new();
        for _ in 0..self.connections {
            senders.push(connect(address).await?);
        }
        let (tell, due) = mpsc::unbounded_channel();
        let schedule = Schedule {
            // The threads have to be up before the first is due.
            start: Instant::now() + Duration::from_millis(20),
            requests: self.requests,
            rate: self.rate,
        };
        let pacer = tokio::task::spawn_blocking(move || schedule.follow(&tell));
        let seen = self.serve(address, &senders, due).await;
        // When a request failed, the pacer notices at the next that nobody listens.
        pacer.await?;
        seen
    }

    async fn serve(
        self,
        address: SocketAddr,
        senders: &[SendRequest<Bytes>],
        mut due: UnboundedReceiver<Instant>,
    ) -> Result<Seen> {
        let (mut latency, mut lateness) = (Histogram::new(3)?, Histogram::new(3)?);
        let (tell, mut answers) = mpsc::unbounded_channel();
        let mut senders = senders.iter().cycle();
        let (mut scheduled, mut answered) = (true, 0);
        while answered < self.requests {
            tokio::select! {
                told = due.recv(), if scheduled => match told {
                    Some(due) => {
                        let sender = senders.next().context("no connection")?.clone();
                        lateness.record(micros(due.elapsed()))?;
                        let tell = tell.clone();
                        tokio::spawn(async move {
                            let outcome = exchange(sender, address).await.map(|()| due.elapsed());
                            // Nobody listens any more once a request has failed.
                            let _ = tell.send(outcome);
                        });
                    }
                    None => scheduled = false,
                },
                answer = answers.recv() => {
                    latency.record(micros(answer.context("an answer is missing")??))?;
                    answered += 1;
                }
            }
        }
        Ok(Seen { latency, lateness })
    }
}

/// Sends `requests` as fast as the answers come, `streams` at a time on each of the connections; every one must pass.
pub(super) async fn saturate(address: SocketAddr, requests: u32, connections: u32, streams: u32) -> Result<()> {
    let left = Arc::new(AtomicU32::new(requests));
    let mut lanes = JoinSet::new();
    for _ in 0..connections {
        let sender = connect(address).await?;
        for _ in 0..streams {
            lanes.spawn(drive(sender.clone(), address, left.clone()));
        }
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(())
}

async fn drive(sender: SendRequest<Bytes>, address: SocketAddr, left: Arc<AtomicU32>) -> Result<()> {
    let take = |left: u32| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        exchange(sender.clone(), address).await?;
    }
    Ok(())
}

/// A connection; it ends with the last handle on it.
async fn connect(address: SocketAddr) -> Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One request, with a handle of its own: another one's place in the queue never makes it wait.
async fn exchange(sender: SendRequest<Bytes>, address: SocketAddr) -> Result<()> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}/inference.GRPCInferenceService/ServerReady"));
    for (name, value) in HEADERS {
        request = request.header(name, value);
    }
    let (response, _) = sender.ready().await?.send_request(request.body(())?, true)?;
    let response = response.await.context("a request of the bench")?;
    let status = response.headers().get("grpc-status").map(http::HeaderValue::as_bytes);
    if response.status() != 200 || status != Some(PASSED.as_bytes()) {
        bail!("refused: {} {:?}", response.status(), response.headers());
    }
    Ok(())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
