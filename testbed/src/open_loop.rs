//! HTTP/2 load: an open loop for what is measured, a closed loop for what only has to be many.
//!
//! The open loop follows a schedule that is fixed before it starts: request `i` is due `i / rate` seconds after the start,
//! whatever has become of those before. A slow server therefore meets the same load as a fast one, and its delay shows as
//! latency (counted from when a request was due) instead of as fewer requests. How late the generator itself was is recorded
//! too: where that is not small, the machine had no room for the generator and the run says little.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use http::{HeaderMap, HeaderValue, Method, Request};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;

/// What is asked: a gRPC call without a message.
#[derive(Clone, Debug)]
pub struct Ask {
    path: &'static str,
    headers: HeaderMap,
}

impl Ask {
    /// A call of this method with these headers.
    pub fn new(path: &'static str, headers: &[(&'static str, &'static str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        Self {
            path,
            headers: headers.collect(),
        }
    }

    /// The same with one header more, or another value of one.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When the request was due.
    pub due: Instant,
    /// When it was handed to HTTP/2.
    pub sent: Instant,
    /// When the answer was there.
    pub answered: Instant,
    /// The `grpc-status`, or what stood in its place.
    pub status: String,
}

/// A load with a fixed schedule.
#[derive(Clone, Copy, Debug)]
pub struct OpenLoop {
    /// How many requests.
    pub requests: u32,
    /// Requests a second.
    pub rate: u32,
    /// Over how many connections they go in turn.
    pub connections: u32,
}

/// What the generator saw, in microseconds.
#[derive(Clone, Debug)]
pub struct Seen {
    /// From when a request was due until its answer was there, by what that was: the `grpc-status`, or what stood in its
    /// place.
    pub latency: BTreeMap<String, Histogram<u64>>,
    /// From when a request was due until it was handed to HTTP/2.
    pub lateness: Histogram<u64>,
}

impl Seen {
    fn record(&mut self, answer: Answer) -> Result<()> {
        self.lateness.record(micros(answer.sent - answer.due))?;
        let of_status = self.latency.entry(answer.status).or_insert(Histogram::new(3)?);
        of_status.record(micros(answer.answered - answer.due))?;
        Ok(())
    }

    /// The latency of a run in which every answer was this one.
    ///
    /// # Errors
    /// If there was another one.
    pub fn all(mut self, status: &str) -> Result<(Histogram<u64>, Histogram<u64>)> {
        let latency = self.latency.remove(status);
        ensure!(self.latency.is_empty(), "refused with {}", self.describe());
        Ok((latency.context("no request was answered")?, self.lateness))
    }

    fn describe(&self) -> String {
        let answers = self.latency.iter();
        let answers: Vec<_> = answers
            .map(|(status, latency)| format!("grpc-status {status} ({} times)", latency.len()))
            .collect();
        answers.join(", ")
    }
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
    /// Sends them all and waits for the answers, whatever they are. The generator has threads of its own: one that
    /// sleeps until the next request is due, and one that does all the rest.
    ///
    /// # Errors
    /// If it cannot connect.
    pub async fn run(self, address: SocketAddr, ask: &Ask) -> Result<Seen> {
        let mut seen = Seen {
            latency: BTreeMap::new(),
            lateness: Histogram::new(3)?,
        };
        for answer in self.answers(address, std::slice::from_ref(ask)).await? {
            seen.record(answer)?;
        }
        Ok(seen)
    }

    /// The same, taking turns with what is asked; every answer, in the order in which they came.
    ///
    /// # Errors
    /// If it cannot connect.
    pub async fn answers(self, address: SocketAddr, asks: &[Ask]) -> Result<Vec<Answer>> {
        let asks: Vec<_> = asks.iter().cloned().map(Arc::new).collect();
        let run = move || -> Result<Vec<Answer>> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(self.send(address, &asks))
        };
        tokio::task::spawn_blocking(run).await?
    }

    async fn send(self, address: SocketAddr, asks: &[Arc<Ask>]) -> Result<Vec<Answer>> {
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
        let answers = self.serve((address, asks), &senders, due).await;
        // When the generator itself failed, the pacer notices at the next request that nobody listens.
        pacer.await?;
        answers
    }

    async fn serve(
        self,
        (address, asks): (SocketAddr, &[Arc<Ask>]),
        senders: &[SendRequest<Bytes>],
        mut due: UnboundedReceiver<Instant>,
    ) -> Result<Vec<Answer>> {
        let mut answers = Vec::new();
        let (tell, mut told) = mpsc::unbounded_channel();
        let (mut senders, mut asks) = (senders.iter().cycle(), asks.iter().cycle());
        let mut scheduled = true;
        while answers.len() < self.requests as usize {
            tokio::select! {
                due = due.recv(), if scheduled => match due {
                    Some(due) => {
                        let sender = senders.next().context("no connection")?.clone();
                        let (tell, ask) = (tell.clone(), asks.next().context("nothing to ask")?.clone());
                        tokio::spawn(async move {
                            let sent = Instant::now();
                            let status = exchange(sender, address, &ask).await;
                            let status = status.unwrap_or_else(|failure| format!("none: {failure:#}"));
                            // Nobody listens any more if the generator itself has failed.
                            let _ = tell.send(Answer { due, sent, answered: Instant::now(), status });
                        });
                    }
                    None => scheduled = false,
                },
                answer = told.recv() => answers.push(answer.context("an answer is missing")?),
            }
        }
        Ok(answers)
    }
}

/// Sends `requests` as fast as the answers come, `streams` at a time on each of the connections; every one must be
/// answered with this `grpc-status`.
///
/// # Errors
/// If a request breaks, or is answered otherwise.
pub async fn saturate(
    address: SocketAddr,
    (ask, status): (&Ask, &'static str),
    requests: u32,
    (connections, streams): (u32, u32),
) -> Result<()> {
    let ask = Arc::new(ask.clone());
    let left = Arc::new(AtomicU32::new(requests));
    let mut lanes = JoinSet::new();
    for _ in 0..connections {
        let sender = connect(address).await?;
        for _ in 0..streams {
            lanes.spawn(drive(sender.clone(), address, (ask.clone(), status), left.clone()));
        }
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(())
}

async fn drive(
    sender: SendRequest<Bytes>,
    address: SocketAddr,
    (ask, status): (Arc<Ask>, &'static str),
    left: Arc<AtomicU32>,
) -> Result<()> {
    let take = |left: u32| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        let answer = exchange(sender.clone(), address, &ask).await?;
        ensure!(answer == status, "refused with grpc-status {answer}");
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

/// One request, with a handle of its own: another one's place in the queue never makes it wait. Gives its `grpc-status`, in
/// headers or trailers.
async fn exchange(sender: SendRequest<Bytes>, address: SocketAddr, ask: &Ask) -> Result<String> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}{}", ask.path))
        .body(())?;
    request.headers_mut().clone_from(&ask.headers);
    let (response, _) = sender.ready().await?.send_request(request, true)?;
    let response = response.await.context("a request of the bench")?;
    if let Some(status) = grpc_status(response.headers()) {
        return Ok(status);
    }
    let code = response.status();
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    let trailers = body.trailers().await?;
    let status = trailers.as_ref().and_then(grpc_status);
    Ok(status.unwrap_or_else(|| format!("none: HTTP {code}")))
}

fn grpc_status(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("grpc-status")?.to_str().ok()?.to_owned())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
